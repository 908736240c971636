"""Nothing is lost when many write at once to a raw export."""

import os

from harness import LONG, MIB, FSX, Test, digest, fio, main, run

SIZE = (1024 if LONG else 64) * MIB

DIRECT = """
nodes {{
  node_name: "disk"
  discard: UNMAP
  raw {{ file {{ filename: "{image}" cache {{ direct: true }} }} }}
}}
exports {{ id: "disk" node: "disk" writable: true fuse {{ {fuse} }} }}
"""


class ParallelWrites(Test):

    def check_apart(self, file):
        fio(file, "apart", "--rw=randwrite", "--bs=4k", "--iodepth=32",
            "--numjobs=4", "--ioengine=libaio", "--direct=1",
            f"--size={SIZE // 4}", f"--offset_increment={SIZE // 4}",
            f"--randseed={self.seed}")

    def check_interleaved(self, file):
        """The jobs' 4k blocks stand next to each other in each 64k.

        fio may draw a block again while it is being written, and then does not
        know which of the two the disk has; serialize_overlap keeps them apart.
        """
        jobs = []
        for job in range(4):
            jobs += [f"--name=job{job}", f"--offset={job * 4096}"]
        run("fio", f"--filename={file}", "--verify=crc32c",
            "--verify_fatal=1", "--verify_state_save=0",
            "--allow_file_create=0", "--rw=randwrite", "--bs=4k", "--ba=64k",
            "--iodepth=32", "--ioengine=libaio", "--direct=1",
            "--serialize_overlap=1",
            f"--size={SIZE - 65536}", f"--io_size={SIZE // 16}",
            f"--randseed={self.seed}", *jobs)

    def check_mixed(self, file, size=SIZE):
        fio(file, "mixed", "--rw=randwrite", "--bsrange=512-128k",
            "--bs_unaligned", "--numjobs=4", "--ioengine=psync",
            f"--size={size // 4}", f"--offset_increment={size // 4}",
            f"--randseed={self.seed}")

    def test_regions_apart(self):
        image = self.raw_image("disk.img", SIZE)
        with self.mounted(image, "--format=raw") as file:
            self.check_apart(file)
            through = digest(file)
        self.assertEqual(digest(image), through)

    def test_interleaved(self):
        image = self.raw_image("disk.img", SIZE)
        with self.mounted(image, "--format=raw") as file:
            self.check_interleaved(file)

    def test_mixed_unaligned_sizes(self):
        image = self.raw_image("disk.img", SIZE)
        with self.mounted(image, "--format=raw") as file:
            self.check_mixed(file)

    def test_direct_behind(self):
        """O_DIRECT behind: the engine reads, merges and writes blocks."""
        size = SIZE // 2 + 12345  # no multiple of 512
        image = self.raw_image("disk.img", size)
        config = DIRECT.format(image=image, fuse="")
        with self.served(config) as folder:
            file = folder / "disk"
            self.check_mixed(file, size // 4096 * 4096)
            self.check_interleaved_small(file, size)
            through = digest(file)
        self.assertEqual(os.stat(image).st_size, size)
        self.assertEqual(digest(image), through)

    def check_interleaved_small(self, file, size):
        """Writers of odd ranges that share sectors, and the last bytes."""
        run(FSX, file, f"--seed={self.seed}", "--no-mmap", "--processes=8",
            f"--region={64 * 1024}", "--operations=400")
        with open(file, "r+b", buffering=0) as disk:
            disk.seek(size - 700)
            disk.write(b"\xa5" * 700)
            disk.seek(size - 700)
            self.assertEqual(disk.read(900), b"\xa5" * 700)


if __name__ == "__main__":
    main()
