"""Overlays of one base: by default one home serves them all; with share_base:
false each has the base for itself. What is told here of a base is told twice:
of one that headers name, and of one that the configuration names."""

import json
import os
import pathlib

from harness import BGFS, MIB, Test, bgfs, main, run

SIZE = 16 * MIB


class SharedBase(Test):

    def setUp(self):
        super().setUp()
        base = self.path("base.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", base, SIZE)
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 7 0 {SIZE}", base)
        # One base by three names: relative, absolute and over a link.
        (self.path("sub")).mkdir()
        os.symlink(base, self.path("link.qcow2"))
        self.base = base
        for name, named in (("a", "base.qcow2"), ("b", str(base)),
                            ("c", "link.qcow2")):
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2",
                "-b", named, self.path(f"{name}.qcow2"))

    def config(self, names="abc", more="", own="", configured=False):
        text = f"{more}\n"
        if configured:
            text += ('nodes { node_name: "base" qcow2 { file { filename: '
                     f'"{self.base}" }} }} }}\n')
        backing = 'backing: "base"' if configured else ""
        for name in names:
            share = "share_base: false" if name in own else ""
            text += (f'nodes {{ node_name: "{name}" qcow2 {{ file {{ filename: '
                     f'"{self.path(name)}.qcow2" }} {backing} {share} }} }}\n'
                     f'exports {{ id: "{name}" node: "{name}" '
                     f'writable: true fuse {{}} }}\n')
        return text

    def homes(self, folder):
        pid = json.loads(bgfs("status", "--json", folder).stdout)["pid"]
        threads = pathlib.Path(f"/proc/{pid}/task").iterdir()
        names = [(thread / "comm").read_text().strip() for thread in threads]
        return sorted(name for name in names if name.startswith("bgfs-part-"))

    def opened(self, folder):
        """How often the daemon has the base open."""
        pid = json.loads(bgfs("status", "--json", folder).stdout)["pid"]
        files = pathlib.Path(f"/proc/{pid}/fd").iterdir()
        return sum(os.path.realpath(file) == str(self.base) for file in files)

    def use(self, folder, names):
        """Each reads the base and what it wrote itself, nobody else's."""
        for name in names:
            with open(folder / name, "r+b", buffering=0) as file:
                file.seek(MIB)
                file.write(name.encode() * 4096)
                os.fsync(file.fileno())
        for name in names:
            with open(folder / name, "rb", buffering=0) as file:
                file.seek(MIB - 4)
                self.assertEqual(file.read(8), b"\7" * 4 + name.encode() * 4)

    def refused_to_write_the_base(self):
        mounted = run(BGFS, "mount", self.base, self.path("sub"), check=False)
        self.assertEqual(mounted.returncode, 1)
        self.assertIn("does not share write", mounted.stderr)
        written = run("qemu-io", "-f", "qcow2", "-c", "write -q 0 4k",
                      self.base, check=False)
        self.assertNotEqual(written.returncode, 0)
        self.assertIn("lock", written.stderr)

    def check(self, homes, opened, **options):
        for configured in (False, True):
            with self.subTest(configured=configured):
                config = self.config(configured=configured, **options)
                with self.served(config) as folder:
                    self.assertEqual(len(self.homes(folder)), homes)
                    self.assertEqual(self.opened(folder), opened)
                    self.use(folder, "abc")
                    self.refused_to_write_the_base()
                    run("umount", folder / "a")
                    self.use(folder, "bc")
                    self.refused_to_write_the_base()
        for name in "abc":
            run("qemu-img", "check", "-q", self.path(f"{name}.qcow2"))

    def test_shared(self):
        self.check(homes=1, opened=1)

    def test_each_its_own(self):
        self.check(homes=3, opened=3, own="abc")

    def test_one_its_own(self):
        self.check(homes=2, opened=2, own="b")

    def test_a_writer_beside_is_refused_with_both_named(self):
        writer = ('nodes { node_name: "writer" read_only: false qcow2 { file { '
                  f'filename: "{self.base}" }} }} }}\n')
        for own in ("", "abc"):
            text = self.path("graph.textproto")
            text.write_text(self.config(more=writer, own=own))
            done = run(BGFS, "serve", text, self.path("sub"), check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn('node "a" rests on', done.stderr)
            self.assertIn('node "writer" is opened for writing', done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)


if __name__ == "__main__":
    main()
