"""What an ordinary user can do, through fusermount3."""

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


@command.needs_mounts
class OrdinaryUserTest(command.CommandTest):

    def setUp(self):
        if subprocess.run([*AS_NOBODY, command.BGFS, "--version"], timeout=60,
                          capture_output=True, check=False).returncode != 0:
            self.skipTest(f"needs {command.BGFS} to be open to all users")
        super().setUp()
        open_to_all()
        self.image("a.img")
        self.image("b.img")
        for path in ("", "run", "mnt", "a.img", "b.img"):
            os.chown(self.path(path), NOBODY, NOBODY)

    def run_bgfs(self, *arguments, timeout=60):
        return subprocess.run(
            [*AS_NOBODY, command.BGFS, *arguments], env=self.environment,
            cwd=self.folder, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=timeout, check=False)

    def shell(self, line):
        return subprocess.run([*AS_NOBODY, "sh", "-c", line], cwd=self.folder,
                              timeout=60, check=True,
                              stdout=subprocess.PIPE).stdout

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


if __name__ == "__main__":
    command.main()
