"""A full disk: ENOSPC to that writer, nothing else harmed, goes on after."""

import errno
import os

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


if __name__ == "__main__":
    main()
