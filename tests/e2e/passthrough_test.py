"""Passthrough: data goes from the kernel straight to the host's file, and all
the rest is right even so."""

import ctypes
import errno
import json
import mmap
import os
import signal

import harness
from harness import (BGFS, MIB, Test, bgfs, digest, fio, host_bytes, main,
                     mount_points, run, wait_until)

RAW = ("--format=raw", "--passthrough")
WRITABLE = (*RAW, "--resizable")
KERNEL_HAS_NONE = f"--mask-init-flags={1 << 37}"


class Mapping:
    """The first page of a file, and nothing that holds it open beside: mmap of
    Python keeps a descriptor."""

    def __init__(self, path):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mmap.restype = ctypes.c_void_p
        self.libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t,
                                   ctypes.c_int, ctypes.c_int, ctypes.c_int,
                                   ctypes.c_long)
        self.libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        fd = os.open(path, os.O_RDWR)
        self.address = self.libc.mmap(None, 4096,
                                      mmap.PROT_READ | mmap.PROT_WRITE,
                                      mmap.MAP_SHARED, fd, 0)
        os.close(fd)
        if self.address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")

    def write(self, data):
        ctypes.memmove(self.address, data, len(data))

    def close(self):
        self.libc.munmap(self.address, 4096)


class Passthrough(Test):

    def image(self, size=4 * MIB):
        path = self.path("disk.img")
        path.write_bytes(self.random.randbytes(size))
        return path

    def status(self, path):
        return json.loads(bgfs("status", "--json", path).stdout)

    def size_in_status(self, file):
        export, = self.status(file.parent)["exports"]
        return int(export["size_bytes"])

    def expect_errno(self, number, call, *arguments):
        with self.assertRaises(OSError) as failed:
            call(*arguments)
        self.assertEqual(failed.exception.errno, number)

    def test_data_goes_past_the_daemon(self):
        image = self.image()
        with self.mounted(image, *WRITABLE) as file:
            export, = (status := self.status(file.parent))["exports"]
            if harness.TRANSPORT == "io_uring":
                self.assertEqual(export["transport"], "io_uring")
            fd = os.open(file, os.O_RDWR)
            # With the first write the kernel asks once for a capability, and
            # mmap() of Python for the size.
            os.pwrite(fd, b"first", 0)
            mapped = mmap.mmap(fd, MIB)
            os.kill(status["pid"], signal.SIGSTOP)
            try:
                self.assertEqual(os.pread(fd, MIB, MIB),
                                 image.read_bytes()[MIB:2 * MIB])
                os.pwrite(fd, b"written", 12345)
                mapped[54321:54327] = b"mapped"
                self.assertEqual(mapped[12345:12352], b"written")
            finally:
                os.kill(status["pid"], signal.SIGCONT)
            mapped.close()
            os.fsync(fd)
            os.close(fd)
            self.assertEqual(digest(file), digest(image))
        data = image.read_bytes()
        self.assertEqual(data[:5], b"first")
        self.assertEqual(data[12345:12352], b"written")
        self.assertEqual(data[54321:54327], b"mapped")
        self.assertEqual(len(data), 4 * MIB)

    def test_read_only(self):
        image = self.image()
        before = digest(image)
        with self.mounted(image, *RAW, "--read-only") as file:
            self.expect_errno(errno.EROFS, os.open, file, os.O_RDWR)
            pid = self.status(file.parent)["pid"]
            fd = os.open(file, os.O_RDONLY)
            os.kill(pid, signal.SIGSTOP)
            try:
                self.assertEqual(os.pread(fd, 4096, 4096),
                                 image.read_bytes()[4096:8192])
            finally:
                os.kill(pid, signal.SIGCONT)
            os.close(fd)
            self.assertEqual(digest(file), before)
        self.assertEqual(digest(image), before)

    def test_the_size_follows_the_writes(self):
        image = self.image()
        with self.mounted(image, *WRITABLE) as file:
            with open(file, "r+b", buffering=0) as disk:
                os.pwrite(disk.fileno(), b"end", 5 * MIB)
                self.assertEqual(os.fstat(disk.fileno()).st_size, 5 * MIB + 3)
                self.assertEqual(self.size_in_status(file), 5 * MIB + 3)
                # Longer than it was known to be, and shorter than it is.
                os.pwrite(disk.fileno(), b"end", 6 * MIB)
                disk.truncate(5 * MIB + 1)
                self.assertEqual(image.stat().st_size, 5 * MIB + 1)
                self.assertEqual(disk.seek(0, os.SEEK_END), 5 * MIB + 1)
                self.assertEqual(os.pread(disk.fileno(), 9, 5 * MIB), b"e")
                # What a growth adds is zeros.
                disk.truncate(6 * MIB + 3)
                self.assertEqual(os.pread(disk.fileno(), 9, 6 * MIB), bytes(3))
                os.pwrite(disk.fileno(), b"x" * MIB, 7 * MIB)
                os.posix_fallocate(disk.fileno(), 7 * MIB, MIB)
                self.assertEqual(os.fstat(disk.fileno()).st_size, 8 * MIB)
                self.assertEqual(os.pread(disk.fileno(), 1, 8 * MIB - 1), b"x")
                os.pwrite(disk.fileno(), b"x" * MIB, 9 * MIB)
                self.assertEqual(os.lseek(disk.fileno(), 8 * MIB,
                                          os.SEEK_DATA), 9 * MIB)
            with open(file, "ab", buffering=0) as disk:
                disk.write(b"appended")
            self.assertEqual(file.stat().st_size, 10 * MIB + 8)
            self.assertEqual(file.stat().st_mtime_ns, image.stat().st_mtime_ns)
        self.assertEqual(image.stat().st_size, 10 * MIB + 8)
        self.assertEqual(image.read_bytes()[-9:], b"xappended")

    def test_holes_can_be_punched(self):
        image = self.image()
        run("sync", image)
        full = host_bytes(image)
        with self.mounted(image, *WRITABLE) as file:
            run("fallocate", "-p", "-o", MIB, "-l", MIB, file)
            self.assertEqual(host_bytes(image), full - MIB)
            with open(file, "rb") as disk:
                disk.seek(MIB)
                self.assertEqual(disk.read(MIB), bytes(MIB))
            run("fallocate", "-z", "-o", 2 * MIB, "-l", 4096, file)
        self.assertEqual(image.read_bytes()[MIB:2 * MIB + 4096],
                         bytes(MIB + 4096))

    def test_parallel_writes(self):
        image = self.raw_image("disk.img", 16 * MIB)
        with self.mounted(image, *WRITABLE) as file:
            for direct in (0, 1):
                fio(file, f"direct-{direct}", "--rw=randrw", "--bs=4k",
                    "--iodepth=16", "--ioengine=libaio", f"--direct={direct}",
                    "--size=16M", "--fdatasync=64", f"--randseed={self.seed}")
            self.assertEqual(digest(file), digest(image))

    def test_a_loop_device(self):
        image = self.raw_image("disk.img", 64 * MIB)
        with self.mounted(image, *WRITABLE) as file:
            with self.loop_device(file, "--direct-io=on") as device:
                run("mkfs.ext4", "-q", device)
                with self.file_system(device) as point:
                    (point / "file").write_bytes(bytes(range(256)) * 4096)
                    run("sync", "-f", point)
        run("e2fsck", "-fn", image)

    def test_who_holds_it_is_named(self):
        image = self.image()
        with self.mounted(image, *WRITABLE) as file:
            mapping = Mapping(file)
            done = bgfs("umount", file.parent, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"in use by .*\(pid \d+, mapped file")
            mapping.write(b"mapped")
            mapping.close()
        self.assertEqual(image.read_bytes()[:6], b"mapped")

    def mount(self, image, *options, name="mnt", **more):
        folder = self.path(name)
        folder.mkdir(exist_ok=True)
        return bgfs("mount", *options, image, folder, **more)

    def test_force_cuts_clients_off(self):
        for options in (WRITABLE, (*RAW, "--read-only")):
            with self.subTest(options=options):
                image = self.image()
                self.mount(image, *options)
                writable = options == WRITABLE
                file = self.path("mnt") / "disk.raw"
                fd = os.open(file, os.O_RDWR if writable else os.O_RDONLY)
                if writable:
                    os.pwrite(fd, b"before", 0)
                bgfs("umount", "--force", self.path("mnt"))
                self.expect_errno(errno.EIO, os.pread, fd, 1, 0)
                if writable:
                    self.expect_errno(errno.EIO, os.pwrite, fd, b"after", 0)
                    self.assertEqual(image.read_bytes()[:6], b"before")
                # The kernel says it of the close as well.
                self.expect_errno(errno.EIO, os.close, fd)
                with self.mounted(image, *options):
                    pass

    def test_a_mapping_keeps_the_image_locked(self):
        image = self.image()
        self.mount(image, *WRITABLE)
        mapping = Mapping(self.path("mnt") / "disk.raw")
        bgfs("umount", "--force", self.path("mnt"))
        mapping.write(b"after")
        refused = self.mount(image, "--format=raw", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr, r"\Abgfs: .* is in use by .*\n\Z")
        mapping.close()
        with self.mounted(image, "--format=raw") as file:
            with open(file, "rb") as disk:
                self.assertEqual(disk.read(5), b"after")

    def test_a_daemon_that_is_killed(self):
        image = self.image()
        self.mount(image, *WRITABLE)
        file = self.path("mnt") / "disk.raw"
        fd = os.open(file, os.O_RDWR)
        os.pwrite(fd, b"before", 0)
        pid = self.status(file.parent)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end")
        # The kernel asks nobody: so nobody else may have the image.
        os.pwrite(fd, b"after", 0)
        refused = self.mount(image, "--format=raw", name="other", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("is in use by", refused.stderr)
        with self.assertRaises(OSError):
            os.fsync(fd)
        os.close(fd)
        self.mount(image, *WRITABLE)
        with open(file, "rb") as disk:
            self.assertEqual(disk.read(6), b"aftere")
        bgfs("umount", file.parent)

    def test_a_configuration(self):
        image = self.image()
        with self.served(f"""
                nodes {{ node_name: "disk" cache {{ no_flush: true }}
                         file {{ filename: "{image}" }} }}
                nodes {{ node_name: "top" read_only: true
                         raw {{ file_node: "low" }} }}
                nodes {{ node_name: "low" read_only: true
                         file {{ filename: "{self.raw_image("low", MIB)}" }} }}
                exports {{ id: "disk" node: "disk" writable: true
                           fuse {{ passthrough: true resizable: true }} }}
                exports {{ id: "one" node: "top" fuse {{ passthrough: true }} }}
                exports {{ id: "two" node: "top" fuse {{ passthrough: true }} }}
                exports {{ id: "three" node: "low" fuse {{}} }}
                """) as folder:
            (folder / "disk").write_bytes(b"short")
            self.assertEqual(image.read_bytes(), b"short")
            for name in ("one", "two", "three"):
                self.assertEqual((folder / name).read_bytes(), bytes(MIB))


class Refused(Test):

    def line(self, image, *options, command=(BGFS,), **more):
        folder = self.path("mnt")
        folder.mkdir(exist_ok=True)
        done = run(*command, "mount", *options, image, folder, check=False,
                   timeout=30, **more)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Abgfs: .*passthrough.*\n\Z")
        self.assertEqual(mount_points(self.folder), [])
        return done.stderr

    def test_a_kernel_without_it(self):
        image = self.raw_image("disk.img", MIB)
        self.assertIn("Linux 6.9", self.line(image, *WRITABLE,
                                             KERNEL_HAS_NONE))
        self.assertIn("Linux 6.9", self.line(image, *RAW, "--read-only",
                                             KERNEL_HAS_NONE))

    def test_who_may_mount_and_is_not_root(self):
        self.assertIn("for root", self.line(
            self.raw_image("disk.img", MIB), *WRITABLE,
            command=("unshare", "--map-root-user", "--mount", BGFS)))

    def test_a_fixed_size(self):
        self.assertIn("--resizable",
                      self.line(self.raw_image("disk.img", MIB), *RAW))

    def test_a_format(self):
        image = self.path("disk.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
        self.assertIn("not a file as it is",
                      self.line(image, "--passthrough", "--read-only"))

    def test_a_block_device(self):
        image = self.raw_image("disk.img", MIB)
        with self.loop_device(image) as device:
            self.assertIn("regular file", self.line(device, *WRITABLE))


if __name__ == "__main__":
    main()
