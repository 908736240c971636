"""Bad input gives one line that says what to do, and leaves nothing behind."""

import os
import pathlib
import shutil
import struct
import subprocess

from harness import (BGFS, MIB, Test, bgfs, digest, main, mount_points, run,
                     wait_until)


class BadInput(Test):

    def refused(self, *arguments, status=1):
        """Runs bgfs, which must fail with one line; gives that line."""
        done = bgfs(*arguments, check=False, timeout=30)
        self.assertEqual(done.returncode, status, done.stderr)
        lines = done.stderr.strip().split("\n")
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("bgfs: "), lines[0])
        self.assertEqual(mount_points(self.folder), [])
        return lines[0]

    def refused_untouched(self, image, *arguments):
        """Refused, and the image is as it was, and free for everybody."""
        before = image.read_bytes()
        line = self.refused(*arguments)
        self.assertEqual(image.read_bytes(), before)
        run("qemu-io", "-f", "raw", "-c", "read 0 512", image)
        return line

    def mount_folder(self):
        folder = self.path("mnt")
        folder.mkdir(exist_ok=True)
        return folder

    def qcow2(self, name="top.qcow2", *options):
        image = self.path(name)
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, image, "4M")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", image)
        return image

    def test_mount_point(self):
        image = self.raw_image("disk.img", MIB)
        missing = self.path("missing")
        self.assertIn(str(missing), self.refused_untouched(
            image, "mount", "--format=raw", image, missing))
        full = self.path("full")
        full.mkdir()
        (full / "something").touch()
        self.assertIn("not empty", self.refused_untouched(
            image, "mount", "--format=raw", image, full))
        self.assertEqual(os.listdir(full), ["something"])

    def test_mount_point_in_use(self):
        image = self.raw_image("disk.img", MIB)
        other = self.raw_image("other.img", MIB)
        with self.mounted(other, "--format=raw") as file:
            done = bgfs("mount", "--format=raw", image, file.parent,
                        check=False, timeout=30)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr,
                             r"\Abgfs: mount point .* is in use: .*\n\Z")
            self.assertEqual(os.listdir(file.parent), [file.name])
            run("qemu-io", "-f", "raw", "-c", "write 0 512", image)

    def test_image_that_an_ordinary_user_may_not_read(self):
        nobody = 65534
        image = self.raw_image("secret.img", MIB)
        image.chmod(0o600)
        folder = self.mount_folder()
        # Whoever runs the tests may have put the program where only root goes.
        program = self.path("bgfs")
        shutil.copy(BGFS, program)
        runtime = self.path("runtime")
        runtime.mkdir(mode=0o700)
        self.folder.chmod(0o755)
        for path in (folder, runtime):
            os.chown(path, nobody, nobody)
        for options in ([], ["--read-only"], ["--format=raw"],
                        ["--format=qcow2", "--read-only"]):
            with self.subTest(options=options):
                done = run("setpriv", f"--reuid={nobody}", f"--regid={nobody}",
                           "--clear-groups", program, "mount", *options, image,
                           folder, check=False, timeout=30,
                           env=dict(os.environ, XDG_RUNTIME_DIR=str(runtime)))
                self.assertEqual(done.returncode, 1)
                self.assertRegex(
                    done.stderr,
                    r"\Abgfs: .*secret\.img.*Permission denied.*\n\Z")
                self.assertEqual(mount_points(self.folder), [])
                self.assertEqual(image.read_bytes(), bytes(MIB))
        run("qemu-io", "-f", "raw", "-c", "write 0 512", image)

    def test_missing_unreadable_and_folder_images(self):
        folder = self.mount_folder()
        line = self.refused("mount", "--format=raw", self.path("no.img"),
                            folder)
        self.assertIn("No such file", line)
        self.assertIn("no.img", line)
        self.assertIn("directory", self.refused(
            "mount", "--format=raw", self.folder, folder).lower())

    def test_no_magic_needs_format(self):
        image = self.raw_image("disk.img", MIB)
        self.assertIn("--format=raw",
                      self.refused("mount", image, self.mount_folder()))

    def test_options_that_have_no_such_value(self):
        for option, values in (("--transport=fast", "{auto,io_uring,dev}"),
                               ("--format=vhd", "{raw,qcow2}")):
            done = bgfs("mount", option, "a", "b", check=False)
            self.assertEqual(done.returncode, 2)
            name, value = option.split("=")
            self.assertEqual(
                done.stderr, f"bgfs: mount: {name}: {value} not in {values}; "
                "see: bgfs help mount\n")

    def test_garbled_and_truncated_headers(self):
        good = self.qcow2().read_bytes()
        folder = self.mount_folder()
        for i in range(60):
            data = bytearray(good)
            if i % 3 == 0:
                del data[self.random.randrange(4, 600):]
            else:
                for _ in range(self.random.randrange(1, 6)):
                    data[self.random.randrange(4, 112)] = \
                        self.random.randrange(256)
            bad = self.path("bad.qcow2")
            bad.write_bytes(data)
            done = bgfs("mount", "--read-only", bad, folder, check=False,
                        timeout=20)
            if done.returncode == 0:
                file = folder / os.listdir(folder)[0]
                run("dd", f"if={file}", "of=/dev/null", "bs=1M", "count=4",
                    check=False, timeout=20)
                bgfs("umount", folder)
            else:
                self.assertEqual(done.returncode, 1)
                self.assertEqual(len(done.stderr.strip().split("\n")), 1,
                                 done.stderr)
            self.assertEqual(bad.read_bytes(), bytes(data))
            self.assertEqual(mount_points(self.folder), [])

    def test_tables_outside_the_file(self):
        image = self.qcow2()
        with open(image, "r+b") as file:
            file.seek(40)
            l1, = struct.unpack(">Q", file.read(8))
            file.seek(l1)
            file.write(struct.pack(">Q", (1 << 63) | (1 << 40)))
        with self.mounted(image, "--read-only") as file:
            with self.assertRaises(OSError):
                file.read_bytes()
        with open(image, "r+b") as file:
            file.seek(40)
            file.write(struct.pack(">Q", 1 << 50))
        self.refused_untouched(image, "mount", "--read-only", image,
                               self.mount_folder())

    def test_loop_in_a_chain(self):
        a, b = self.qcow2("a.qcow2"), self.qcow2("b.qcow2")
        run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", "b.qcow2", a)
        run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", "a.qcow2", b)
        self.assertIn("loop", self.refused("mount", "--read-only", a,
                                           self.mount_folder()))

    def test_1_pib_with_512_byte_clusters(self):
        image = self.qcow2("top.qcow2", "-o", "cluster_size=512")
        with open(image, "r+b") as file:
            file.seek(24)
            file.write(struct.pack(">Q", 1 << 50))
        self.refused_untouched(image, "mount", "--read-only", image,
                               self.mount_folder())

    def test_backing_file_elsewhere(self):
        other = self.path("other")
        other.mkdir()
        base = other / "base.img"
        base.write_bytes(bytes(range(256)) * 4096)
        top = self.path("top.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
            base, top)
        folder = self.mount_folder()
        line = self.refused("mount", top, folder)
        self.assertIn("--allow-implicit=", line)
        with self.mounted(top, f"--allow-implicit={other}") as file:
            self.assertEqual(digest(file), digest(base))
        # A symbolic link does not lead out of the folder either.
        (self.path("link.img")).symlink_to(base)
        run("qemu-img", "rebase", "-u", "-F", "raw", "-b", "link.img", top)
        self.refused("mount", top, folder)

    def test_locked_by_qemu(self):
        image = self.raw_image("disk.img", MIB)
        folder = self.mount_folder()
        holder = subprocess.Popen(
            ["qemu-io", "-f", "raw", str(image)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        try:
            locks = pathlib.Path(f"/proc/{holder.pid}/fdinfo")
            wait_until(lambda: any("OFDLCK" in fd.read_text()
                                   for fd in locks.iterdir()), "QEMU's lock")
            before = image.read_bytes()
            line = self.refused("mount", "--format=raw", image, folder)
            self.assertEqual(image.read_bytes(), before)
            self.assertIn("qemu-io", line)
            self.assertIn(str(holder.pid), line)
            with self.mounted(image, "--format=raw", "--force-share",
                              "--read-only") as file:
                self.assertEqual(os.stat(file).st_size, MIB)
        finally:
            holder.communicate(b"quit\n")
        with self.mounted(image, "--format=raw"):
            done = run("qemu-io", "-f", "raw", "-c", "write 0 512", image,
                       check=False)
            self.assertIn("lock", done.stderr + done.stdout)
        run("qemu-io", "-f", "raw", "-c", "write 0 512", image)


if __name__ == "__main__":
    main()
