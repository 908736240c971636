"""Mounting in every shape, and what keeps a mount from coming about."""

import os
import signal
import stat
import subprocess

import command
from command import MIB


@command.needs_mounts
class ShapesTest(command.CommandTest):

    def test_a_raw_image_in_a_folder(self):
        image = self.image(size=4 * MIB + 123)
        self.bgfs("mount", "--format=raw", "disk.img", "mnt")
        self.assertEqual(os.listdir(self.mnt), ["disk.raw"])
        self.assertEqual(self.read("mnt", "disk.raw"), self.read(image))
        self.assertEqual(stat.S_IMODE(os.stat(self.path(
            "mnt", "disk.raw")).st_mode), 0o600)
        data = os.urandom(3 * MIB)
        with open(self.path("mnt", "disk.raw"), "r+b") as disk:
            disk.seek(777)
            disk.write(data)
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()
        self.assertEqual(os.listdir(self.mnt), [])
        self.assertEqual(self.read(image)[777:777 + len(data)], data)
        self.assertEqual(os.path.getsize(image), 4 * MIB + 123)

    def test_over_another_file_and_over_itself(self):
        image = self.image()
        content = self.read(image)
        with open(self.path("guest"), "w") as guest:
            guest.write("below")
        for place in ("guest", "disk.img"):
            with self.subTest(place=place):
                self.bgfs("mount", "--format=raw", "disk.img", place)
                self.assertTrue(command.is_mounted(self.path(place)))
                self.assertEqual(self.read(place), content)
                with open(self.path(place), "r+b") as disk:
                    disk.write(place.encode())
                content = place.encode() + content[len(place):]
                self.assertEqual(self.read(place), content)
                self.bgfs("umount", place)
                self.assertEqual(self.read("disk.img"), content)
        self.assertEqual(self.read("guest"), b"below")
        self.assert_nothing_left()

    def test_a_chain_is_written(self):
        base = self.image("base.img")
        before = self.read(base)
        self.qcow2("top.qcow2", "-b", "base.img", "-F", "raw")
        self.bgfs("mount", "top.qcow2", "mnt")
        with open(self.path("mnt", "top.raw"), "r+b") as disk:
            disk.write(b"changed")
        self.bgfs("umount", "mnt")
        self.assertEqual(self.read(base), before)
        subprocess.run(["qemu-img", "check", "-q", "top.qcow2"],
                       cwd=self.folder, check=True, timeout=60)
        self.bgfs("mount", "--read-only", "top.qcow2", "mnt")
        self.assertEqual(self.read("mnt", "top.raw"), b"changed" + before[7:])
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_what_cannot_be_written_is_read_only_and_it_says_so(self):
        base = self.image("base.img")
        self.qcow2("top.qcow2", "-b", "base.img", "-F", "raw")
        subprocess.run(["qemu-img", "bitmap", "--add", "top.qcow2", "b0"],
                       cwd=self.folder, check=True, timeout=60)
        note = ('bgfs: "top.qcow2" is mounted read-only: the image carries '
                'persistent bitmaps, which writing in this version would make '
                'wrong; remove them (qemu-img bitmap --remove), or open it '
                'read-only\n')
        self.bgfs("mount", "top.qcow2", "mnt", stderr=note)
        self.assertEqual(self.read("mnt", "top.raw"), self.read(base))
        self.assertEqual(stat.S_IMODE(os.stat(self.path(
            "mnt", "top.raw")).st_mode), 0o400)
        with self.assertRaisesRegex(OSError, "Read-only file system"):
            os.open(self.path("mnt", "top.raw"), os.O_WRONLY)
        self.bgfs("umount", "mnt")
        self.bgfs("mount", "--read-only", "top.qcow2", "mnt")
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_read_only_leaves_the_image_alone(self):
        image = self.image()
        before = os.stat(image)
        os.chmod(image, 0o400)
        for options in (["--read-only"], ["-o", "ro"]):
            self.bgfs("mount", "--format=raw", *options, "disk.img", "mnt")
            with self.assertRaisesRegex(OSError, "Read-only file system"):
                os.open(self.path("mnt", "disk.raw"), os.O_RDWR)
            self.bgfs("umount", "mnt")
        self.assertEqual(os.stat(image).st_mtime_ns, before.st_mtime_ns)

    def test_resizable(self):
        image = self.image(size=2 * MIB)
        self.bgfs("mount", "--format=raw", "disk.img", "mnt")
        with self.assertRaisesRegex(OSError, "not permitted"):
            os.truncate(self.path("mnt", "disk.raw"), MIB)
        self.bgfs("umount", "mnt")
        self.assertEqual(os.path.getsize(image), 2 * MIB)
        self.bgfs("mount", "--format=raw", "--resizable", "disk.img", "mnt")
        os.truncate(self.path("mnt", "disk.raw"), MIB)
        with open(self.path("mnt", "disk.raw"), "ab") as disk:
            disk.write(b"end")
        self.bgfs("umount", "mnt")
        self.assertEqual(os.path.getsize(image), MIB + 3)
        self.assertEqual(self.read(image)[-3:], b"end")

    def test_serve_shows_each_export_under_its_id_or_at_its_place(self):
        self.image("base.img")
        self.image("scratch.img")
        self.qcow2("top.qcow2", "-b", "base.img", "-F", "raw")
        with open(self.path("place"), "w"):
            pass
        self.config("""
            nodes { node_name: "base" read_only: true
                    raw { file { filename: "base.img" } } }
            nodes { node_name: "top"
                    qcow2 { file { filename: "top.qcow2" } backing: "base" } }
            nodes { node_name: "scratch" discard: UNMAP
                    raw { file { filename: "scratch.img" } } }
            exports { id: "disk" node: "top" fuse {} }
            exports { id: "scratch" node: "scratch" writable: true
                      fuse { resizable: true mode: 0640 } }
            exports { id: "reader" node: "scratch"
                      fuse { mountpoint: "place" uid: 1234 gid: 4321 } }""")
        self.bgfs("serve", "graph.textproto", "mnt")
        self.assertEqual(sorted(os.listdir(self.mnt)), ["disk", "scratch"])
        self.assertEqual(self.read("mnt", "disk"), self.read("base.img"))
        with open(self.path("mnt", "scratch"), "r+b") as scratch:
            scratch.write(b"through")
        self.assertEqual(self.read("place")[:7], b"through")
        of_scratch = os.stat(self.path("mnt", "scratch"))
        self.assertEqual(stat.S_IMODE(of_scratch.st_mode), 0o640)
        of_place = os.stat(self.path("place"))
        self.assertEqual((of_place.st_uid, of_place.st_gid), (1234, 4321))

        status, = self.status("mnt")
        self.assertEqual(status["config_file"], self.path("graph.textproto"))
        self.assertEqual(status["folder"], self.mnt)
        self.assertEqual(
            [(item["id"], item["mountpoint"], item["size_bytes"],
              item["writable"], item["state"]) for item in status["exports"]],
            [("disk", self.path("mnt", "disk"), str(4 * MIB), False, "SERVING"),
             ("scratch", self.path("mnt", "scratch"), str(4 * MIB), True,
              "SERVING"),
             ("reader", self.path("place"), str(4 * MIB), False, "SERVING")])
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()
        self.assertEqual(self.read("scratch.img")[:7], b"through")

    def test_serve_without_a_folder(self):
        self.image()
        open(self.path("place"), "w").close()
        self.config("""
            nodes { node_name: "n" raw { file { filename: "disk.img" } } }
            exports { id: "e" node: "n" fuse { mountpoint: "place" } }""")
        self.bgfs("serve", "graph.textproto")
        self.assertEqual(self.read("place"), self.read("disk.img"))
        self.bgfs("umount", "place")
        self.assert_nothing_left()

    def test_mount_options(self):
        self.image()
        self.bgfs("mount", "--format=raw", "-o", "allow_other,uid=1000",
                  "-o", "gid=1001,mode=0644", "disk.img", "mnt")
        of_disk = os.stat(self.path("mnt", "disk.raw"))
        self.assertEqual((of_disk.st_uid, of_disk.st_gid), (1000, 1001))
        self.assertEqual(stat.S_IMODE(of_disk.st_mode), 0o644)
        line, = [line for line in command.mountinfo() if self.mnt in line]
        self.assertIn("allow_other", line)
        self.assertIn(" fuse.bgfs ", line)
        self.bgfs("umount", "mnt")

    def test_names_of_the_file(self):
        for image, name in (("a", "a.raw"), ("b.raw", "b.raw"),
                            ("c.d.img", "c.d.raw"), (".hidden", ".hidden.raw")):
            with self.subTest(image=image):
                self.image(image)
                self.bgfs("mount", "--format=raw", image, "mnt")
                self.assertEqual(os.listdir(self.mnt), [name])
                self.bgfs("umount", "mnt")

    def test_a_name_that_is_not_utf8(self):
        self.image(os.fsdecode(b"\xff.img"))
        self.bgfs("mount", "--format=raw", os.fsdecode(b"\xff.img"), "mnt")
        self.assertEqual(os.listdir(os.fsencode(self.mnt)), [b"\xff.raw"])
        status, = self.status("mnt")
        self.assertEqual(status["exports"][0]["mountpoint"],
                         self.mnt + r"/\xff.raw")
        self.bgfs("umount", "mnt")


