"""Where the kernel denies io_uring, as Docker's seccomp filter does, all works:
the daemon runs on threads, and says so."""

import ctypes
import errno
import json
import os
import signal
import struct
import unittest

import harness
from harness import MIB, Test, fio, main, run

IO_URING_SETUP = 425  # on all architectures
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def deny_io_uring(error):
    """Makes io_uring_setup(2) fail in this process and its children."""
    # Load the number of the system call; if it is this one: the error, else go
    # on. (linux/filter.h, linux/seccomp.h)
    program = b"".join(struct.pack("=HBBI", *step) for step in (
        (0x20, 0, 0, 0),
        (0x15, 0, 1, IO_URING_SETUP),
        (0x06, 0, 0, 0x00050000 | error),
        (0x06, 0, 0, 0x7fff0000)))
    steps = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(
        struct.pack("@HP", 4, ctypes.addressof(steps)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or libc.prctl(
            PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


@unittest.skipIf("BGFS_LOOP" in os.environ, "a loop is forced")
class DeniedIoUring(Test):

    def mount(self, error, *options, check=True):
        folder = self.path("mnt")
        folder.mkdir(exist_ok=True)
        return run(harness.BGFS, "mount", f"--log={self.path('log')}",
                   *options, self.path("disk.qcow2"), folder, check=check,
                   preexec_fn=lambda: deny_io_uring(error))

    def status(self):
        return json.loads(run(harness.BGFS, "status", "--json",
                              self.path("mnt")).stdout)

    def check_works(self, error):
        run("qemu-img", "create", "-q", "-f", "qcow2",
            self.path("disk.qcow2"), "64M")
        self.mount(error)
        file = self.path("mnt") / os.listdir(self.path("mnt"))[0]
        status = self.status()
        export, = status["exports"]
        why = f"io_uring_setup: {os.strerror(error)}"
        self.assertEqual((export["loop"], export["why_not_uring"],
                          export["transport"]), ("threads", why, "/dev/fuse"))
        self.assertIn("  loop threads  pid ", run(
            harness.BGFS, "status", self.path("mnt")).stdout)
        self.assertIn(f"on threads, without io_uring ({why})",
                      self.path("log").read_text())
        fio(file, "parallel", "--rw=randrw", "--bs=4k", "--iodepth=32",
            "--ioengine=libaio", "--direct=1", "--size=4M",
            "--fdatasync=64")
        data = self.random.randbytes(3 * MIB)
        with open(file, "r+b") as disk:
            disk.seek(1234567)
            disk.write(data)
            disk.flush()
            os.fsync(disk.fileno())
        # What was fsynced is in the image of a daemon that is killed.
        if error == errno.ENOSYS:
            os.kill(status["pid"], signal.SIGKILL)
            self.mount(error)
        with open(file, "rb") as disk:
            disk.seek(1234567)
            self.assertEqual(disk.read(len(data)), data)
        run(harness.BGFS, "umount", self.path("mnt"))
        run("qemu-img", "check", "-q", self.path("disk.qcow2"))

    def test_as_docker_does(self):
        self.check_works(errno.EPERM)

    def test_as_older_filters_do(self):
        self.check_works(errno.ENOSYS)

    def test_check(self):
        run("qemu-img", "create", "-q", "-f", "qcow2",
            self.path("disk.qcow2"), "64M")
        run(harness.BGFS, "check", self.path("disk.qcow2"),
            preexec_fn=lambda: deny_io_uring(errno.EPERM))

    def test_other_errors_are_errors(self):
        run("qemu-img", "create", "-q", "-f", "qcow2",
            self.path("disk.qcow2"), "64M")
        failed = self.mount(errno.EMFILE, check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertIn("io_uring", failed.stderr)
        self.assertIn(os.strerror(errno.EMFILE), failed.stderr)


if __name__ == "__main__":
    main()
