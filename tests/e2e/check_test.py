"""bgfs check: what it finds, repairs, prints and refuses."""

import json
import os
import pathlib
import struct
import subprocess

from harness import MIB, Test, bgfs, main, run, wait_until

CLUSTER = 65536


class Check(Test):

    def image(self, name="a.qcow2"):
        """Host clusters of a fresh image: 0 header, 1 refcount table, 2 its
        block, 3 L1, 4 L2, then data."""
        path = self.path(name)
        run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
        run("qemu-io", "-c", "write -P 7 0 1M", path)
        return path

    def put(self, path, at, data):
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(data)

    def set_refcount(self, path, cluster, count):
        self.put(path, 2 * CLUSTER + 2 * cluster, struct.pack(">H", count))

    def check(self, *arguments, status):
        done = bgfs("check", *arguments, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def test_statuses(self):
        image = self.image()
        self.assertIn("no errors", self.check(image, status=0).stdout)
        self.set_refcount(image, 7, 2)
        self.set_refcount(image, 30, 1)
        with open(image, "r+b") as file:
            file.truncate(31 * CLUSTER)
        # COPIED no longer fits the count.
        self.check(image, status=4)
        self.check("--repair=leaks", image, status=0)
        self.set_refcount(image, 30, 1)
        self.check(image, status=3)
        self.check("--repair=leaks", image, status=0)
        self.set_refcount(image, 8, 0)
        self.check("--repair=leaks", image, status=4)
        done = self.check("--repair=all", image, status=0)
        self.assertIn("repaired 2 corruptions", done.stdout)
        run("qemu-img", "check", image)

    def test_json(self):
        image = self.image()
        self.set_refcount(image, 7, 0)
        report = json.loads(self.check("--json", image, status=4).stdout)
        self.assertEqual(report["result"], "corrupt")
        self.assertEqual(report["kinds"],
                         {"refcount too low": 1, "COPIED set": 1})
        self.assertEqual(report["corruptions"], len(report["findings"]))
        self.assertEqual(report["findings"][0]["offset"], 7 * CLUSTER)
        report = json.loads(
            self.check("--json", "--repair=all", image, status=0).stdout)
        self.assertEqual(report["result"], "clean")
        self.assertEqual(report["corruptions_fixed"], 2)
        self.assertEqual(report["allocated_clusters"], 16)
        self.assertEqual(report["image_end_offset"], os.stat(image).st_size)

    def test_dirty_image(self):
        image = self.path("lazy.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o",
            "lazy_refcounts=on", image, "64M")
        run("qemu-io", "-c", "write -P 7 0 1M", "-c", "flush", "-c", "sigraise 9",
            image, check=False)
        self.check(image, status=4)
        self.check("--repair=all", image, status=0)
        self.assertEqual(image.read_bytes()[72:80], bytes(8))
        run("qemu-img", "check", image)
        run("qemu-io", "-r", "-c", "read -P 7 0 1M", image)

    def test_no_errors_of_ours_in_a_chain_without_its_base(self):
        base = self.image("base.qcow2")
        top = self.path("top.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
            base, top)
        base.unlink()
        self.check(top, status=0)

    def test_refusals(self):
        raw = self.raw_image("disk.img", MIB)
        line = self.check(raw, status=1).stderr
        self.assertIn("no consistency to check", line)
        self.assertEqual(line.count("\n"), 1)
        self.assertIn("No such file",
                      self.check(self.path("none"), status=1).stderr)
        self.check(self.folder, status=1)
        self.check(status=2)
        self.check("--repair=some", raw, status=2)
        self.check("--repair=all", "--force-share", raw, status=2)
        image = self.image()
        self.put(image, 20, struct.pack(">I", 40))
        self.assertIn("cluster_bits", self.check(image, status=1).stderr)

    def test_locks(self):
        image = self.image()
        holder = subprocess.Popen(["qemu-io", str(image)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            locks = pathlib.Path(f"/proc/{holder.pid}/fdinfo")
            wait_until(lambda: any("OFDLCK" in fd.read_text()
                                   for fd in locks.iterdir()), "QEMU's lock")
            for options in [], ["--repair=all"]:
                line = self.check(*options, image, status=1).stderr
                self.assertIn("qemu-io", line)
                self.assertIn(str(holder.pid), line)
            self.check("--force-share", image, status=0)
        finally:
            holder.communicate(b"quit\n")
        with self.mounted(image, "--read-only"):
            self.check(image, status=0)
            self.assertIn("bgfs", self.check("--repair=all", image,
                                             status=1).stderr)
        self.check("--repair=all", image, status=0)


if __name__ == "__main__":
    main()
