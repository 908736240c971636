"""A loop device on a mount goes on where the daemon's memory is short.

Not shown here: the writer in the same group as the daemon. On a host with the
first version of memory cgroups the daemon then waits for pages that only it can
write, unless it may mark itself with PR_SET_IO_FLUSHER (CAP_SYS_RESOURCE)."""

import contextlib
import os
import pathlib
import sys

from harness import BGFS, MIB, SKIPPED, Test, digest, main, run

ROOT = pathlib.Path("/sys/fs/cgroup")


def parent_group():
    """(the group to make ours in, the name of the limit), or None."""
    if (ROOT / "memory" / "cgroup.procs").exists():
        return ROOT / "memory", "memory.limit_in_bytes"
    try:
        controllers = (ROOT / "cgroup.subtree_control").read_text().split()
    except OSError:
        return None
    return (ROOT, "memory.max") if "memory" in controllers else None


class MemoryLimit(Test):

    @contextlib.contextmanager
    def group(self, limit_bytes):
        """A group of processes with so much memory."""
        parent, limit = parent_group()
        group = parent / f"bgfs-test-{os.getpid()}"
        group.mkdir()
        try:
            (group / limit).write_text(str(limit_bytes))
            yield group
        finally:
            group.rmdir()

    def run_in(self, group, *command, **options):
        return run("sh", "-c", 'echo $$ >"$0" && exec "$@"',
                   group / "cgroup.procs", *command, **options)

    @contextlib.contextmanager
    def mounted_in(self, group, image, *options):
        """As mounted(), by a daemon in the group. What hangs is ended with the
        connection: nothing else does."""
        folder = self.path("mnt")
        folder.mkdir()
        self.run_in(group, BGFS, "mount", *options, image, folder)
        connection = os.minor(os.stat(folder).st_dev)
        try:
            yield folder / os.listdir(folder)[0]
        except BaseException:
            pathlib.Path("/sys/fs/fuse/connections", str(connection),
                         "abort").write_text("1")
            raise
        run(BGFS, "umount", folder)

    def write_through(self, image, *options):
        data = self.path("data")
        data.write_bytes(self.random.randbytes(128 * MIB))
        with self.group(24 * MIB) as group:
            with self.mounted_in(group, image, *options) as file:
                with self.loop_device(file) as device:
                    run("mkfs.ext4", "-q", device)
                    with self.file_system(device) as point:
                        run("cp", data, point / "copy", timeout=60)
                        run("sync", "-f", point)
                        self.assertEqual(digest(point / "copy"), digest(data))

    def test_raw(self):
        image = self.raw_image("disk.img", 256 * MIB)
        self.write_through(image, "--format=raw")

    def test_qcow2(self):
        image = self.path("disk.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", image, 256 * MIB)
        self.write_through(image)


if __name__ == "__main__":
    if os.geteuid() != 0 or parent_group() is None:
        print("skipped: needs root and a memory controller of cgroups")
        sys.exit(SKIPPED)
    main()
