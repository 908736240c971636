"""Tools that look for holes see the holes and only the holes."""

import json
import os

from harness import MIB, Test, digest, host_bytes, main, run


class Sparse(Test):

    def sparse_image(self, name):
        image = self.raw_image(name, 64 * MIB)
        with open(image, "r+b") as file:
            for start in (0, 5 * MIB, 20 * MIB, 63 * MIB):
                file.seek(start)
                file.write(self.random.randbytes(MIB))
        return image

    def test_raw_image(self):
        image = self.sparse_image("disk.img")
        with self.mounted(image, "--format=raw", "--read-only") as file:
            self.assertEqual(host_bytes(file), host_bytes(image))
            run("cp", "--sparse=always", file, self.path("copy"))
            run("cp", "--sparse=auto", file, self.path("auto"))
            run("tar", "-C", file.parent, "-Scf", self.path("a.tar"), file.name)
            of_image = self.extents(image)
            self.assertEqual(self.extents(file), of_image)
        self.assertLess(os.stat(self.path("a.tar")).st_size, 5 * MIB)
        for copy in ("copy", "auto"):
            self.assertEqual(host_bytes(self.path(copy)), 4 * MIB)
            self.assertEqual(digest(self.path(copy)), digest(image))

    def extents(self, path):
        """What qemu-img map sees: [(start, length, data, zero)]."""
        out = run("qemu-img", "map", "-U", "-f", "raw", "--output=json",
                  path).stdout
        return [(e["start"], e["length"], e["data"], e["zero"])
                for e in json.loads(out)]

    def test_empty_overlay_over_full_base(self):
        """st_blocks 0 would make tar and cp take the whole disk for a hole."""
        base = self.path("base.img")
        base.write_bytes(self.random.randbytes(4 * MIB))
        top = self.path("top.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
            "base.img", top, cwd=self.folder)
        with self.mounted(top) as file:
            self.assertGreater(host_bytes(file), 0)
            run("tar", "-C", file.parent, "-Scf", self.path("a.tar"), file.name)
            run("cp", "--sparse=always", file, self.path("copy"))
            name = file.name
        run("tar", "-C", self.folder, "-xf", self.path("a.tar"))
        self.assertEqual(digest(self.path(name)), digest(base))
        self.assertEqual(digest(self.path("copy")), digest(base))

    def test_qcow2_holes(self):
        image = self.sparse_image("disk.img")
        top = self.path("top.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", image, top)
        with self.mounted(top) as file:
            run("cp", "--sparse=auto", file, self.path("copy"))
            self.assertLess(host_bytes(file), 6 * MIB)
        self.assertEqual(digest(self.path("copy")), digest(image))
        self.assertEqual(host_bytes(self.path("copy")), 4 * MIB)


if __name__ == "__main__":
    main()
