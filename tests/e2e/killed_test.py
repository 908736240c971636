"""kill -9 under load: nobody hangs, nothing that was fsynced is lost."""

import os
import signal
import subprocess
import time

from harness import LONG, MIB, Test, bgfs, main, run, wait_until

ROUNDS = 50 if LONG else 4
BLOCK = 4096

# Writes stamped blocks for ever, each followed by fsync, and reports each that
# is durable.
WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
first, blocks = int(sys.argv[2]), int(sys.argv[3])
stamp = 0
while True:
    stamp += 1
    block = first + stamp % blocks
    os.pwrite(fd, stamp.to_bytes(8, "little") * 512, block * 4096)
    os.fsync(fd)
    print(block, stamp, flush=True)
"""


class Killed(Test):

    def start_writers(self, file):
        writers = []
        for i in range(3):
            log = open(self.path(f"writer{i}.log"), "w")
            writers.append(subprocess.Popen(
                ["python3", "-c", WRITER, str(file), str(i * 64), "64"],
                stdout=log, stderr=subprocess.DEVNULL))
            log.close()
        return writers

    def durable_blocks(self):
        """The last stamp that each block was reported with."""
        stamps = {}
        for i in range(3):
            lines = self.path(f"writer{i}.log").read_text().split("\n")
            for line in lines[:-1]:  # the last may be torn
                block, stamp = map(int, line.split())
                stamps[block] = stamp
        return stamps

    def test_kill_under_load(self):
        image = self.raw_image("disk.img", MIB)
        folder = self.path("mnt")
        folder.mkdir()
        pid_file = self.path("pid")
        slowest = 0.0
        for _ in range(ROUNDS):
            bgfs("mount", "--format=raw", f"--pid-file={pid_file}", image,
                 folder)
            file = folder / "disk.raw"
            writers = self.start_writers(file)
            wait_until(lambda: len(self.durable_blocks()) >
                       self.random.randrange(20, 150), "writes")
            killed = time.monotonic()
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
            for writer in writers:
                writer.wait(timeout=5)
            slowest = max(slowest, time.monotonic() - killed)
            for block, stamp in self.durable_blocks().items():
                with open(image, "rb") as disk:
                    disk.seek(block * BLOCK)
                    data = disk.read(BLOCK)
                found = int.from_bytes(data[:8], "little")
                self.assertGreaterEqual(found, stamp, f"block {block}")
                self.assertEqual(data, found.to_bytes(8, "little") * 512)
        print(f"slowest error after kill -9: {slowest:.3f} s")
        self.assertLess(slowest, 1.0)
        # The dead mount is detached by the next one.
        bgfs("mount", "--format=raw", image, folder)
        self.assertEqual(os.listdir(folder), ["disk.raw"])
        bgfs("umount", folder)

    def test_sigterm_is_durable_and_quick(self):
        image = self.raw_image("disk.img", MIB)
        folder = self.path("mnt")
        folder.mkdir()
        pid_file = self.path("pid")
        bgfs("mount", "--format=raw", f"--pid-file={pid_file}", image, folder)
        writers = self.start_writers(folder / "disk.raw")
        wait_until(lambda: len(self.durable_blocks()) > 20, "writes")
        pid = int(pid_file.read_text())
        begin = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end")
        self.assertLess(time.monotonic() - begin, 5)
        for writer in writers:
            writer.wait(timeout=5)
        self.assertEqual(run("findmnt", folder, check=False).stdout, "")


if __name__ == "__main__":
    main()