@command.needs_mounts
class DaemonTest(command.CommandTest):

    def test_it_lets_go_of_everything(self):
        self.image()
        self.bgfs("mount", "--format=raw", "--pid-file=pid", "--log=log",
                  "disk.img", "mnt")
        pid, = self.daemons()
        self.assertEqual(self.read("pid"), b"%d\n" % pid)
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        self.assertEqual(os.getsid(pid), pid)
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]
        self.assertEqual(links, ["/dev/null", "/dev/null", self.path("log")])
        for fd in os.listdir(f"/proc/{pid}/fd"):
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
            self.assertRegex(link, r"\A(/dev/null|/dev/fuse|socket:|anon_inode:"
                             r"|pipe:|/sys/fs/fuse/connections/"
                             rf"|{self.folder}/)")
        socket, = os.listdir(self.path("run", "bgfs"))
        for path, mode in ((self.path("run", "bgfs"), 0o700),
                           (self.path("run", "bgfs", socket), 0o600)):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), mode)
        self.bgfs("umount", "mnt")
        self.assertFalse(os.path.exists(self.path("pid")))
        self.assertRegex(
            self.read("log").decode(),
            r'\A\d+-\d+-\d+ [\d:.]+ export "disk.raw" is at .*/mnt/disk.raw\n'
            r"\d+-\d+-\d+ [\d:.]+ ended; everything is durable\n\Z")

    def test_a_pid_file_in_use_is_left_alone(self):
        self.image()
        self.image("other.img")
        os.mkdir(self.path("other"))
        self.bgfs("mount", "--format=raw", "--pid-file=pid", "disk.img", "mnt")
        pid = self.read("pid")
        self.fails(1, f'pid file "{self.path("pid")}" is a running daemon\'s; '
                   "choose another", "mount", "--format=raw", "--pid-file=pid",
                   "other.img", "other")
        self.assertEqual(self.read("pid"), pid)
        self.bgfs("umount", "mnt")

    def test_foreground(self):
        image = self.image()
        process = subprocess.Popen(
            [command.BGFS, "mount", "--format=raw", "--foreground", image,
             self.mnt], env=self.environment, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.assertIn("is at", process.stderr.readline())
        self.assertEqual(self.daemons(), [process.pid])
        self.assertEqual(self.read("mnt", "disk.raw"), self.read(image))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=30), 0)
        self.assertIn("everything is durable", process.stderr.read())
        self.assert_nothing_left()

    def test_status(self):
        self.fails(1, 'nothing of bgfs is mounted at "mnt"', "status", "mnt")
        self.assertEqual(self.bgfs("status"), "")
        self.image()
        self.bgfs("mount", "--format=raw", "disk.img", "mnt")
        pid, = self.daemons()
        line = self.bgfs("status")
        self.assertRegex(
            line, rf"\A{self.mnt}/disk.raw  serving  rw  {4 * MIB} bytes  "
            rf"node image  (io_uring|/dev/fuse)  loop (io_uring|threads)  pid "
            rf"{pid}\n\Z")
        self.assertEqual(self.bgfs("status", "mnt"), line)
        self.assertEqual(self.bgfs("status", "mnt/disk.raw"), line)
        self.bgfs("umount", "mnt")
        self.fails(1, 'nothing of bgfs is mounted at "mnt"', "status", "mnt")

    def test_no_place_for_the_control_socket(self):
        self.image()
        open(self.path("run", "bgfs"), "w").close()
        self.fails(1, f'control folder "{self.path("run", "bgfs")}" is not a '
                   "folder of yours with mode 0700; set XDG_RUNTIME_DIR to a "
                   "folder of yours", "mount", "--format=raw", "disk.img",
                   "mnt")
        os.unlink(self.path("run", "bgfs"))
        self.assert_nothing_left()


