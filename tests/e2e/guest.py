"""A guest's file system on a disk that a loop device shows."""

import shutil

from harness import run, wait_until


def make_tree(root, random, files=200):
    root.mkdir()
    for i in range(files):
        size = random.choice([0, 100, 4096, 5000, 70000, 300000])
        (root / f"file{i}").write_bytes(random.randbytes(size))


def copy_in_parallel(source, target, copies):
    script = " & ".join(
        f"cp -r {source} {target}/copy{i}" for i in range(copies))
    run("sh", "-c", f"{script} & wait")
    for i in range(copies):
        run("diff", "-r", source, target / f"copy{i}")


def use(test, file, tree, host_bytes):
    """Makes an ext4 on the disk, fills it, and trims it: the last copy of the
    tree stays. Gives how much the host gave before and after the trim."""
    with test.loop_device(file, "--direct-io=on") as device:
        run("mkfs.ext4", "-q", "-E", "nodiscard", device)
        with test.file_system(device) as point:
            copy_in_parallel(tree, point, copies=4)
            run("sync", "-f", point)
            full = host_bytes()
            for i in range(3):
                shutil.rmtree(point / f"copy{i}")
            run("sync", "-f", point)
            run("fstrim", point)
            # An image gives space back a moment later, once it is durable that
            # nothing refers to it.
            wait_until(lambda: host_bytes() < full * 3 // 4,
                       "the image is smaller after fstrim")
            trimmed = host_bytes()
            run("diff", "-r", tree, point / "copy3")
        run("e2fsck", "-fn", device)
    return full, trimmed


def check_image(test, image, tree):
    """What the guest wrote stands in a raw image."""
    with test.loop_device(image) as device:
        run("e2fsck", "-fn", device)
        with test.file_system(device, options="ro") as point:
            run("diff", "-r", tree, point / "copy3")
