"""Filters: what a throttle lets pass, what copy_on_read leaves in an overlay,
which errors blkdebug makes."""

import contextlib
import errno
import json
import mmap
import os
import threading
import time

from harness import MIB, Test, bgfs, main, run, wait_until

BLOCK = 65536
CLUSTER = 65536


class Writer(threading.Thread):
    """Writes blocks, or reads them, one after the other until it is told to
    stop. Past the page cache, so that each is a request of its own."""

    def __init__(self, path, read=False):
        super().__init__()
        self.path = path
        self.read = read
        self.bytes = 0
        self.stopped = threading.Event()
        self.error = None

    def run(self):
        # Aligned to a page.
        memory = mmap.mmap(-1, BLOCK)
        flags = os.O_RDONLY if self.read else os.O_RDWR
        try:
            fd = os.open(self.path, flags | os.O_DIRECT)
            try:
                while not self.stopped.is_set():
                    call = os.preadv if self.read else os.pwritev
                    self.bytes += call(fd, [memory], self.bytes % (8 * MIB))
            finally:
                os.close(fd)
        except OSError as error:
            self.error = error


class Filters(Test):

    def use_for(self, seconds, users):
        """Bytes that each has moved, and the time that it took."""
        begin = time.monotonic()
        for user in users:
            user.start()
        time.sleep(seconds)  # what is measured
        for user in users:
            user.stopped.set()
        for user in users:
            user.join(timeout=60)
            self.assertFalse(user.is_alive())
            self.assertIsNone(user.error)
        return [user.bytes for user in users], time.monotonic() - begin

    def check_rate(self, moved, seconds, rate, users):
        """Not more than the rate, the burst of a tenth of a second and a block
        of each user; and it does not stand still."""
        self.assertLessEqual(moved,
                             rate * (seconds + 0.1) + users * BLOCK)
        self.assertGreater(moved, rate * seconds / 4)

    # --- throttle -------------------------------------------------------------

    def throttled(self, names, throttle, groups=""):
        config = groups
        for name in names:
            self.raw_image(f"{name}.img", 8 * MIB)
            config += (
                f'nodes {{ node_name: "{name}" throttle {{ {throttle} '
                f'file_inline {{ file {{ filename: "{name}.img" }} }} }} }}\n'
                f'exports {{ id: "{name}" node: "{name}" writable: true '
                'fuse { cache: NONE } }\n')
        return self.served(config)

    def test_a_rate_is_kept(self):
        with self.throttled("a", 'limits { bps_write: "4M" }') as folder:
            # Two at a time, so that one always waits.
            writers = [Writer(folder / "a") for _ in range(2)]
            moved, seconds = self.use_for(2.5, writers)
            self.check_rate(sum(moved), seconds, 4 * MIB, 2)
            # Reads have no limit.
            with open(folder / "a", "rb") as file:
                self.assertEqual(len(file.read()), 8 * MIB)

    def test_operations_count(self):
        with self.throttled("a", "limits { iops_total: 40 }") as folder:
            users = [Writer(folder / "a"), Writer(folder / "a", read=True)]
            moved, seconds = self.use_for(2.5, users)
            self.check_rate(sum(moved), seconds, 40 * BLOCK, 2)

    def test_a_group_is_kept_by_two_exports(self):
        groups = ('throttle_groups { name: "g" '
                  'limits { bps_total: "4M" } }\n')
        with self.throttled("ab", 'group: "g"', groups) as folder:
            # One has four times as many to do.
            writers = [Writer(folder / "a") for _ in range(4)]
            writers.append(Writer(folder / "b"))
            moved, seconds = self.use_for(3, writers)
            self.check_rate(sum(moved), seconds, 4 * MIB, 5)
            self.assertGreater(moved[4], sum(moved) / 4, "they take turns")

    def test_what_waits_does_not_keep_it_from_ending(self):
        self.raw_image("a.img", 8 * MIB)
        config = self.path("slow.textproto")
        config.write_text('''
            nodes { node_name: "a" throttle { limits { iops_write: 1 }
                    file_inline { file { filename: "a.img" } } } }
            exports { id: "a" node: "a" writable: true fuse {} }
        ''')
        folder = self.path("slow")
        folder.mkdir()
        bgfs("serve", config, folder)
        writers = [Writer(folder / "a") for _ in range(20)]
        for writer in writers:
            writer.start()
        try:
            wait_until(lambda: self.waiting_requests(folder / "a") > 10,
                       "requests wait")
        finally:
            begin = time.monotonic()
            bgfs("umount", "--force", folder, timeout=60)
        # Twenty requests would take as many seconds.
        self.assertLess(time.monotonic() - begin, 10)
        for writer in writers:
            writer.join(timeout=30)
            self.assertFalse(writer.is_alive())

    # --- copy_on_read ---------------------------------------------------------

    def depths(self, image, size):
        """Of each cluster, how far below it lies: 0 is the overlay."""
        depths = [None] * (size // CLUSTER)
        for part in json.loads(run("qemu-img", "map", "--output=json",
                                   image).stdout):
            first = part["start"] // CLUSTER
            for at in range(first, first + part["length"] // CLUSTER):
                depths[at] = part["depth"]
        return depths

    def test_reading_fills_the_overlay(self):
        size = 4 * MIB
        content = self.random.randbytes(size)
        self.path("base.img").write_bytes(content)
        top = self.path("top.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
            "base.img", top, cwd=self.folder)
        self.assertEqual(set(self.depths(top, size)), {1})
        config = '''
            nodes { node_name: "copy" copy_on_read { file_inline {
              read_only: false
              qcow2 { file { filename: "top.qcow2" } } } } }
            exports { id: "disk" node: "copy" fuse { cache: NONE } }
        '''
        with self.served(config) as folder:
            disk = folder / "disk"
            with contextlib.suppress(OSError):
                os.close(os.open(disk, os.O_RDWR))
                self.fail("it is read-only")
            fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
            memory = mmap.mmap(-1, 4096)
            try:
                for cluster in (3, 4, 40):
                    at = cluster * CLUSTER + 4096
                    os.preadv(fd, [memory], at)
                    self.assertEqual(memory[:], content[at:at + 4096])
            finally:
                os.close(fd)
        depths = self.depths(top, size)
        here = [i for i, depth in enumerate(depths) if depth == 0]
        self.assertEqual(here, [3, 4, 40])
        run("qemu-img", "check", "-q", top)
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2",
            self.path("base.img"), top)

    # --- blkdebug -------------------------------------------------------------

    def test_errors_are_exact(self):
        self.raw_image("disk.img", 4 * MIB)
        config = '''
            nodes { node_name: "d" blkdebug {
              inject_error { operation: WRITE offset: "1M" bytes: "64K"
                             error: "EIO" times: 2 }
              inject_error { operation: WRITE offset: "2M" bytes: "64K"
                             error: "ENOSPC" once: true }
              inject_error { operation: READ offset: "3M" error: "EROFS" }
              inject_error { operation: FLUSH error: "EDQUOT" once: true }
              inject_delay { operation: READ bytes: "4K" delay_ms: 300 }
              file_inline { file { filename: "disk.img" } } } }
            exports { id: "d" node: "d" writable: true fuse { cache: NONE } }
        '''
        with self.served(config) as folder:
            fd = os.open(folder / "d", os.O_RDWR | os.O_DIRECT)
            memory = mmap.mmap(-1, 4096)

            def outcome(call, *arguments):
                try:
                    call(fd, *arguments)
                except OSError as error:
                    return error.errno
                return 0

            def write(at):
                return outcome(os.pwritev, [memory], at)

            try:
                self.assertEqual([write(MIB) for _ in range(4)],
                                 [errno.EIO, errno.EIO, 0, 0])
                self.assertEqual([write(2 * MIB) for _ in range(2)],
                                 [errno.ENOSPC, 0])
                self.assertEqual(write(0), 0)
                self.assertEqual(outcome(os.preadv, [memory], 3 * MIB),
                                 errno.EROFS)
                self.assertEqual(outcome(os.fsync), errno.EDQUOT)
                self.assertEqual(outcome(os.fsync), 0)
                begin = time.monotonic()
                self.assertEqual(outcome(os.preadv, [memory], 0), 0)
                self.assertGreaterEqual(time.monotonic() - begin, 0.3)
            finally:
                os.close(fd)


if __name__ == "__main__":
    main()
