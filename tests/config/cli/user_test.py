"""What an ordinary user can do: through fusermount3, and in a user namespace,
where he is root and mounts himself."""

import json
import os
import stat
import subprocess

import command

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
             "--clear-groups"]


def open_to_all():
    """A /dev/fuse that everybody may open, in this mount namespace."""
    device = os.stat("/dev/fuse")
    if stat.S_IMODE(device.st_mode) & 0o666 == 0o666:
        return
    os.mknod("/run/fuse", stat.S_IFCHR, device.st_rdev)
    os.chmod("/run/fuse", 0o666)
    subprocess.run(["mount", "--bind", "/run/fuse", "/dev/fuse"], timeout=60,
                   check=True)


class UserTest(command.CommandTest):
    """Runs bgfs and shells as an ordinary user: `self.prefix` makes them so."""

    prefix = AS_NOBODY

    def setUp(self):
        if subprocess.run([*AS_NOBODY, command.BGFS, "--version"], timeout=60,
                          capture_output=True, check=False).returncode != 0:
            self.skipTest(f"needs {command.BGFS} to be open to all users")
        super().setUp()
        open_to_all()
        self.image("a.img")
        self.image("b.img")
        self.qcow2("c.qcow2", "16M")
        for path in ("", "run", "mnt", "a.img", "b.img", "c.qcow2"):
            os.chown(self.path(path), NOBODY, NOBODY)

    def run_bgfs(self, *arguments, timeout=60):
        return subprocess.run(
            [*self.prefix, command.BGFS, *arguments], env=self.environment,
            cwd=self.folder, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=timeout, check=False)

    def shell(self, line):
        return subprocess.run([*self.prefix, "sh", "-c", line],
                              cwd=self.folder, timeout=60, check=True,
                              stdout=subprocess.PIPE).stdout

    def doctor(self):
        done = self.run_bgfs("doctor", "--json")
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def check_uses_images(self):
        """Raw and qcow2 are mounted, used and unmounted, over whatever is to be
        had: that which doctor tells of, and /dev/fuse."""
        said = self.doctor()["transport"]
        self.assertNotEqual(said, "")
        ways = [("auto", said), ("dev", "/dev/fuse")]
        if said == "io_uring":
            ways.append(("io_uring", said))
        for form, image in (("raw", "a.img"), ("qcow2", "c.qcow2")):
            for transport, carried in ways:
                with self.subTest(form=form, transport=transport):
                    self.check_uses(form, image, transport, carried)

    def check_uses(self, form, image, transport, carried):
        self.bgfs("mount", f"--format={form}", f"--transport={transport}",
                  image, "mnt")
        file = f"mnt/{image.split('.')[0]}.raw"
        status, = self.status("mnt")
        self.assertEqual(status["exports"][0]["transport"], carried)
        self.shell("head -c 3000000 /dev/urandom > data && "
                   f"dd if=data of={file} bs=64k conv=notrunc,fsync "
                   "oflag=seek_bytes seek=12345 status=none && "
                   f"tail -c +12346 {file} | cmp -n 3000000 - data")
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()
        if form == "qcow2":
            subprocess.run(["qemu-img", "check", "-q", self.path(image)],
                           timeout=60, check=True)
            subprocess.run(["qemu-img", "convert", "-O", "raw",
                            self.path(image), self.path("plain")],
                           timeout=60, check=True)
        content = self.read("plain" if form == "qcow2" else image)
        self.assertEqual(content[12345:3012345], self.read("data"))


