"""What a daemon takes along when it starts, and what it leaves alone."""

import fcntl
import os
import resource
import signal
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
    def test_a_start_that_takes_long_says_what_it_waits_for(self):
        self.image()
        os.mkdir(self.path("above"))
        os.rename(self.path("disk.img"), self.path("below.img"))
        self.bgfs("mount", "--format=raw", "below.img", "mnt")
        below = self.daemon()
        config = self.config("""
            nodes { node_name: "n" raw { file { filename: "mnt/below.raw" } } }
            exports { id: "e" node: "n" fuse {} }""")
        for verb, names in (
            (["mount", "--format=raw", "mnt/below.raw", "above"],
             '"mnt/below.raw" and "above"'),
            (["serve", config, "above"], f'what "{config}" names'),
        ):
            with self.subTest(verb=verb[0]):
                signal.pidfd_send_signal(below, signal.SIGSTOP)
                start = subprocess.Popen(
                    [BGFS, *verb, "--start-notice=1"], env=self.environment,
                    cwd=self.folder, stderr=subprocess.PIPE, text=True)
                try:
                    line = start.stderr.readline()
                finally:
                    signal.pidfd_send_signal(below, signal.SIGCONT)
                self.assertRegex(line, r"\Abgfs: still waiting after 1 s for "
                                 rf"{names}: .*interrupt it\n\Z")
                self.assertEqual(start.communicate(timeout=60)[1], "")
                self.assertEqual(start.returncode, 0)
                self.bgfs("umount", "above")
        self.bgfs("umount", "mnt")
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
