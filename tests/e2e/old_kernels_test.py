"""On kernels that lack what newer ones offer all works, less what they lack.

Each thing that bgfs asks INIT for is masked in turn, then all together, with
the hidden options --mask-init-flags and --mask-minor (config/cli/verb.h). What
was agreed on stands in `bgfs status --json`: a mask that hides nothing fails.
"""

import ctypes
import errno
import json
import mmap
import os
import platform
import re

import guest
import harness
import images
import workloads
from harness import LONG, MIB, Test, digest, main, run

# linux/fuse.h
ASYNC_READ = 1 << 0
BIG_WRITES = 1 << 5
ASYNC_DIO = 1 << 15
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22
INIT_EXT = 1 << 30
ALLOW_MMAP = 1 << 36
OVER_IO_URING = 1 << 41
EXTENDED = ALLOW_MMAP | OVER_IO_URING  # not there without INIT_EXT
ALL = (ASYNC_READ | BIG_WRITES | ASYNC_DIO | PARALLEL_DIROPS | MAX_PAGES |
       INIT_EXT | EXTENDED)
NEWEST = (1 << 32) - 1
OLDEST = 31  # that bgfs speaks: 7.31
PARALLEL_DIRECT_WRITES = 38  # come with 7.38

# linux/falloc.h
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 0x10

SIZE = 48 * MIB
OFFERED = {}  # by transport, once it was asked
RUNS = [("raw", "auto"), ("qcow2", "dev")]
if LONG:
    RUNS += [("raw", "dev"), ("qcow2", "auto")]
NO_DIRECT_WRITES = {
    "fatal": False,
    "what": "the kernel sends direct writes to a file one after the other",
    "advice": "use Linux 6.2 or newer for parallel ones"}
NO_MAPPINGS = {
    "fatal": False,
    "what": "the kernel refuses shared mappings (mmap) of the files",
    "advice": "use Linux 6.6 or newer for them"}
NO_RING = {
    "fatal": False,
    "what": "the kernel did not offer FUSE over io_uring when it was mounted",
    "advice": "see the kernel's log (dmesg)"}


def doctor(*mask):
    return json.loads(run(harness.BGFS, "doctor", "--json", *mask).stdout)


def agreed(file):
    """What INIT came to, as status tells it."""
    said = run(harness.BGFS, "status", "--json", file.parent).stdout
    export, = json.loads(said)["exports"]
    return (export["transport"], export["fuse_minor"],
            int(export["fuse_init_flags"]), export["parallel_direct_writes"])


