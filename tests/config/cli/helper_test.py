"""mount(8) and umount(8) on an installed bgfs: `cmake --install` into a folder
that then lies over this mount namespace's /usr."""

import os
import re
import signal
import shutil
import subprocess
import tempfile
import unittest

import command

FOLDERS = ("bin", "sbin")


def install(prefix):
    subprocess.run([os.environ.get("CMAKE", "cmake"), "--install",
                    os.environ.get("BGFS_BUILD", "build/release"), "--prefix",
                    prefix], timeout=60, check=True, capture_output=True)


def utab():
    try:
        with open("/run/mount/utab") as lines:
            return lines.read()
    except FileNotFoundError:
        return ""


@command.needs_mounts
class HelperTest(command.CommandTest):

    @classmethod
    def setUpClass(cls):
        cls.prefix = tempfile.mkdtemp(prefix="bgfs-prefix-")
        cls.addClassCleanup(shutil.rmtree, cls.prefix)
        install(cls.prefix)
        for name in FOLDERS:
            mounted = subprocess.run(
                ["mount", "-t", "overlay", "overlay", "-o",
                 f"ro,lowerdir={cls.prefix}/{name}:/usr/{name}",
                 f"/usr/{name}"], timeout=60, capture_output=True, text=True,
                check=False)
            if mounted.returncode != 0 or not os.path.exists(
                    f"/{name}/bgfs" if name == "bin"
                    else "/sbin/mount.fuse.bgfs"):
                raise unittest.SkipTest("needs overlayfs and a merged /usr: "
                                        f"{mounted.stderr}")
            # What runs from there may still be on its way to its end.
            cls.addClassCleanup(subprocess.run,
                                ["umount", "-l", f"/usr/{name}"], timeout=60,
                                check=True)

    def system(self, *words):
        return subprocess.run(words, env=self.environment, cwd=self.folder,
                              timeout=60, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, check=False)

    def works(self, *words):
        done = self.system(*words)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, "", ""))

    def test_installs_relative_links(self):
        for name in ("mount.fuse.bgfs", "mount.bgfs", "umount.fuse.bgfs"):
            self.assertEqual(os.readlink(f"{self.prefix}/sbin/{name}"),
                             "../bin/bgfs")

    def test_mount_and_umount(self):
        self.image()
        for kind in ("fuse.bgfs", "bgfs"):
            with self.subTest(kind=kind):
                self.works("mount", "-t", kind, self.path("disk.img"),
                           self.mnt, "-o", "format=raw")
                with open(self.path("mnt", "disk.raw"), "r+b") as file:
                    file.write(kind.encode())
                daemon = self.daemon()
                self.works("umount", self.mnt)
                command.wait_for_exit(daemon, 0)  # It has waited.
                self.assertTrue(self.read("disk.img").startswith(kind.encode()))
                self.assertNotIn(self.mnt, utab())
                self.assert_nothing_left()

    def test_read_only(self):
        self.image()
        self.works("mount", "-t", "fuse.bgfs", "disk.img", self.mnt, "-r",
                   "-o", "format=raw")
        with self.assertRaises(OSError):
            open(self.path("mnt", "disk.raw"), "r+b")
        self.works("umount", self.mnt)
        self.assert_nothing_left()

    def test_fstab(self):
        self.image()
        with open(self.path("fstab"), "w") as fstab:
            fstab.write(f"{self.path('disk.img')} {self.mnt} fuse.bgfs "
                        "defaults,nofail,_netdev,x-systemd.requires=x,noatime,"
                        "format=raw,resizable,mode=640 0 0\n")
        self.works("mount", "-T", self.path("fstab"), self.mnt)
        file = self.path("mnt", "disk.raw")
        self.assertEqual(os.stat(file).st_mode & 0o777, 0o640)
        os.truncate(file, 123)
        self.works("umount", self.mnt)
        self.assertEqual(len(self.read("disk.img")), 123)
        self.assert_nothing_left()

    def test_errors_are_one_line_and_mounts_statuses(self):
        self.image()
        done = self.system("mount", "-t", "fuse.bgfs", "nothing", self.mnt)
        self.assertEqual(done.returncode, 32)
        self.assertRegex(done.stderr, r"\Abgfs: [^\n]*nothing[^\n]*\n\Z")
        done = self.system("mount", "-t", "fuse.bgfs", "disk.img", self.mnt,
                           "-o", "frob")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r'\Abgfs: [^\n]*"frob"[^\n]*\n\Z')
        self.assertEqual(utab(), "")
        self.assert_nothing_left()

    def test_fake(self):
        self.works("mount", "-f", "-t", "fuse.bgfs", "nothing", self.mnt)
        self.assert_nothing_left()

    def test_umount_of_what_is_in_use(self):
        self.image()
        self.works("mount", "-t", "fuse.bgfs", "disk.img", self.mnt, "-o",
                   "format=raw")
        with open(self.path("mnt", "disk.raw"), "rb"):
            done = self.system("umount", self.mnt)
            self.assertEqual(done.returncode, 32)
            self.assertRegex(done.stderr, r"in use by python\S* \(pid \d+")
            self.assertTrue(command.is_mounted(self.mnt))
            daemon = self.daemon()
            self.works("umount", "-l", self.mnt)
            self.assertFalse(command.is_mounted(self.mnt))
            self.assertEqual(len(self.daemons()), 1)
        command.wait_for_exit(daemon)
        self.assertNotIn(self.mnt, utab())
        self.assert_nothing_left()

    def test_umount_with_force(self):
        self.image()
        self.works("mount", "-t", "fuse.bgfs", "disk.img", self.mnt, "-o",
                   "format=raw")
        with open(self.path("mnt", "disk.raw"), "rb", buffering=0) as file:
            self.works("umount", "-f", self.mnt)
            with self.assertRaises(OSError):
                file.read(1)
        self.assert_nothing_left()

    def test_bgfs_umount_tidies_the_table(self):
        self.image()
        self.works("mount", "-t", "fuse.bgfs", "disk.img", self.mnt, "-o",
                   "format=raw")
        self.assertIn(f"TARGET={self.mnt} ", utab())
        self.bgfs("umount", self.mnt)
        self.assertNotIn(self.mnt, utab())

    def test_a_daemon_that_died_is_told(self):
        self.image()
        self.works("mount", "-t", "fuse.bgfs", "disk.img", self.mnt, "-o",
                   "format=raw")
        daemon = self.daemon()
        signal.pidfd_send_signal(daemon, signal.SIGKILL)
        command.wait_for_exit(daemon)
        done = self.system("umount", self.mnt)
        self.assertEqual(done.returncode, 32)
        self.assertIn("had died: unmounted now", done.stderr)
        self.assertFalse(command.is_mounted(self.mnt))

    def test_one_of_several_exports(self):
        """Asked for by a path that is not absolute, umount(8) calls the helper
        for mounts that it did not make."""
        self.image("a.img")
        self.config("""
            nodes { node_name: "a" raw { file { filename: "a.img" } } }
            exports { id: "one" node: "a" fuse {} }
            exports { id: "two" node: "a" fuse {} }""")
        self.bgfs("serve", "graph.textproto", "mnt")
        self.works("umount", "mnt/one")
        self.assertFalse(command.is_mounted(self.path("mnt", "one")))
        self.assertTrue(command.is_mounted(self.path("mnt", "two")))
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    @unittest.skipUnless(shutil.which("systemd-analyze"),
                         "needs systemd-analyze")
    def test_the_unit_is_one(self):
        unit = f"{self.prefix}/lib/systemd/system/bgfs@.service"
        with open(unit) as file:
            text = file.read()
        self.assertIn(f"ExecStart={self.prefix}/bin/bgfs serve --foreground ",
                      text)
        self.assertEqual(re.findall("@[A-Z_]+@", text), [])
        self.works("systemd-analyze", "verify", "--man=no", unit)


if __name__ == "__main__":
    command.main()
