"""What bgfs events tells, as it happens."""

import json
import os
import signal
import subprocess
import time

import command
from command import MIB

SET_THRESHOLD = os.environ.get(
    "BGFS_SET_THRESHOLD",
    os.path.abspath("build/release/tests/config/cli/bgfs_set_threshold"))

CONFIG = """
nodes { node_name: "file" file { filename: "a.img" } write_threshold: "64K" }
nodes { node_name: "raw" raw { file_node: "file" } }
exports { id: "a" node: "raw" writable: true fuse {} }
"""


@command.needs_mounts
class EventsTest(command.CommandTest):

    def serve(self, config=CONFIG):
        self.image("a.img")
        self.config(config)
        self.bgfs("serve", "graph.textproto", "mnt")

    def follow(self, *arguments):
        """Returns when the daemon knows of it."""
        following = subprocess.Popen(
            [command.BGFS, "events", *arguments], env=self.environment,
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(following.communicate)
        self.addCleanup(following.kill)
        self.first = following.stdout.readline()
        return following

    def event(self, following):
        return json.loads(following.stdout.readline())

    def write(self, offset, size):
        fd = os.open(self.path("mnt", "a"), os.O_WRONLY)
        self.assertEqual(os.pwrite(fd, b"x" * size, offset), size)
        os.close(fd)

    def assert_ends_well(self, following):
        rest, errors = following.communicate(timeout=30)
        self.assertEqual((following.returncode, errors), (0, ""))
        return rest

    def test_a_write_past_the_threshold_is_told_once(self):
        self.serve()
        following = self.follow("--json", "mnt")
        self.assertEqual(json.loads(self.first)["following"],
                         {"pid": self.daemons()[0]})
        self.write(61440, 4096)  # ends there
        before = time.time_ns()
        self.write(65536 - 512, 1024)
        event = self.event(following)
        self.assertEqual(event["write_threshold"], {
            "node": "file", "threshold": "65536", "exceeded_by": "512"})
        self.assertLessEqual(before, int(event["time_ns"]))
        self.assertEqual(event["lost"], "0")
        self.write(MIB, 1024)
        self.bgfs("umount", "mnt")
        removed = json.loads(self.assert_ends_well(following))
        self.assertEqual(removed["export_removed"],
                         {"id": "a", "node": "raw",
                          "mountpoint": self.path("mnt", "a")})

    def set_threshold(self, node, size):
        """The code of the call's status, and what it says."""
        socket, = os.listdir(self.path("run", "bgfs"))
        done = subprocess.run(
            [SET_THRESHOLD, self.path("run", "bgfs", socket), node, str(size)],
            capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    def test_a_threshold_is_set_while_it_runs(self):
        self.serve()
        following = self.follow("--json")
        self.assertEqual(self.set_threshold("file", 0), (0, ""))
        self.write(65536, 1024)
        self.assertEqual(self.set_threshold("raw", 4096), (0, ""))
        self.write(8192, 1024)
        self.assertEqual(self.event(following)["write_threshold"], {
            "node": "raw", "threshold": "4096", "exceeded_by": "5120"})
        not_found = 5
        self.assertEqual(self.set_threshold("none", 1), (
            not_found, 'no node "none"; see: bgfs stats'))

    def test_lines_for_people(self):
        self.serve()
        following = self.follow()
        self.assertRegex(self.first, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}"
                         rf"\S+  following the daemon \(pid "
                         rf"{self.daemons()[0]}\)$")
        self.write(65536, 4096)
        self.assertRegex(following.stdout.readline(),
                         r'^\S+  node "file": written past its threshold of '
                         r"65536 bytes by 4096$")
        self.bgfs("umount", "mnt")
        self.assertRegex(self.assert_ends_well(following),
                         r'^\S+  export "a" is gone\n$')

    def test_an_export_that_is_unmounted_alone(self):
        self.image("b.img")
        self.serve(CONFIG + """
nodes { node_name: "other" raw { file { filename: "b.img" } } }
exports { id: "b" node: "other" fuse {} }""")
        following = self.follow("--json")
        subprocess.run(["umount", self.path("mnt", "b")], timeout=60,
                       check=True)
        self.assertEqual(self.event(following)["export_removed"]["id"], "b")
        self.bgfs("umount", "mnt")
        self.assertEqual(json.loads(self.assert_ends_well(following))
                         ["export_removed"]["id"], "a")

    def test_it_ends_at_a_signal(self):
        self.serve()
        for number in signal.SIGINT, signal.SIGTERM:
            following = self.follow()
            following.send_signal(number)
            self.assertEqual(self.assert_ends_well(following), "")

    def test_a_daemon_that_dies_is_an_error(self):
        self.serve()
        following = self.follow()
        pid, = self.daemons()
        os.kill(pid, signal.SIGKILL)
        _, errors = following.communicate(timeout=30)
        self.assertEqual(following.returncode, 1)
        self.assertRegex(errors, rf"^bgfs: the daemon \(pid {pid}\) does not "
                         r"answer any more: .*\n$")

    def test_where_nothing_runs(self):
        self.assertEqual(self.bgfs("events"), "")
        self.fails(1, 'nothing of bgfs is mounted at "mnt"', "events", "mnt")


if __name__ == "__main__":
    command.main()
