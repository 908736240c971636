"""Nothing is lost when many write at once to a raw export."""

import os

import workloads
from harness import LONG, MIB, Test, digest, main

SIZE = (1024 if LONG else 64) * MIB

DIRECT = """
nodes {{
  node_name: "disk"
  discard: UNMAP
  raw {{ file {{ filename: "{image}" cache {{ direct: true }} }} }}
}}
exports {{ id: "disk" node: "disk" writable: true fuse {{ {fuse} }} }}
"""


class ParallelWrites(Test):

    def test_regions_apart(self):
        image = self.raw_image("disk.img", SIZE)
        with self.mounted(image, "--format=raw") as file:
            workloads.apart(file, SIZE, self.seed)
            through = digest(file)
        self.assertEqual(digest(image), through)

    def test_interleaved(self):
        image = self.raw_image("disk.img", SIZE)
        with self.mounted(image, "--format=raw") as file:
            workloads.interleaved(file, SIZE, self.seed)

    def test_mixed_unaligned_sizes(self):
        image = self.raw_image("disk.img", SIZE)
        with self.mounted(image, "--format=raw") as file:
            workloads.mixed(file, SIZE, self.seed)

    def test_direct_behind(self):
        """O_DIRECT behind: the engine reads, merges and writes blocks."""
        size = SIZE // 2 + 12345  # no multiple of 512
        image = self.raw_image("disk.img", size)
        config = DIRECT.format(image=image, fuse="")
        with self.served(config) as folder:
            file = folder / "disk"
            workloads.mixed(file, size // 4096 * 4096, self.seed)
            workloads.neighbours(file, self.seed)
            self.check_last_bytes(file, size)
            through = digest(file)
        self.assertEqual(os.stat(image).st_size, size)
        self.assertEqual(digest(image), through)

    def check_last_bytes(self, file, size):
        with open(file, "r+b", buffering=0) as disk:
            disk.seek(size - 700)
            disk.write(b"\xa5" * 700)
            disk.seek(size - 700)
            self.assertEqual(disk.read(900), b"\xa5" * 700)


if __name__ == "__main__":
    main()