@command.needs_mounts
class RefusalTest(command.CommandTest):
    """Clear errors; nothing written, locked or mounted afterwards."""

    def setUp(self):
        super().setUp()
        self.image()

    def tearDown(self):
        # Not locked: somebody else can have it for writing.
        subprocess.run(["qemu-io", "-f", "raw", "-c", "read 0 512",
                        self.path("disk.img")], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
        self.assert_nothing_left()
        super().tearDown()

    def test_mount_points(self):
        os.mkdir(self.path("full"))
        open(self.path("full", "file"), "w").close()
        os.mkfifo(self.path("fifo"))
        for place, message in (
            ("none", f'mount point "{self.path("none")}" does not exist: '
             "create it first"),
            ("full", f'mount point "{self.path("full")}" is not empty: give an '
             "empty folder or a file"),
            ("fifo", f'mount point "{self.path("fifo")}" is neither a folder '
             "nor a regular file"),
        ):
            with self.subTest(place=place):
                self.fails(1, message, "mount", "--format=raw", "disk.img",
                           place)
                self.assert_nothing_left()

    def test_a_mount_point_in_use(self):
        self.image("other.img")
        self.bgfs("mount", "--format=raw", "disk.img", "mnt")
        self.fails(1, f'mount point "{self.mnt}" is in use: '
                   f'{self.path("disk.img")} is mounted there; run: '
                   f"bgfs umount {self.mnt}",
                   "mount", "--format=raw", "other.img", "mnt")
        self.bgfs("umount", "mnt")

    def test_a_mount_point_whose_daemon_hangs(self):
        self.image("other.img")
        self.bgfs("mount", "--format=raw", "disk.img", "mnt")
        self.config('nodes { node_name: "n" null {} } '
                    'exports { id: "n" node: "n" fuse {} }')
        daemon = self.daemon()
        signal.pidfd_send_signal(daemon, signal.SIGSTOP)
        try:
            for command_line in (("mount", "--format=raw", "other.img", "mnt"),
                                 ("serve", "graph.textproto", "mnt")):
                done = self.run_bgfs(*command_line, timeout=30)
                self.assertEqual(done.returncode, 1)
                self.assertIn(" is in use: ", done.stderr)
        finally:
            signal.pidfd_send_signal(daemon, signal.SIGCONT)
            self.bgfs("umount", "mnt")

    def test_images(self):
        for image, options, message in (
            ("none", [], 'cannot read the image "none": No such file or '
             "directory"),
            ("mnt", [], 'cannot read the image "mnt": Is a directory'),
            ("disk.img", [], 'cannot tell the format of "disk.img": it has no '
             "known magic; if it is a raw image, say --format=raw"),
        ):
            with self.subTest(image=image):
                self.fails(1, message, "mount", *options, image, "mnt")
                self.assert_nothing_left()
        done = self.run_bgfs("mount", "--format=qcow2", "--read-only",
                             "disk.img", "mnt")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Abgfs: .*disk\.img.*\n\Z")

    def test_a_format_that_is_known_and_not_read(self):
        subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk",
                        self.path("d.vmdk"), "1M"], check=True, timeout=60)
        done = self.run_bgfs("mount", "d.vmdk", "mnt")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r'\Abgfs: cannot open "d.vmdk": .*'
                         r"(?i:vmdk).*\n\Z")

    def test_an_image_that_qemu_has_open(self):
        qemu = subprocess.Popen(
            ["qemu-io", "-f", "raw", self.path("disk.img")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            qemu.stdin.write("read 0 512\n")
            qemu.stdin.flush()
            while "bytes" not in qemu.stdout.readline():
                pass
            done = self.run_bgfs("mount", "--format=raw", "disk.img", "mnt")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(
                done.stderr, r"\Abgfs: .*disk\.img.*"
                rf"qemu-io \(pid {qemu.pid}\).*\n\Z")
            self.assert_nothing_left()
            self.bgfs("mount", "--format=raw", "--force-share", "disk.img",
                      "mnt")
            self.assertEqual(self.read("mnt", "disk.raw"),
                             self.read("disk.img"))
            with self.assertRaisesRegex(OSError, "Read-only file system"):
                os.open(self.path("mnt", "disk.raw"), os.O_RDWR)
            self.bgfs("umount", "mnt")
        finally:
            qemu.stdin.close()
            qemu.wait(timeout=30)
            qemu.stdout.close()

    def test_qemu_respects_us(self):
        self.bgfs("mount", "--format=raw", "disk.img", "mnt")
        done = subprocess.run(
            ["qemu-io", "-f", "raw", "-c", "write 0 512",
             self.path("disk.img")], capture_output=True, text=True,
            timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("lock", done.stderr)
        self.bgfs("umount", "mnt")

    def test_a_header_that_leads_elsewhere(self):
        os.mkdir(self.path("elsewhere"))
        self.image("elsewhere/base.img")
        self.qcow2("top.qcow2", "-b", self.path("elsewhere/base.img"),
                   "-F", "raw")
        done = self.run_bgfs("mount", "--read-only", "top.qcow2", "mnt")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Abgfs: .*--allow-implicit.*\n\Z")
        self.assert_nothing_left()
        self.bgfs("mount", "--read-only", "--allow-implicit=elsewhere",
                  "top.qcow2", "mnt")
        self.assertEqual(self.read("mnt", "top.raw"),
                         self.read("elsewhere", "base.img"))
        self.bgfs("umount", "mnt")

    def test_a_warning_for_a_backing_format_that_was_guessed(self):
        self.qcow2("base.qcow2", "1M")
        top = self.qcow2("top.qcow2", "-b", "base.qcow2", "-F", "qcow2")
        with open(top, "r+b") as image:
            start = image.read(512)
            # The header extension that names the format becomes an unknown one.
            image.seek(start.index(b"\xe2\x79\x2a\xca"))
            image.write(b"\x12\x34\x56\x78")
        done = self.run_bgfs("mount", "--read-only", "top.qcow2", "mnt")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"\Abgfs: warning: .*base\.qcow2.*\n\Z")
        self.bgfs("umount", "mnt")

    def test_serve_fails_as_a_whole(self):
        self.config("""
            nodes { node_name: "a" raw { file { filename: "disk.img" } } }
            nodes { node_name: "b" memory { size: "1M" } }
            exports { id: "a" node: "a" writable: true fuse {} }
            exports { id: "b" node: "b" fuse { mountpoint: "none" } }""")
        self.fails(1, f'mount point "{self.path("none")}" does not exist: '
                   "create it first", "serve", "graph.textproto", "mnt")
        self.assert_nothing_left()
        self.assertEqual(os.listdir(self.mnt), [])

    def test_serve_needs_a_folder(self):
        self.config("""
            nodes { node_name: "b" memory { size: "1M" } }
            exports { id: "b" node: "b" fuse {} }""")
        self.fails(1, 'export "b" has no mountpoint: give the folder where it '
                   "appears", "serve", "graph.textproto")
        self.fails(1, 'mount point "disk.img" is not a folder: give an empty '
                   "folder", "serve", "graph.textproto", "disk.img")


if __name__ == "__main__":
    command.main()
