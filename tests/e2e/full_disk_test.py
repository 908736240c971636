"""A full disk: ENOSPC to that writer, nothing else harmed, goes on after."""

import errno
import os
import resource

from harness import MIB, Test, main, run


class FullDisk(Test):

    def test_enospc_and_after(self):
        point = self.path("small")
        point.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", point)
        self.addCleanup(run, "umount", point, check=False)
        image = point / "disk.img"
        with open(image, "wb") as file:
            file.truncate(32 * MIB)
        ballast = point / "ballast"
        ballast.write_bytes(bytes(6 * MIB))
        with self.mounted(image, "--format=raw") as file:
            fd = os.open(file, os.O_RDWR)
            try:
                os.pwrite(fd, b"first" * 1000, 0)
                with self.assertRaises(OSError) as raised:
                    for i in range(1, 32):
                        os.pwrite(fd, b"x" * MIB, i * MIB)
                self.assertEqual(raised.exception.errno, errno.ENOSPC)
                self.assertEqual(os.pread(fd, 5000, 0), b"first" * 1000)
                ballast.unlink()
                os.pwrite(fd, b"after" * 1000, 31 * MIB)
                os.fsync(fd)
                self.assertEqual(os.pread(fd, 5000, 31 * MIB), b"after" * 1000)
            finally:
                os.close(fd)

    def test_others_go_on(self):
        """An export on another disk, in the same daemon; and a reader of the
        full one."""
        point = self.path("small")
        point.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", point)
        self.addCleanup(run, "umount", point, check=False)
        for image in (point / "full.img", self.path("free.img")):
            with open(image, "wb") as file:
                file.truncate(8 * MIB)
        with self.served(f"""
                nodes {{ node_name: "full"
                         raw {{ file {{ filename: "{point}/full.img" }} }} }}
                nodes {{ node_name: "free"
                         raw {{ file {{ filename: "free.img" }} }} }}
                exports {{ id: "full" node: "full" writable: true fuse {{}} }}
                exports {{ id: "free" node: "free" writable: true fuse {{}} }}
                """) as folder:
            full = os.open(folder / "full", os.O_RDWR)
            free = os.open(folder / "free", os.O_RDWR)
            try:
                os.pwrite(full, b"first" * 1000, 0)
                with self.assertRaises(OSError) as raised:
                    for i in range(1, 8):
                        os.pwrite(full, b"x" * MIB, i * MIB)
                self.assertEqual(raised.exception.errno, errno.ENOSPC)
                for i in range(8):
                    os.pwrite(free, b"y" * MIB, i * MIB)
                os.fsync(free)
                self.assertEqual(os.pread(full, 5000, 0), b"first" * 1000)
                # What has its space can be written again.
                os.pwrite(full, b"again" * 1000, 0)
                os.fsync(full)
                self.assertEqual(os.pread(full, 5000, 0), b"again" * 1000)
            finally:
                os.close(full)
                os.close(free)
        self.assertEqual(self.path("free.img").read_bytes(),
                         b"y" * (8 * MIB))

    def test_beyond_the_daemons_limit_of_file_sizes(self):
        """The kernel sends SIGXFSZ, which by default ends a process."""
        image = self.path("disk.img")
        with open(image, "wb") as file:
            file.truncate(32 * MIB)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        with self.mounted(image, "--format=raw") as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            fd = os.open(file, os.O_RDWR)
            try:
                with self.assertRaises(OSError) as raised:
                    os.pwrite(fd, b"x", 16 * MIB)
                self.assertEqual(raised.exception.errno, errno.EFBIG)
                self.assertEqual(os.pwrite(fd, b"y", 0), 1)
                self.assertEqual(os.pread(fd, 1, 0), b"y")
            finally:
                os.close(fd)


if __name__ == "__main__":
    main()
