"""What the tests of the bgfs command share: a scratch folder, the command, and
the daemons it started, which are ended whatever a test did."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BGFS = os.environ.get("BGFS", "build/release/bgfs")
MIB = 1 << 20


def needs_mounts(test):
    """Skips where nothing can be mounted."""
    able = os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)
    return unittest.skipUnless(able, "needs root and /dev/fuse")(test)


def mountinfo():
    with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
        return mounts.read().splitlines()


def is_mounted(path):
    return any(line.split()[4] == path for line in mountinfo())


def wait_until(what, condition, seconds=30):
    """Looks at something outside that gives no event."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s: {what}")
        time.sleep(0.01)


def wait_for_exit(pidfd, seconds=30):
    ready, _, _ = select.select([pidfd], [], [], seconds)
    if not ready:
        raise AssertionError(f"the daemon did not end within {seconds} s")


class CommandTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="bgfs-cli-")
        os.mkdir(self.path("run"), 0o700)
        os.mkdir(self.path("mnt"))
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=self.path("run"))
        self.mnt = self.path("mnt")

    def tearDown(self):
        for pid in self.daemons():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for point in reversed([line.split()[4] for line in mountinfo()]):
            if point.startswith(self.folder):
                subprocess.run(["umount", "-l", point], check=False,
                               capture_output=True)
        shutil.rmtree(self.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def daemons(self):
        """Process ids, from the names of the control sockets."""
        with contextlib.suppress(FileNotFoundError):
            return [int(name.split("-")[0])
                    for name in os.listdir(self.path("run", "bgfs"))]
        return []

    def daemon(self):
        """A pidfd of the one daemon there is."""
        pid, = self.daemons()
        fd = os.pidfd_open(pid)
        self.addCleanup(os.close, fd)
        return fd

    def host(self):
        """A file system of its own, host/, that can be frozen."""
        disk = self.path("host.img")
        os.mkdir(self.path("host"))
        with open(disk, "wb") as file:
            file.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", disk], timeout=60, check=True)
        subprocess.run(["mount", "-o", "loop", disk, self.path("host")],
                       timeout=60, check=True)
        return self.path("host")

    def hanging(self):
        """How many threads of the daemon do not come back from the kernel."""
        pid, = self.daemons()
        states = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat") as stat:
                states.append(stat.read().rsplit(")", 1)[1].split()[0])
        return states.count("D")

    def image(self, name="disk.img", size=4 * MIB):
        with open(self.path(name), "wb") as image:
            image.write(os.urandom(MIB))
            image.truncate(size)
        return self.path(name)

    def qcow2(self, name, *arguments):
        """`arguments`: options, and the size if there is no backing file."""
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2",
                        self.path(name), *arguments], check=True, timeout=60)
        return self.path(name)

    def config(self, text, name="graph.textproto"):
        with open(self.path(name), "w") as config:
            config.write(text)
        return self.path(name)

    def run_bgfs(self, *arguments, timeout=60):
        return subprocess.run([BGFS, *arguments], env=self.environment,
                              cwd=self.folder, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=timeout,
                              check=False)

    def bgfs(self, *arguments, stderr=""):
        """Succeeds, and says no more than `stderr`. Gives stdout."""
        done = self.run_bgfs(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, stderr))
        return done.stdout

    def fails(self, status, message, *arguments):
        """Fails with exactly one line, `bgfs: message`."""
        done = self.run_bgfs(*arguments)
        self.assertEqual(done.stderr, f"bgfs: {message}\n")
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.returncode, status)

    def status(self, *arguments):
        text = self.bgfs("status", "--json", *arguments)
        return [json.loads(line) for line in text.splitlines()]

    def read(self, *names):
        with open(self.path(*names), "rb") as file:
            return file.read()

    def assert_nothing_left(self):
        self.assertEqual(self.daemons(), [])
        self.assertEqual(
            [line for line in mountinfo() if self.folder in line], [])


def main():
    # ctest reads the reasons of skips from here.
    program = unittest.main(verbosity=2, exit=False)
    result = program.result
    if result.skipped and result.testsRun == len(result.skipped):
        print(f"skipped: {result.skipped[0][1]}")
    sys.exit(not result.wasSuccessful())
