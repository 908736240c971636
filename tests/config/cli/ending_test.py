"""How a mount ends: asked, refused, forced, killed; and what is on the disk
then."""

import ctypes
import errno
import mmap
import os
import signal
import socket
import subprocess
import time

import command
from command import MIB

SERVED = """
    nodes { node_name: "a" raw { file { filename: "a.img" } } }
    nodes { node_name: "b" raw { file { filename: "b.img" } } }
    exports { id: "a" node: "a" writable: true fuse {} }
    exports { id: "b" node: "b" writable: true fuse {} }"""


def unmount_only(path):
    """As umount(8), which would also ask what a stopped daemon answers."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), 0) != 0:
        raise OSError(ctypes.get_errno(), "umount2", path)


class EndingTest(command.CommandTest):

    def mount(self, *options):
        self.image()
        self.bgfs("mount", "--format=raw", *options, "disk.img", "mnt")

    def serve(self, *options):
        self.image("a.img")
        self.image("b.img")
        self.config(SERVED)
        self.bgfs("serve", *options, "graph.textproto", "mnt")

    def start_umount(self, *arguments):
        return subprocess.Popen(
            [command.BGFS, "umount", *arguments], env=self.environment,
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    def assert_ended_well(self, daemon):
        command.wait_for_exit(daemon)
        self.assert_nothing_left()


@command.needs_mounts
class UmountTest(EndingTest):

    def test_what_is_no_mount(self):
        self.fails(1, 'cannot find "none": No such file or directory',
                   "umount", "none")
        self.fails(1, 'nothing of bgfs is mounted at "mnt"', "umount", "mnt")

    def test_an_open_file_refuses_and_is_named(self):
        self.mount()
        with open(self.path("mnt", "disk.raw"), "rb") as disk:
            holder = subprocess.Popen(["sleep", "1000"], stdin=disk)
        try:
            self.fails(1, f'cannot unmount "{self.mnt}": in use by sleep (pid '
                       f"{holder.pid}, open file); end that, or use --force",
                       "umount", "mnt")
        finally:
            holder.kill()
            holder.wait()
        self.assertEqual(self.read("mnt", "disk.raw"), self.read("disk.img"))
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_a_mapping_refuses(self):
        self.mount()
        with open(self.path("mnt", "disk.raw"), "r+b") as disk:
            mapping = mmap.mmap(disk.fileno(), MIB)
        mapping[:4] = b"mmap"
        done = self.run_bgfs("umount", "mnt")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"(pid {os.getpid()}, ", done.stderr)
        mapping.close()
        self.bgfs("umount", "mnt")
        self.assertEqual(self.read("disk.img")[:4], b"mmap")

    def test_a_loop_device_refuses_and_is_named(self):
        self.mount()
        loop = subprocess.run(
            ["losetup", "--find", "--show", self.path("mnt", "disk.raw")],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout.strip()
        try:
            self.fails(1, f'cannot unmount "{self.mnt}": in use by {loop} '
                       "(loop device); end that, or use --force",
                       "umount", "mnt")
        finally:
            subprocess.run(["losetup", "-d", loop], timeout=60, check=True)
        command.wait_until(
            "the loop device to let go",
            lambda: self.run_bgfs("umount", "mnt").returncode == 0)
        self.assert_nothing_left()

    def test_one_open_file_keeps_all_of_serve(self):
        self.serve()
        with open(self.path("mnt", "b"), "rb"):
            done = self.run_bgfs("umount", "mnt")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, rf'\Abgfs: cannot unmount "'
                             rf'{self.path("mnt", "b")}": in use by .*\n\Z')
            self.assertEqual(self.read("mnt", "a"), self.read("a.img"))
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_busy_half_way_puts_back_what_is_gone(self):
        self.serve()
        # A descriptor on its way through a socket is in nobody's table.
        ours, theirs = socket.socketpair()
        with ours, theirs:
            folder = os.open(self.mnt, os.O_RDONLY)
            socket.send_fds(ours, [b"x"], [folder])
            os.close(folder)
            for _ in range(2):
                self.fails(1, f'cannot unmount "{self.mnt}": in use by a '
                           "process that cannot be seen from here; end that, "
                           "or use --force",
                           "umount", "mnt")
                for name in ("a", "b"):
                    self.assertEqual(self.read("mnt", name),
                                     self.read(f"{name}.img"))
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_one_of_several_is_not_all(self):
        self.serve()
        self.fails(1, '"mnt/a" is one of 2 exports of its daemon: use --all to '
                   "end them together, or umount(8) for this one",
                   "umount", "mnt/a")
        self.bgfs("umount", "--all", "mnt/a")
        self.assert_nothing_left()

    def take(self, image, number, number_of):
        """Mounts at other/, which gets that number."""
        # The lowest free number is given next; somebody else may be faster.
        for _ in range(20):
            self.bgfs("mount", "--format=raw", image, "other")
            if number_of(self.path("other")) == number:
                return
            subprocess.run(["umount", self.path("other")], timeout=60,
                           check=True)
        self.skipTest("the number was not given again")

    def take_number(self, image, number):
        self.take(image, number, lambda path: os.stat(path).st_dev)

    def test_a_number_that_the_kernel_gave_to_another_mount(self):
        """Who is no longer shown claims no device number."""
        self.serve()
        self.image("c.img")
        os.mkdir(self.path("other"))
        number = os.stat(self.path("mnt", "a")).st_dev
        subprocess.run(["umount", self.path("mnt", "a")], timeout=60,
                       check=True)
        self.take_number("c.img", number)
        claims = [export["id"] for status in self.status()
                  for export in status["exports"]
                  if export["st_dev"] == str(number)]
        self.assertEqual(claims, ["c.raw"])
        self.bgfs("umount", "other")
        self.assertEqual(self.read("mnt", "b"), self.read("b.img"))
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_a_mount_id_that_the_kernel_gave_to_another_mount(self):
        """Who uses that one does not use ours."""
        def mount_id(path):
            return [line.split()[0] for line in command.mountinfo()
                    if line.split()[4] == path]

        self.serve()
        self.image("c.img")
        os.mkdir(self.path("other"))
        number = mount_id(self.path("mnt", "a"))
        subprocess.run(["umount", self.path("mnt", "a")], timeout=60,
                       check=True)
        self.take("c.img", number, mount_id)
        with open(self.path("other", "c.raw"), "rb"):
            self.bgfs("umount", "mnt")
        self.bgfs("umount", "other")
        self.assert_nothing_left()

    def mount_above(self):
        """above/ depends on below/; gives the daemon of that, which is in a
        folder of its own, so that nobody waits for its Status."""
        self.image("a.img")
        for name in ("below", "above", "other", "apart"):
            os.mkdir(self.path(name))
        own = self.environment
        self.environment = dict(own, XDG_RUNTIME_DIR=self.path("apart"))
        self.bgfs("mount", "--format=raw", "--pid-file=pid", "a.img", "below")
        self.environment = own
        below = os.pidfd_open(int(self.read("pid")))
        self.addCleanup(os.close, below)
        self.bgfs("mount", "--format=raw", "below/a.raw", "above")
        return below

    def connections(self):
        """How many there are to the control sockets, from the kernel's list:
        address, references, protocol, flags, type, state, inode, path."""
        with open("/proc/net/unix") as sockets:
            return sum(self.path("run", "bgfs") in line and
                       line.split()[5] == "03" for line in sockets)

    def test_who_asks_while_it_ends_gets_the_outcome(self):
        below = self.mount_above()
        with open(self.path("above", "a.raw"), "r+b") as disk:
            disk.write(b"to be flushed")
        signal.pidfd_send_signal(below, signal.SIGSTOP)
        try:
            asking = [self.start_umount("above")]
            command.wait_until("the unmount", lambda: self.status()[0][
                "exports"][0]["state"] == "CLOSING")
            asking.append(self.start_umount("above"))
            command.wait_until("both to ask",
                               lambda: self.connections() == 2)
            with self.assertRaises(subprocess.TimeoutExpired):
                asking[1].wait(timeout=2)
        finally:
            signal.pidfd_send_signal(below, signal.SIGCONT)
        for umount in asking:
            self.assertEqual(umount.communicate(timeout=60), ("", ""))
            self.assertEqual(umount.returncode, 0)
        self.end_below()
        self.assertEqual(self.read("a.img")[:13], b"to be flushed")

    def end_below(self):
        own = self.environment
        self.environment = dict(own, XDG_RUNTIME_DIR=self.path("apart"))
        self.bgfs("umount", "below")
        self.environment = own
        self.assert_nothing_left()

    def test_a_crowd_is_told_no_lies(self):
        """Whoever finds a mount learns how it ended; the rest find none."""
        for _ in range(10):
            self.mount()
            crowd = [self.start_umount("mnt") for _ in range(4)]
            told = [(umount.communicate(timeout=60)[1], umount.returncode)
                    for umount in crowd]
            self.assertIn(("", 0), told)
            self.assertLessEqual(
                set(told),
                {("", 0),
                 ('bgfs: nothing of bgfs is mounted at "mnt"\n', 1)})
            self.assert_nothing_left()

    def test_another_daemon_that_cannot_close_is_not_mistaken(self):
        """Its mount is gone, and ours has the number of that now."""
        below = self.mount_above()
        self.image("b.img")
        number = os.stat(self.path("above")).st_dev
        with open(self.path("above", "a.raw"), "r+b") as disk:
            disk.write(b"to be flushed")
        signal.pidfd_send_signal(below, signal.SIGSTOP)
        try:
            unmount_only(self.path("above"))
            self.take_number("b.img", number)
            self.assertEqual(self.run_bgfs("umount", "other",
                                           timeout=20).returncode, 0)
            self.assertFalse(command.is_mounted(self.path("other")))
        finally:
            signal.pidfd_send_signal(below, signal.SIGCONT)
        command.wait_until("the other to end", lambda: self.daemons() == [])
        self.end_below()
        self.assertEqual(self.read("a.img")[:13], b"to be flushed")

    def test_plain_umount_ends_the_daemon(self):
        self.mount()
        daemon = self.daemon()
        with open(self.path("mnt", "disk.raw"), "r+b") as disk:
            disk.write(b"plain")
        subprocess.run(["umount", self.mnt], timeout=60, check=True)
        self.assert_ended_well(daemon)
        self.assertEqual(self.read("disk.img")[:5], b"plain")

    def test_fusermount_ends_the_daemon(self):
        self.mount()
        daemon = self.daemon()
        subprocess.run(["fusermount3", "-u", self.mnt], timeout=60, check=True)
        self.assert_ended_well(daemon)

    def test_umount_R_ends_serve(self):
        self.serve()
        daemon = self.daemon()
        done = subprocess.run(["umount", self.mnt], timeout=60, check=False,
                              capture_output=True)
        self.assertNotEqual(done.returncode, 0)
        subprocess.run(["umount", "-R", self.mnt], timeout=60, check=True)
        self.assert_ended_well(daemon)

    def test_one_export_unmounted_alone_lets_go_of_its_image(self):
        self.serve()
        subprocess.run(["umount", self.path("mnt", "a")], timeout=60,
                       check=True)
        command.wait_until("the lock of a.img to be given up", lambda:
                           subprocess.run(
                               ["qemu-io", "-f", "raw", "-c", "write 0 512",
                                self.path("a.img")], capture_output=True,
                               timeout=60, check=False).returncode == 0)
        self.assertEqual(self.read("mnt", "b"), self.read("b.img"))
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()


@command.needs_mounts
class ForceTest(EndingTest):

    def use(self, path):
        """An open file with a dirty mapping; gives both."""
        disk = open(path, "r+b", buffering=0)
        mapping = mmap.mmap(disk.fileno(), MIB)
        disk.write(b"write")
        mapping[4096:4100] = b"mmap"
        return disk, mapping

    def assert_cut_off(self, disk):
        with self.assertRaises(OSError) as raised:
            disk.write(b"late")
        self.assertIn(raised.exception.errno,
                      (errno.ESHUTDOWN, errno.ENOTCONN, errno.ECONNABORTED))

    def assert_kept(self, image):
        content = self.read(image)
        self.assertEqual(content[:5], b"write")
        self.assertEqual(content[4096:4100], b"mmap")

    def test_force_keeps_what_was_written_and_mapped(self):
        self.mount()
        disk, mapping = self.use(self.path("mnt", "disk.raw"))
        self.bgfs("umount", "--force", "mnt")
        self.assert_nothing_left()
        self.assert_cut_off(disk)
        disk.close()
        mapping.close()
        self.assert_kept("disk.img")

    def test_signals_do_what_force_does(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number):
                self.serve()
                daemon = self.daemon()
                disk, mapping = self.use(self.path("mnt", "a"))
                signal.pidfd_send_signal(daemon, number)
                self.assert_ended_well(daemon)
                self.assert_cut_off(disk)
                disk.close()
                mapping.close()
                self.assert_kept("a.img")

    def test_without_a_configuration_to_read_again_sighup_ends(self):
        self.mount()
        daemon = self.daemon()
        disk, mapping = self.use(self.path("mnt", "disk.raw"))
        signal.pidfd_send_signal(daemon, signal.SIGHUP)
        self.assert_ended_well(daemon)
        self.assert_cut_off(disk)
        disk.close()
        mapping.close()
        self.assert_kept("disk.img")

    def test_force_in_the_middle_of_writes(self):
        self.mount("--log=log")
        fio = subprocess.Popen(
            ["fio", "--name=w", f"--filename={self.mnt}/disk.raw",
             "--rw=randwrite", "--bs=4k", "--iodepth=8", "--ioengine=libaio",
             "--direct=1", "--time_based", "--runtime=60"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        image = self.path("disk.img")
        before = os.stat(image).st_mtime_ns
        command.wait_until("writes to arrive",
                           lambda: os.stat(image).st_mtime_ns != before)
        self.bgfs("umount", "--force", "mnt")
        self.assertNotEqual(fio.wait(timeout=60), 0)
        self.assert_nothing_left()
        self.assertIn(b"everything is durable", self.read("log"))

    def test_status_answers_while_many_disks_hang(self):
        frozen = self.host()
        count = 24
        for i in range(count):
            with open(self.path("host", f"{i}.img"), "wb") as image:
                image.truncate(MIB)
        self.config("".join(
            f'nodes {{ node_name: "n{i}" raw {{ file {{ filename: '
            f'"host/{i}.img" }} }} }} exports {{ id: "{i}" node: "n{i}" '
            f'writable: true fuse {{}} }}' for i in range(count)))
        self.bgfs("serve", "graph.textproto", "mnt")
        writers = []
        subprocess.run(["fsfreeze", "--freeze", frozen], timeout=60, check=True)
        try:
            writers = [subprocess.Popen(
                ["dd", "if=/dev/zero", f"of={self.mnt}/{i}", "bs=4k",
                 "count=1", "conv=notrunc", "status=none"])
                for i in range(count)]
            command.wait_until("all loops to hang", lambda:
                               self.hanging() >= count)
            status, = self.status()
            self.assertEqual(len(status["exports"]), count)
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", frozen], timeout=60,
                           check=True)
            for writer in writers:
                writer.wait(timeout=60)
        self.bgfs("umount", "mnt")
        subprocess.run(["umount", frozen], timeout=60, check=True)
        self.assert_nothing_left()

    def test_a_parent_that_ignores_its_children_changes_nothing(self):
        self.image()
        subprocess.run(
            [command.BGFS, "mount", "--format=raw", "disk.img", "mnt"],
            env=self.environment, cwd=self.folder, timeout=60, check=True,
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.bgfs("umount", "--force", "mnt")
        self.assert_nothing_left()

    def test_a_hanging_disk_is_reported_and_the_others_are_closed_well(self):
        frozen = self.host()
        self.image("host/a.img")
        self.image("b.img")
        self.config(SERVED.replace("a.img", "host/a.img"))
        self.bgfs("serve", "--close-limit=2", "--log=log", "graph.textproto",
                  "mnt")
        number = os.minor(os.stat(self.path("mnt", "a")).st_dev)
        can_abort = os.path.exists(f"/sys/fs/fuse/connections/{number}/abort")
        writer = None
        try:
            subprocess.run(["fsfreeze", "--freeze", frozen], timeout=60,
                           check=True)
            writer = subprocess.Popen(
                ["dd", "if=/dev/zero", f"of={self.mnt}/a", "bs=64k", "count=4",
                 "conv=notrunc", "status=none"], stderr=subprocess.DEVNULL)
            other = open(self.path("mnt", "b"), "r+b", buffering=0)
            other.write(b"other")
            started = time.monotonic()
            self.fails(1, 'export "a" (node "a"): its disk did not answer '
                       "within 2 s; what was not synced may be lost",
                       "umount", "--force", "mnt")
            self.assertLess(time.monotonic() - started, 10)
            other.close()
            self.assertEqual(self.read("b.img")[:5], b"other")
            # Who waits is told now, while the disk still hangs.
            if can_abort:
                self.assertNotEqual(writer.wait(timeout=20), 0)
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", frozen], timeout=60,
                           check=True)
            if writer is not None:
                writer.wait(timeout=60)
        command.wait_until("the daemon to end", lambda: self.daemons() == [])
        self.assertIn(b"did not answer", self.read("log"))

        def unmounted():
            return subprocess.run(["umount", frozen], timeout=60, check=False,
                                  capture_output=True).returncode == 0
        command.wait_until("the host file system to be free", unmounted)
        # Nothing of ours waits in the kernel for an answer that never comes.
        connection = f"/sys/fs/fuse/connections/{number}"
        command.wait_until("the connection to be gone",
                           lambda: not os.path.exists(connection))


@command.needs_mounts
class KilledTest(EndingTest):

    def kill(self):
        daemon = self.daemon()
        signal.pidfd_send_signal(daemon, signal.SIGKILL)
        command.wait_for_exit(daemon)
        # What a killed daemon leaves is removed when it is old.
        for name in os.listdir(self.path("run", "bgfs")):
            os.unlink(self.path("run", "bgfs", name))

    def test_mounting_again_takes_one_command(self):
        self.mount()
        with open(self.path("mnt", "disk.raw"), "r+b") as disk:
            disk.write(b"synced")
            disk.flush()
            os.fsync(disk.fileno())
            self.kill()
            with self.assertRaises(OSError):
                os.fsync(disk.fileno())
        self.bgfs("mount", "--format=raw", "disk.img", "mnt")
        self.assertEqual(self.read("mnt", "disk.raw")[:6], b"synced")
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_over_itself_again(self):
        self.image()
        for _ in range(2):
            self.bgfs("mount", "--format=raw", "disk.img", "disk.img")
            self.kill()
        self.bgfs("mount", "--format=raw", "disk.img", "disk.img")
        self.bgfs("umount", "disk.img")
        self.assert_nothing_left()

    def test_serving_again(self):
        self.serve()
        self.kill()
        self.bgfs("serve", "graph.textproto", "mnt")
        self.assertEqual(self.read("mnt", "b"), self.read("b.img"))
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_umount_of_a_dead_mount_says_what_it_cannot_know(self):
        self.mount()
        self.kill()
        self.fails(1, f'the daemon of "{self.mnt}" had died: unmounted now, '
                   "but what was not synced may be lost", "umount", "mnt")
        self.assert_nothing_left()

    def test_sockets_of_killed_daemons_go_away(self):
        self.mount()
        pid, = self.daemons()
        name, = os.listdir(self.path("run", "bgfs"))
        daemon = self.daemon()
        signal.pidfd_send_signal(daemon, signal.SIGKILL)
        command.wait_for_exit(daemon)
        socket = self.path("run", "bgfs", name)
        self.assertEqual(self.status(), [])
        self.assertTrue(os.path.exists(socket))
        os.utime(socket, (1, 1))
        self.assertEqual(self.status(), [])
        self.assertFalse(os.path.exists(socket))


if __name__ == "__main__":
    command.main()
