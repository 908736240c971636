"""What the end-to-end tests share: the real command, real mounts, real tools.

A test mounts with the `bgfs` binary that $BGFS_BINARY names, works on the file
with ordinary programs, and unmounts; whatever a failed test leaves is taken
away. Everything that touches a mount has a time limit. $BGFS_SEED replays a
failure; $BGFS_LONG=1 and $BGFS_SOAK=1 run the longer forms of a test.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

BGFS = os.environ.get("BGFS_BINARY", "build/release/bgfs")
FSX = os.environ.get("BGFS_FSX", "build/release/tests/e2e/bgfs_fsx")
MAKE_CHAIN = os.environ.get("BGFS_MAKE_CHAIN",
                            "build/release/tests/e2e/bgfs_make_chain")
FAULTY_FS = os.environ.get("BGFS_FAULTY_FS",
                           "build/release/tests/e2e/bgfs_faulty_fs")
SOAK = os.environ.get("BGFS_SOAK") == "1"
LONG = SOAK or os.environ.get("BGFS_LONG") == "1"
# "dev" or "io_uring"; whatever the kernel offers if not given.
TRANSPORT = os.environ.get("BGFS_TRANSPORT")
SKIPPED = 77

MIB = 1 << 20


def per_form(quick, long, soak):
    """Which of the three holds in the form that runs."""
    return soak if SOAK else long if LONG else quick


def run(*command, timeout=60, check=True, **options):
    """Runs a program and gives its CompletedProcess; its output is text."""
    done = subprocess.run(
        [str(word) for word in command], timeout=timeout, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **options)
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, command))}: exit status {done.returncode}\n"
            f"{done.stdout}{done.stderr}")
    return done


def bgfs(*arguments, **options):
    if TRANSPORT and arguments[0] in ("mount", "serve"):
        arguments = (*arguments, f"--transport={TRANSPORT}")
    return run(BGFS, *arguments, **options)


def digest(path, block=MIB, size=None):
    """SHA-256 of a file, or of its first `size` bytes, read in pieces of
    `block` bytes."""
    left = os.stat(path).st_size if size is None else size
    total = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(min(block, left)):
            total.update(piece)
            left -= len(piece)
    return total.hexdigest()


def host_bytes(path):
    return os.stat(path).st_blocks * 512


def mount_points(below):
    """The mount points at or below a folder, deepest last."""
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == str(below) or point.startswith(f"{below}/"):
            found.append(point)
    return found


def wait_until(condition, what, seconds=10):
    """Polls for something another process does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Test(unittest.TestCase):
    """A folder of its own, and a random generator whose seed is printed."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bgfs-e2e-"))
        self.addCleanup(self._clean_up)
        self.seed = int(os.environ.get("BGFS_SEED") or
                        random.SystemRandom().randrange(1 << 31))
        self.random = random.Random(self.seed)
        print(f"{self.id()}: BGFS_SEED={self.seed}", flush=True)

    def _clean_up(self):
        for point in reversed(mount_points(self.folder)):
            run("umount", "-l", point, timeout=20, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return self.folder / name

    def raw_image(self, name, size):
        path = self.path(name)
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    @contextlib.contextmanager
    def mounted(self, image, *options, name=None):
        """Mounts an image in a folder; gives the path of the file in it."""
        folder = self.path(f"mnt-{self.random.randrange(1 << 30)}")
        folder.mkdir()
        bgfs("mount", *options, image, folder)
        try:
            files = os.listdir(folder)
            self.assertEqual(len(files), 1, files)
            yield folder / files[0]
        except BaseException:
            bgfs("umount", "--force", folder, check=False)
            raise
        bgfs("umount", folder)
        folder.rmdir()

    @contextlib.contextmanager
    def served(self, config, *options):
        """Serves a configuration's text; gives the folder."""
        text = self.path(f"graph-{self.random.randrange(1 << 30)}.textproto")
        text.write_text(config)
        folder = text.with_suffix("")
        folder.mkdir()
        bgfs("serve", *options, text, folder)
        try:
            yield folder
        except BaseException:
            bgfs("umount", "--force", folder, check=False)
            raise
        bgfs("umount", folder)

    @contextlib.contextmanager
    def loop_device(self, path, *options):
        device = run("losetup", "--show", "-f", *options, path).stdout.strip()
        try:
            yield device
        finally:
            run("losetup", "-d", device, check=False)
        # The kernel lets go once nobody has the device open, which a mount
        # namespace of another test may for a moment.
        backing = pathlib.Path("/sys/block", pathlib.Path(device).name,
                               "loop/backing_file")
        def gone():
            try:
                return backing.read_text().strip() != str(path)
            except OSError:
                return True
        wait_until(gone, f"{device} has let go of {path}")

    @contextlib.contextmanager
    def file_system(self, device, name="fs", options="defaults"):
        point = self.path(name)
        point.mkdir(exist_ok=True)
        run("mount", "-o", options, device, point)
        try:
            yield point
        finally:
            run("umount", point, timeout=120)

    def waiting_requests(self, path):
        """How many requests of a mount the kernel holds unanswered."""
        connections = pathlib.Path("/sys/fs/fuse/connections")
        if not any(connections.iterdir()):
            run("mount", "-t", "fusectl", "fusectl", connections)
        for line in pathlib.Path("/proc/self/mountinfo").read_text().split(
                "\n"):
            words = line.split()
            if len(words) > 4 and words[4] == str(path):
                minor = words[2].split(":")[1]
                return int((connections / minor / "waiting").read_text())
        raise AssertionError(f"{path} is not mounted")


def fio(file, name, *options, timeout=120):
    """Runs fio with verification of what it wrote."""
    return run("fio", f"--name={name}", f"--filename={file}",
               "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0",
               "--allow_file_create=0", "--group_reporting", *options,
               timeout=timeout)


def main():
    reasons = []
    if os.geteuid() != 0:
        reasons.append("needs root")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        reasons.append("needs /dev/fuse")
    if TRANSPORT == "io_uring":
        said = json.loads(run(BGFS, "doctor", "--json", check=False).stdout)
        if said["transport"] != "io_uring":
            reasons.append(f"needs FUSE over io_uring: {said['reason']}")
    if reasons:
        print("skipped: " + ", ".join(reasons))
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
