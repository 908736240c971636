"""Many writers at once on one file, each of whom verifies what he wrote."""

from harness import FSX, fio, run


def apart(file, size, seed):
    """Four jobs, each with a region of its own."""
    fio(file, "apart", "--rw=randwrite", "--bs=4k", "--iodepth=32",
        "--numjobs=4", "--ioengine=libaio", "--direct=1",
        f"--size={size // 4}", f"--offset_increment={size // 4}",
        f"--randseed={seed}")


def interleaved(file, size, seed):
    """The jobs' 4k blocks stand next to each other in each 64k.

    fio may draw a block again while it is being written, and then does not know
    which of the two the disk has; serialize_overlap keeps them apart.
    """
    jobs = []
    for job in range(4):
        jobs += [f"--name=job{job}", f"--offset={job * 4096}"]
    run("fio", f"--filename={file}", "--verify=crc32c",
        "--verify_fatal=1", "--verify_state_save=0",
        "--allow_file_create=0", "--rw=randwrite", "--bs=4k", "--ba=64k",
        "--iodepth=32", "--ioengine=libaio", "--direct=1",
        "--serialize_overlap=1",
        f"--size={size - 65536}", f"--io_size={size // 16}",
        f"--randseed={seed}", *jobs)


def mixed(file, size, seed):
    """Unaligned writes of all sizes."""
    fio(file, "mixed", "--rw=randwrite", "--bsrange=512-128k",
        "--bs_unaligned", "--numjobs=4", "--ioengine=psync",
        f"--size={size // 4}", f"--offset_increment={size // 4}",
        f"--randseed={seed}")


def neighbours(file, seed, *options, operations=400):
    """Writers of odd ranges that share sectors."""
    run(FSX, file, f"--seed={seed}", "--no-mmap", "--processes=8",
        f"--region={64 * 1024}", f"--operations={operations}", *options)
