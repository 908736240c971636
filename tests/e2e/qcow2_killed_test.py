"""kill -9 under load on a qcow2 export: what was fsynced is there, and the
image is whole but for leaks; mounting it again takes one command.
"""

import ctypes
import os
import re
import signal
import subprocess

import images
from harness import LONG, MIB, Test, bgfs, main, per_form, run, wait_until

ROUNDS = per_form(10, 40, 200)
ROUNDS_OF_AN_IMAGE = 8 if LONG else 4
SIZE = 32 * MIB
BLOCK = 4096
WRITERS = 3
BLOCKS = 96  # of each writer, side by side

# Does one operation after the other, each of which its number decides, and
# reports each that is durable.
WRITER = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
from qcow2_killed_test import Operation
fd = os.open(sys.argv[2], os.O_RDWR)
number = int(sys.argv[4])
while True:
    Operation(int(sys.argv[3]), number).apply(fd)
    os.fsync(fd)
    print(number, flush=True)
    number += 1
"""


class Operation:
    """Number `number` of writer `writer`: a stamped block, or a punch."""

    def __init__(self, writer, number):
        self.stamp = number
        first = writer * BLOCKS
        block = first + number * 37 % BLOCKS
        self.blocks = range(block, block + 1)
        if number % 5 == 0:
            self.stamp = 0
        if number % 29 == 0:
            self.blocks = range(first, first + BLOCKS)
            self.stamp = 0

    def apply(self, fd):
        start = self.blocks.start * BLOCK
        if self.stamp:
            os.pwrite(fd, content(self.stamp), start)
            return
        libc = ctypes.CDLL(None, use_errno=True)
        keep_size_punch_hole = 3
        if libc.fallocate(fd, keep_size_punch_hole, ctypes.c_int64(start),
                          ctypes.c_int64(len(self.blocks) * BLOCK)) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")


def content(stamp):
    return stamp.to_bytes(8, "little") * (BLOCK // 8)


class Qcow2Killed(Test):

    def test_kill_under_load(self):
        kinds = [*images.KINDS, "version2", "lazy", "narrow"]
        self.random.shuffle(kinds)
        seen = {}
        for first in range(0, ROUNDS, ROUNDS_OF_AN_IMAGE):
            kind = kinds[first // ROUNDS_OF_AN_IMAGE % len(kinds)]
            with self.subTest(kind):
                self.kill_again_and_again(
                    kind, min(ROUNDS_OF_AN_IMAGE, ROUNDS - first), seen)
        print("after kill -9, qemu-img check: " +
              ", ".join(f"{what}: {count}"
                        for what, count in sorted(seen.items())))

    def kill_again_and_again(self, kind, rounds, seen):
        image = self.make(kind)
        folder = self.path(f"mnt-{self.random.randrange(1 << 30)}")
        folder.mkdir()
        pid_file = self.path("pid")
        last = [0] * WRITERS  # the last durable operation of each
        with open(self.raw_of(image), "rb") as file:
            known = file.read(WRITERS * BLOCKS * BLOCK)
        for _ in range(rounds):
            file = self.mount(image, folder, pid_file)
            known = self.check_durable(file, known, last)
            begin = [number + 2 for number in last]
            self.write_and_kill(file, folder, int(pid_file.read_text()), begin)
            known, last = self.replay(known, begin)
            what = self.judge(image)
            seen[what] = seen.get(what, 0) + 1
        # One command, and all is well again.
        file = self.mount(image, folder, pid_file)
        self.check_durable(file, known, last)
        with open(file, "r+b", buffering=0) as disk:
            disk.write(content(1))
            os.fsync(disk.fileno())
        bgfs("umount", folder)
        run("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 1 0 1", image)
        bgfs("check", "--repair=leaks", image)
        images.check(image)

    def make(self, kind):
        name = f"disk-{self.random.randrange(1 << 30)}.qcow2"
        options = {"version2": "compat=0.10", "lazy": "lazy_refcounts=on",
                   "narrow": "refcount_bits=1"}.get(kind)
        if options is None:
            return images.make(self, kind, SIZE, name)
        path = self.path(name)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path,
            SIZE)
        return path

    def raw_of(self, image):
        return images.converted(self.folder, image)

    def mount(self, image, folder, pid_file):
        bgfs("mount", f"--pid-file={pid_file}", image, folder)
        return folder / os.listdir(folder)[0]

    def write_and_kill(self, file, folder, daemon, begin):
        writers = []
        for i, number in enumerate(begin):
            with open(self.path(f"writer{i}.log"), "w") as log:
                writers.append(subprocess.Popen(
                    ["python3", "-B", "-c", WRITER, os.path.dirname(__file__),
                     str(file), str(i), str(number)],
                    stdout=log, stderr=subprocess.DEVNULL))
        load = subprocess.Popen(
            ["fio", "--name=load", f"--filename={file}", "--rw=randwrite",
             "--bsrange=4k-128k", "--offset=4M", f"--size={SIZE - 4 * MIB}",
             "--ioengine=libaio", "--direct=1", "--iodepth=16",
             "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=64",
             "--verify_state_save=0", "--allow_file_create=0", "--fsync=64",
             "--time_based", "--runtime=300", "--thread",
             f"--randseed={self.random.randrange(1 << 30)}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            wait_until(lambda: self.waiting_requests(folder) >= 8,
                       "the load", seconds=30)
            enough = self.random.randrange(5, 120)
            wait_until(lambda: sum(len(self.reported(i))
                                   for i in range(WRITERS)) > enough,
                       "writes", seconds=60)
        finally:
            os.kill(daemon, signal.SIGKILL)
            for writer in writers:
                writer.wait(timeout=10)
            out, _ = load.communicate(timeout=20)
        self.assertNotRegex(out, r"verify: (bad|got)|verify failed")
        self.assertRegex(out, "err=|error")

    def reported(self, writer):
        lines = self.path(f"writer{writer}.log").read_text().split("\n")
        return [int(line) for line in lines[:-1]]  # the last may be torn

    def replay(self, known, begin):
        """The bytes after all operations that were reported."""
        data = bytearray(known)
        last = []
        for i, number in enumerate(begin):
            done = self.reported(i)
            self.assertEqual(done, list(range(number, number + len(done))))
            for reported in done:
                operation = Operation(i, reported)
                for block in operation.blocks:
                    data[block * BLOCK:(block + 1) * BLOCK] = \
                        content(operation.stamp)
            last.append(number + len(done) - 1)
        return bytes(data), last

    def check_durable(self, file, known, last):
        """All durable operations are seen, of the next one any part."""
        with open(file, "rb", buffering=0) as disk:
            found = disk.read(len(known))
        for i, number in enumerate(last):
            pending = Operation(i, number + 1)
            for block in range(i * BLOCKS, (i + 1) * BLOCKS):
                part = slice(block * BLOCK, (block + 1) * BLOCK)
                allowed = [known[part]]
                if block in pending.blocks:
                    allowed.append(content(pending.stamp))
                self.assertIn(found[part], allowed,
                              f"block {block}, writer {i}, after operation "
                              f"{number}")
        return found

    def judge(self, image):
        """What qemu-img check says, where only leaks are allowed, and COPIED
        flags that are clear at refcount 1."""
        done = run("qemu-img", "check", "-f", "qcow2", image, check=False)
        if done.returncode in (0, 3):
            return {0: "clean", 3: "leaks"}[done.returncode]
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        for line in (done.stdout + done.stderr).split("\n"):
            if not line.startswith(("ERROR", "Repairing")):
                continue
            entry = re.match(r"ERROR OFLAG_COPIED .*entry=([0-9a-f]+) "
                             r"refcount=1$", line)
            self.assertTrue(entry and not int(entry[1], 16) >> 63, line)
        return "COPIED clear at refcount 1"


if __name__ == "__main__":
    main()