@command.needs_mounts
class OrdinaryUserTest(UserTest):

    def test_images(self):
        self.check_uses_images()

    def test_fusermount_ends_it_too(self):
        self.bgfs("mount", "c.qcow2", "mnt")
        self.shell("printf user | dd of=mnt/c.raw conv=notrunc status=none")
        daemon = self.daemon()
        self.shell("fusermount3 -u mnt")
        command.wait_for_exit(daemon)
        self.assert_nothing_left()
        self.bgfs("mount", "--read-only", "c.qcow2", "mnt")
        self.assertEqual(self.shell("head -c 4 mnt/c.raw"), b"user")
        self.bgfs("umount", "mnt")

    def test_exports_come_and_go(self):
        self.config('''
            nodes { node_name: "a" raw { file { filename: "a.img" } } }
            exports { id: "a" node: "a" writable: true fuse {} }''')
        self.bgfs("serve", "graph.textproto", "mnt")
        self.bgfs("node", "insert", 'node_name: "f" throttle { limits { '
                  'iops_total: 10000 } }', "a")
        self.bgfs("export", "add", 'id: "b" node: "f" fuse {}')
        self.assertEqual(self.shell("ls mnt"), b"a\nb\n")
        self.shell("printf user | dd of=mnt/a conv=notrunc status=none")
        self.assertEqual(self.shell("head -c 4 mnt/b"), b"user")
        self.bgfs("export", "remove", "b")
        self.assertEqual(self.shell("ls mnt"), b"a\n")
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def test_who_has_it_open_is_named(self):
        self.bgfs("mount", "c.qcow2", "mnt")
        with subprocess.Popen([*self.prefix, "tail", "-f", "mnt/c.raw"],
                              cwd=self.folder,
                              stdout=subprocess.PIPE) as holder:
            holder.stdout.read(1)  # Then it has the file open.
            self.fails(1, f'cannot unmount "{self.mnt}": in use by tail (pid '
                       f"{holder.pid}, open file); end that, or use --force",
                       "umount", "mnt")
            holder.kill()
        self.bgfs("umount", "mnt")

    def test_without_fusectl(self):
        """A connection over io_uring could not be closed, so there is none."""
        had = self.doctor()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs",
                        "/sys/fs/fuse/connections"], timeout=60, check=True)
        try:
            said = self.doctor()
            self.assertEqual(said["transport"], "/dev/fuse")
            # Where there was none before, that is why, first of all.
            self.assertIn("no fusectl file system"
                          if had["transport"] == "io_uring" else had["reason"],
                          said["reason"])
            self.check_uses("qcow2", "c.qcow2", "auto", "/dev/fuse")
        finally:
            subprocess.run(["umount", "/sys/fs/fuse/connections"], timeout=60,
                           check=True)

    def test_mount(self):
        for place, file in (("mnt", "mnt/a.raw"), ("a.img", "a.img")):
            with self.subTest(place=place):
                self.bgfs("mount", "--format=raw", "a.img", place)
                self.shell(f"printf {place} | dd of={file} conv=notrunc "
                           "status=none")
                self.bgfs("umount", place)
                self.assertEqual(self.read("a.img")[:len(place)],
                                 place.encode())
                self.assert_nothing_left()

    def test_serve(self):
        self.config("""
            nodes { node_name: "a" raw { file { filename: "a.img" } } }
            nodes { node_name: "b" raw { file { filename: "b.img" } } }
            exports { id: "a" node: "a" writable: true fuse {} }
            exports { id: "b" node: "b" fuse {} }""")
        self.bgfs("serve", "graph.textproto", "mnt")
        self.assertEqual(self.shell("cat mnt/b"), self.read("b.img"))
        self.shell("printf user | dd of=mnt/a conv=notrunc status=none")
        self.bgfs("umount", "mnt")
        self.assertEqual(self.read("a.img")[:4], b"user")
        self.assertEqual(os.listdir(self.mnt), [])
        self.assert_nothing_left()

    def test_serve_over_files_that_are_in_the_way(self):
        with open(self.path("mnt", "a"), "w") as file:
            file.write("mine")
        os.chown(self.path("mnt", "a"), NOBODY, NOBODY)
        self.config("""
            nodes { node_name: "a" raw { file { filename: "a.img" } } }
            exports { id: "a" node: "a" fuse {} }""")
        self.fails(1, f'"{self.path("mnt", "a")}" is in the way: give an empty '
                   "folder", "serve", "graph.textproto", "mnt")
        self.assertEqual(self.read("mnt", "a"), b"mine")

    def test_root_knows_that_it_is_somebody_elses(self):
        self.bgfs("mount", "--format=raw", "a.img", "mnt")
        environment = dict(self.environment, XDG_RUNTIME_DIR="/run")
        done = subprocess.run([command.BGFS, "umount", self.mnt],
                              env=environment, capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(
            (done.returncode, done.stderr),
            (1, f'bgfs: no daemon answers for "{self.mnt}": it may be another '
             "user's; umount(8) ends it too, but waits for nothing\n"))
        self.bgfs("umount", "mnt")


@command.needs_mounts
class UserNamespaceTest(UserTest):
    """In a user and mount namespace of his own, as its root."""

    def setUp(self):
        super().setUp()
        self.enter("--map-root-user")

    def enter(self, *mapping):
        """What runs from now on does so in a new namespace."""
        holder = subprocess.Popen(
            [*AS_NOBODY, "unshare", "--user", *mapping, "--mount", "sh", "-c",
             "echo ready && exec cat"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        self.addCleanup(holder.wait, timeout=60)
        self.addCleanup(holder.stdin.close)
        self.addCleanup(holder.stdout.close)
        if holder.stdout.readline() != b"ready\n":
            self.skipTest("needs user namespaces for ordinary users")
        self.prefix = [*AS_NOBODY, "nsenter", f"--target={holder.pid}",
                       "--user", "--mount", "--preserve-credentials",
                       f"--wdns={self.folder}"]

    def test_images(self):
        self.check_uses_images()

    def test_over_the_image_itself_and_for_all(self):
        self.bgfs("mount", "--format=raw", "-o", "allow_other", "a.img",
                  "a.img")
        self.shell("printf user | dd of=a.img conv=notrunc status=none")
        self.bgfs("umount", "a.img")
        self.assertEqual(self.read("a.img")[:4], b"user")
        self.assert_nothing_left()

    def test_serve(self):
        self.config("""
            nodes { node_name: "a" raw { file { filename: "a.img" } } }
            nodes { node_name: "c" qcow2 { file { filename: "c.qcow2" } } }
            exports { id: "a" node: "a" writable: true fuse {} }
            exports { id: "c" node: "c" writable: true fuse {} }""")
        self.bgfs("serve", "graph.textproto", "mnt")
        self.shell("printf user | dd of=mnt/a conv=notrunc status=none && "
                   "cp --sparse=never mnt/a copy && "
                   "dd if=mnt/a of=mnt/c conv=notrunc status=none")
        self.assertEqual(self.read("copy")[:4], b"user")
        self.bgfs("umount", "mnt")
        self.assertEqual(self.read("copy"), self.read("a.img"))
        self.assert_nothing_left()

    def test_from_outside_he_is_told_where_it_is(self):
        self.bgfs("mount", "--format=raw", "a.img", "mnt")
        self.shell("printf user | dd of=mnt/a.raw conv=notrunc status=none")
        daemon = self.daemon()
        pid, = self.daemons()
        self.prefix = AS_NOBODY
        for verb in ("status", "umount"):
            self.fails(1, 'nothing of bgfs is mounted at "mnt" in this mount '
                       f"namespace: process {pid} shows it in its own; run "
                       f"bgfs there (nsenter), or: kill {pid}", verb, "mnt")
        self.shell(f"kill {pid}")
        command.wait_for_exit(daemon)
        self.assertEqual(self.read("a.img")[:4], b"user")
        self.assert_nothing_left()

    def test_not_as_its_root(self):
        self.enter("--map-current-user")
        what = ("fusermount3, which mounts for ordinary users, is not root in "
                "this user namespace")
        done = self.run_bgfs("doctor")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.splitlines()[:2], [
            f"no mount works here: {what}",
            f"missing: {what}: enter it as its root (unshare --user "
            "--map-root-user --mount), who needs none"])
        done = self.run_bgfs("mount", "c.qcow2", "mnt")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stderr.splitlines()[-1],
            f'bgfs: cannot mount at "{self.mnt}": fusermount3 says above why; '
            "bgfs doctor may say what to do")


if __name__ == "__main__":
    command.main()
