"""Images that are not as `qemu-img create` makes them: what is written to them
arrives and what they held beside stays, or they are refused by name."""

import errno
import json
import os
import struct

from harness import MIB, Test, bgfs, digest, main, run

SIZE = 16 * MIB


class UnusualImages(Test):

    def image(self, *options, name="disk.qcow2"):
        path = self.path(name)
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, path, SIZE)
        return path

    def filled(self, *options):
        """An image of random bytes, and a raw file that has the same."""
        raw = self.path("disk.raw")
        raw.write_bytes(self.random.randbytes(SIZE))
        path = self.path("disk.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", *options, raw, path)
        return path, raw

    def write_some(self, *files):
        """The same random bytes to the same places of each."""
        for _ in range(50):
            at = self.random.randrange(SIZE - 100000)
            data = self.random.randbytes(self.random.randrange(1, 100000))
            for path in files:
                with open(path, "r+b", buffering=0) as file:
                    file.seek(at)
                    self.assertEqual(file.write(data), len(data))

    def check_written(self, image, raw):
        """Writes to the image and its model, and compares."""
        with self.mounted(image) as file:
            self.assertEqual(digest(file), digest(raw))
            self.write_some(file, raw)
            self.assertEqual(digest(file), digest(raw))
        run("qemu-img", "check", image)
        run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, raw)

    def refused(self, image, *options):
        folder = self.path("refused")
        folder.mkdir(exist_ok=True)
        done = bgfs("mount", *options, image, folder, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def only_read(self, image, raw, *words):
        """It is shown, one line says why nobody may write, and nothing does."""
        held = image.read_bytes()
        folder = self.path("only-read")
        folder.mkdir(exist_ok=True)
        line = bgfs("mount", image, folder).stderr
        file = folder / "disk.raw"
        self.assertEqual(digest(file), digest(raw))
        with self.assertRaises(OSError) as raised:
            os.open(file, os.O_RDWR)
        self.assertEqual(raised.exception.errno, errno.EROFS)
        bgfs("umount", folder)
        self.assertEqual(line.count("\n"), 1, line)
        for word in words:
            self.assertIn(word, line)
        self.assertEqual(image.read_bytes(), held)

    def test_cluster_and_refcount_sizes(self):
        for options in ("cluster_size=512", "cluster_size=2M",
                        "refcount_bits=1", "refcount_bits=64", "compat=0.10",
                        "cluster_size=512,refcount_bits=64",
                        "lazy_refcounts=on"):
            with self.subTest(options):
                self.check_written(*self.filled("-o", options))

    def test_compressed_clusters(self):
        for kind in ("zlib", "zstd"):
            with self.subTest(kind):
                self.check_written(
                    *self.filled("-c", "-o", f"compression_type={kind}"))

    def test_snapshots_keep_what_they_hold(self):
        image, raw = self.filled()
        run("qemu-img", "snapshot", "-c", "before", image)
        before = digest(raw)
        self.check_written(image, raw)
        kept = self.path("kept.raw")
        run("qemu-img", "convert", "-l", "before", "-O", "raw", image, kept)
        self.assertEqual(digest(kept), before)

    def test_bitmaps_are_not_made_untrue(self):
        image, raw = self.filled()
        run("qemu-img", "bitmap", "--add", image, "changes")
        self.only_read(image, raw, "bitmaps", "qemu-img bitmap --remove")

    def test_a_dirty_image_is_repaired_to_be_written(self):
        image = self.image("-o", "lazy_refcounts=on")
        run("qemu-io", "-c", "write -P 7 0 1M", "-c", "flush", "-c",
            "sigraise 9", image, check=False)
        self.assertEqual(image.read_bytes()[72:80], struct.pack(">Q", 1))
        raw = self.raw_image("disk.raw", SIZE)
        with open(raw, "r+b") as file:
            file.write(b"\7" * MIB)
        with self.mounted(image, "--read-only") as file:
            self.assertEqual(digest(file), digest(raw))
        self.assertEqual(image.read_bytes()[72:80], struct.pack(">Q", 1))
        self.check_written(image, raw)
        self.assertEqual(image.read_bytes()[72:80], bytes(8))

    def test_a_corrupt_image_is_only_read(self):
        image, raw = self.filled()
        with open(image, "r+b") as file:
            file.seek(72)
            file.write(struct.pack(">Q", 2))
        self.only_read(image, raw, "corrupt", "bgfs check --repair=all")
        # It is sound, so a repair takes the mark away.
        bgfs("check", "--repair=all", image)
        self.check_written(image, raw)

    def test_what_this_version_cannot_do_is_named(self):
        extended = self.image("-o", "extended_l2=on", name="extended.qcow2")
        self.assertIn("extended L2", self.refused(extended, "--read-only"))
        data = self.path("data.raw")
        external = self.image("-o", f"data_file={data}", name="external.qcow2")
        self.assertIn("data file", self.refused(external, "--read-only"))
        secret = self.path("secret")
        secret.write_text("secret")
        encrypted = self.path("encrypted.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "--object",
            f"secret,id=s,file={secret}", "-o",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            encrypted, SIZE)
        self.assertIn("encrypt", self.refused(encrypted, "--read-only"))

    def test_unknown_features_by_the_name_in_the_header(self):
        image, raw = self.filled()
        with open(image, "r+b") as file:
            file.seek(88)  # Autoclear: may be read and, cleared, written.
            file.write(struct.pack(">Q", 1 << 40))
        self.check_written(image, raw)
        with open(image, "r+b") as file:
            file.seek(72)
            file.write(struct.pack(">Q", 1 << 40))
        self.assertIn("40", self.refused(image, "--read-only"))
        report = bgfs("check", "--json", image, check=False)
        self.assertEqual(report.returncode, 1, report.stderr)
        self.assertRaises(ValueError, json.loads, report.stdout)


if __name__ == "__main__":
    main()
