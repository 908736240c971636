"""Everything that fsx does, by several processes at once."""

import os

from harness import FSX, MIB, Test, digest, main, per_form, run

SECONDS = per_form(3, 60, 600)

CONFIG = """
nodes {{
  node_name: "disk"
  discard: UNMAP
  raw {{ file {{ filename: "{image}" cache {{ direct: {direct} }} }} }}
}}
exports {{ id: "disk" node: "disk" writable: true
          fuse {{ resizable: {resizable} }} }}
"""


class Fsx(Test):

    def check(self, direct, resizable, *options):
        image = self.raw_image("disk.img", 8 * MIB)
        config = CONFIG.format(image=image, direct=direct, resizable=resizable)
        with self.served(config) as folder:
            file = folder / "disk"
            run(FSX, file, f"--seed={self.seed}", f"--seconds={SECONDS}",
                *options, timeout=SECONDS * 2 + 60)
            through = digest(file)
            size = os.stat(file).st_size
        self.assertEqual(os.stat(image).st_size, size)
        self.assertEqual(digest(image), through)

    def test_resizable(self):
        self.check("false", "true", "--resizable")

    def test_unaligned_neighbours(self):
        self.check("false", "false", "--no-mmap", "--processes=6",
                   "--region=300000")

    def test_direct_behind(self):
        self.check("true", "true", "--resizable")


if __name__ == "__main__":
    main()
