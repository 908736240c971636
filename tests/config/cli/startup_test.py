"""What a daemon takes along when it starts, and what it leaves alone."""

import fcntl
import os
import resource
import subprocess

from command import BGFS, CommandTest, main, needs_mounts


class Startup(CommandTest):

    @needs_mounts
    def test_a_file_that_holds_no_pid_is_left_alone(self):
        self.image()
        with open(self.path("thesis"), "w") as thesis:
            thesis.write("three years of work\n")
        self.fails(1, f'pid file "{self.path("thesis")}" holds something that '
                   "is no process id; choose another name",
                   "mount", "--format=raw", "--pid-file=thesis", "disk.img",
                   "mnt")
        self.assertEqual(self.read("thesis"), b"three years of work\n")
        self.assert_nothing_left()

    @needs_mounts
    def test_a_mount_that_fails_keeps_an_old_pid_file(self):
        with open(self.path("pid"), "w") as pid:
            pid.write("1234567\n")
        self.image()
        os.mkdir(self.path("mnt", "something"))
        done = self.run_bgfs("mount", "--format=raw", "--pid-file=pid",
                             "disk.img", "mnt")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.read("pid"), b"1234567\n")

    @needs_mounts
    def test_too_few_descriptors(self):
        """One line, whichever of them is the first that is missing."""
        self.image()
        for limit in range(6, 24):
            for verb in (["mount", "--format=raw", "disk.img", "mnt"],
                         ["umount", "mnt"], ["status"]):
                done = subprocess.run(
                    [BGFS, *verb], env=self.environment, cwd=self.folder,
                    timeout=60, capture_output=True, text=True, check=False,
                    preexec_fn=lambda: resource.setrlimit(
                        resource.RLIMIT_NOFILE, (limit, limit)))
                if done.returncode != 0:
                    self.assertEqual(done.returncode, 1)
                    self.assertRegex(done.stderr, r"\Abgfs: .*\n\Z")
                    self.assertNotIn("died", done.stderr)
        self.assert_nothing_left()

    @needs_mounts
    def test_the_callers_descriptors_are_not_kept(self):
        self.image()
        with open(self.path("lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            subprocess.run([BGFS, "mount", "--format=raw", "disk.img", "mnt"],
                           env=self.environment, cwd=self.folder, check=True,
                           timeout=60, pass_fds=[lock.fileno()])
        with open(self.path("lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()


if __name__ == "__main__":
    main()