def fallocate(fd, mode, offset, length):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_int64(offset),
                      ctypes.c_int64(length)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class OldKernels(Test):

    def setUp(self):
        super().setUp()
        self.tree = self.path("tree")
        guest.make_tree(self.tree, self.random, files=10)

    def test_without_parallel_direct_writes(self):
        self.check((6, 2), minor=PARALLEL_DIRECT_WRITES - 1)

    def test_without_shared_mappings(self):
        self.check((6, 6), ALLOW_MMAP)

    def test_without_io_uring(self):
        self.check((6, 14), OVER_IO_URING)

    def test_without_large_requests(self):
        self.check((6, 1), MAX_PAGES)

    def test_without_asynchronous_direct_io(self):
        self.check((6, 1), ASYNC_DIO)

    def test_without_extended_flags(self):
        self.check((6, 6), INIT_EXT, lost=EXTENDED)

    def test_oldest_protocol(self):
        self.check((6, 1), minor=OLDEST)

    def test_linux_6_1(self):
        self.check((6, 6), ALLOW_MMAP | OVER_IO_URING,
                   PARALLEL_DIRECT_WRITES - 1)

    def test_without_all(self):
        self.check((6, 6), ALL, OLDEST)

    def check(self, release, flags=0, minor=NEWEST, lost=0):
        """`release`: from which Linux on there is something to mask; `lost`:
        flags that are not masked, but lost with those that are."""
        here = platform.release()
        if tuple(map(int, re.findall(r"\d+", here)[:2])) < release:
            self.skipTest(f"needs Linux {'.'.join(map(str, release))}")
        plain = doctor()
        ring = plain["transport"] == "io_uring"
        if flags == OVER_IO_URING and not ring:
            self.skipTest("needs FUSE over io_uring")
        mask = [f"--mask-init-flags={flags}", f"--mask-minor={minor}"]
        lost |= flags
        self.check_doctor(plain, doctor(*mask), lost, minor)
        for form, transport in RUNS:
            if lost & OVER_IO_URING:
                transport = "auto"  # The other would hide what is to be seen.
            with self.subTest(transport=transport, form=form):
                self.check_disk(form, transport, mask, lost, minor)

    def check_doctor(self, plain, masked, lost, minor):
        told = []
        if minor < PARALLEL_DIRECT_WRITES:
            told.append(NO_DIRECT_WRITES)
        if lost & ALLOW_MMAP:
            told.append(NO_MAPPINGS)
        if lost & OVER_IO_URING and plain["transport"] == "io_uring":
            told.append(NO_RING)
        for item in told:
            self.assertNotIn(item, plain["findings"])
        self.assertEqual([item for item in masked["findings"]
                          if item not in plain["findings"]], told)
        if NO_RING in told:
            self.assertEqual((masked["transport"], masked["reason"]),
                             ("/dev/fuse", NO_RING["what"]))
        else:
            self.assertEqual(masked["transport"], plain["transport"])

    def check_disk(self, form, transport, mask, lost, minor):
        if form == "raw":
            image = self.raw_image("disk.img", SIZE)
        else:
            image = self.path("disk.qcow2")
            run("qemu-img", "create", "-q", "-f", "qcow2", image, SIZE)
        with self.mounted(image, f"--format={form}", "--resizable",
                          f"--transport={transport}", *mask) as file:
            self.check_agreed(self.offered(transport), agreed(file), lost,
                              minor)
            self.use(file, not lost & ALLOW_MMAP)
            through = digest(file)
        if form == "qcow2":
            images.check(image)
            image = images.converted(self.folder, image)
        self.assertEqual(digest(image), through)

    def offered(self, transport):
        """What is agreed on where nothing is masked."""
        if transport not in OFFERED:
            image = self.raw_image("plain.img", MIB)
            with self.mounted(image, "--format=raw",
                              f"--transport={transport}") as file:
                OFFERED[transport] = agreed(file)
        return OFFERED[transport]

    def check_agreed(self, offered, masked, lost, minor):
        carried, newest, before, parallel = offered
        self.assertTrue(parallel)
        if carried != "io_uring":
            lost &= ~OVER_IO_URING
        self.assertEqual(before & lost, lost, "the mask hides nothing")
        if minor != NEWEST:
            self.assertLess(minor, newest, "the mask hides nothing")
        minor = min(minor, newest)
        after = before & ~lost
        self.assertEqual(masked, (
            "io_uring" if after & OVER_IO_URING else "/dev/fuse", minor, after,
            minor >= PARALLEL_DIRECT_WRITES))

    def use(self, file, shared_mappings):
        """What one does with a disk. Its first 16 MiB are written in
        parallel, the next 16 mapped; the rest is a hole."""
        workloads.apart(file, 8 * MIB, self.seed)
        with open(file, "r+b", buffering=0) as disk:
            self.assertEqual(os.fstat(disk.fileno()).st_size, SIZE)
            self.check_private_mapping(disk)
            self.check_shared_mapping(disk, shared_mappings)
            self.check_holes(disk)
            self.check_sizes(disk)
        self.check_loop_device(file)

    def check_private_mapping(self, disk):
        data = self.random.randbytes(3 * MIB)
        os.pwrite(disk.fileno(), data, 16 * MIB)
        with mmap.mmap(disk.fileno(), len(data), mmap.MAP_PRIVATE,
                       offset=16 * MIB) as pages:
            self.assertEqual(pages[:], data)
            pages[:MIB] = bytes(MIB)
        self.assertEqual(os.pread(disk.fileno(), len(data), 16 * MIB), data)

    def check_shared_mapping(self, disk, allowed):
        data = self.random.randbytes(3 * MIB)

        def change():
            with mmap.mmap(disk.fileno(), len(data), mmap.MAP_SHARED,
                           offset=24 * MIB) as pages:
                pages[:] = data
                pages.flush()

        if allowed:
            change()
        else:
            with self.assertRaises(OSError) as caught:
                change()
            self.assertEqual(caught.exception.errno, errno.ENODEV)
            data = bytes(len(data))
        self.assertEqual(os.pread(disk.fileno(), len(data), 24 * MIB), data)

    def check_holes(self, disk):
        fd = disk.fileno()
        start, end = 36 * MIB, 37 * MIB
        os.pwrite(fd, b"\xa5" * MIB, start)
        os.fsync(fd)
        before = os.fstat(fd).st_blocks
        self.assertEqual(os.lseek(fd, 32 * MIB, os.SEEK_DATA), start)
        self.assertEqual(os.lseek(fd, start, os.SEEK_HOLE), end)
        middle = start + MIB // 2
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, start, MIB // 2)
        os.fsync(fd)
        self.assertLess(os.fstat(fd).st_blocks, before)
        self.assertEqual(os.lseek(fd, start, os.SEEK_DATA), middle)
        fallocate(fd, ZERO_RANGE, middle, MIB // 4)
        self.assertEqual(os.pread(fd, MIB, start),
                         bytes(MIB * 3 // 4) + b"\xa5" * (MIB // 4))
        fallocate(fd, KEEP_SIZE, 40 * MIB, MIB)
        self.assertEqual(os.pread(fd, MIB, 40 * MIB), bytes(MIB))

    def check_sizes(self, disk):
        fd = disk.fileno()
        os.ftruncate(fd, SIZE + 12345)
        self.assertEqual(os.fstat(fd).st_size, SIZE + 12345)
        self.assertEqual(os.pread(fd, MIB, SIZE), bytes(12345))
        os.ftruncate(fd, SIZE - MIB)
        self.assertEqual(os.pread(fd, MIB, SIZE - MIB), b"")
        fallocate(fd, 0, SIZE - MIB, MIB)
        self.assertEqual(os.fstat(fd).st_size, SIZE)

    def check_loop_device(self, file):
        with self.loop_device(file, "--direct-io=on") as device:
            run("mkfs.ext4", "-q", device)
            with self.file_system(device) as point:
                guest.copy_in_parallel(self.tree, point, copies=2)
            run("e2fsck", "-fn", device)


if __name__ == "__main__":
    main()
