"""What a service manager is told, through a socket that stands for its own."""

import os
import signal
import socket
import subprocess

import command

CONFIG = """
nodes {{ node_name: "stuck" raw {{ file {{ filename: "{stuck}" }} }} }}
nodes {{ node_name: "free" raw {{ file {{ filename: "free.img" }} }} }}
exports {{ id: "stuck" node: "stuck" writable: true fuse {{}} }}
exports {{ id: "free" node: "free" writable: true fuse {{}} }}
"""


@command.needs_mounts
class NotifyTest(command.CommandTest):

    def setUp(self):
        super().setUp()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)

    def serve(self, stuck="stuck.img", address=None, **environment):
        """Starts the daemon as a service manager does."""
        if stuck == "stuck.img":
            self.image("stuck.img")
        self.image("free.img")
        self.config(CONFIG.format(stuck=stuck))
        self.manager.bind(address or self.path("notify"))
        name = (address or self.path("notify")).replace("\0", "@")
        self.environment = dict(self.environment, NOTIFY_SOCKET=name,
                                **environment)
        daemon = subprocess.Popen(
            [command.BGFS, "serve", "--foreground", "graph.textproto", "mnt"],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.addCleanup(daemon.wait, timeout=60)
        self.addCleanup(daemon.kill)
        del self.environment["NOTIFY_SOCKET"]
        return daemon

    def told(self, seconds=30):
        """The lines of the next message, or None."""
        self.manager.settimeout(seconds)
        try:
            return self.manager.recv(4096).decode().split("\n")
        except (TimeoutError, BlockingIOError):
            return None

    def wait_for(self, line):
        while (lines := self.told()) is not None:
            if line in lines:
                return lines
        raise AssertionError(f"was not told: {line}")

    def test_ready_means_usable_and_stopping_is_told(self):
        daemon = self.serve()
        self.assertEqual(self.told(), ["STATUS=Opening the images"])
        self.assertEqual(self.told(), [
            "READY=1",
            f"STATUS=Serving 2 exports of {self.path('graph.textproto')}"])
        # Not a moment later.
        self.assertEqual(self.read("mnt", "free"), self.read("free.img"))
        self.assertEqual(len(self.status("mnt")), 1)

        with open(self.path("mnt", "free"), "rb"):
            self.assertEqual(self.run_bgfs("umount", "mnt").returncode, 1)
        self.assertIsNone(self.told(0.2))  # It goes on.

        self.bgfs("umount", "mnt")
        self.assertEqual(self.told(0)[0], "STOPPING=1")
        self.assertEqual(daemon.wait(timeout=60), 0)

    def test_an_abstract_socket_and_the_end_by_a_signal(self):
        daemon = self.serve(address=f"\0bgfs-test-{os.getpid()}")
        self.wait_for("READY=1")
        daemon.send_signal(signal.SIGTERM)
        self.wait_for("STOPPING=1")
        self.assertEqual(daemon.wait(timeout=60), 0)

    def test_no_watchdog_that_was_not_asked_for(self):
        self.serve()
        self.wait_for("READY=1")
        self.assertIsNone(self.told(0.5))
        self.bgfs("umount", "mnt")

    def test_a_watchdog_of_another_process_is_not_ours(self):
        self.serve(WATCHDOG_USEC="100000", WATCHDOG_PID="1")
        self.wait_for("READY=1")
        self.assertIsNone(self.told(0.5))
        self.bgfs("umount", "mnt")

    def test_only_the_process_that_was_started_speaks(self):
        self.image()
        self.manager.bind(self.path("notify"))
        self.environment["NOTIFY_SOCKET"] = self.path("notify")
        self.bgfs("mount", "--format=raw", "disk.img", "mnt")
        self.bgfs("umount", "mnt")
        self.assertIsNone(self.told(0))

    def test_a_home_that_hangs_feeds_no_watchdog(self):
        disk = self.image("fs.img", 64 * command.MIB)
        subprocess.run(["mkfs.ext4", "-q", disk], check=True, timeout=60)
        os.mkdir(self.path("fs"))
        subprocess.run(["mount", "-o", "loop", disk, self.path("fs")],
                       check=True, timeout=60)
        stuck = self.image("fs/stuck.img")
        self.serve(stuck=stuck, WATCHDOG_USEC="400000")
        self.wait_for("READY=1")
        for _ in range(3):
            self.assertEqual(self.told(), ["WATCHDOG=1"])

        subprocess.run(["fsfreeze", "-f", self.path("fs")], check=True,
                       timeout=60)
        try:
            # A buffered write to a local file system is done where it arrives.
            writer = subprocess.Popen(
                ["dd", "if=/dev/zero", f"of={self.path('mnt', 'stuck')}",
                 "bs=64k", "count=1", "conv=notrunc,fsync", "status=none"])
            while self.told(2) is not None:
                pass
            # The other one turns.
            self.assertEqual(self.read("mnt", "free"), self.read("free.img"))
            self.assertIsNone(self.told(0))
        finally:
            subprocess.run(["fsfreeze", "-u", self.path("fs")], check=True,
                           timeout=60)
        self.assertEqual(writer.wait(timeout=60), 0)
        for _ in range(3):
            self.assertEqual(self.told(), ["WATCHDOG=1"])
        self.bgfs("umount", "mnt")


if __name__ == "__main__":
    command.main()
