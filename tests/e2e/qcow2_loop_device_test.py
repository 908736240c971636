"""A guest's file system inside a qcow2 image, through a loop device."""

import guest
import images
from harness import LONG, MIB, Test, host_bytes, main, run

SIZE = (512 if LONG else 96) * MIB
FILES = 200 if LONG else 40


class Qcow2LoopDevice(Test):

    def test_ext4_trees_and_trim(self):
        tree = self.path("tree")
        guest.make_tree(tree, self.random, FILES)
        kinds = list(images.KINDS)
        for kind in kinds if LONG else [self.random.choice(kinds)]:
            for direct in (False, True) if LONG else [False]:
                with self.subTest(f"{kind}, direct {direct}"):
                    self.check(kind, direct, tree)

    def check(self, kind, direct, tree):
        image = images.make(self, kind, SIZE)
        with self.served(images.graph(image, direct)) as folder:
            full, trimmed = guest.use(self, folder / "disk", tree,
                                      lambda: host_bytes(image))
            print(f"{kind}: {full} bytes before fstrim, {trimmed} after")
            self.assertLess(trimmed, full * 3 // 4)
        images.check(image)
        raw = images.converted(self.folder, image)
        guest.check_image(self, raw, tree)
        raw.unlink()
        image.unlink()

    def test_block_discard_and_zero_out(self):
        image = self.path("disk.qcow2")
        content = self.path("content")
        data = bytearray(self.random.randbytes(16 * MIB))
        content.write_bytes(data)
        run("qemu-img", "convert", "-O", "qcow2", content, image)
        full = host_bytes(image)
        with self.mounted(image) as file:
            with self.loop_device(file, "--direct-io=on") as device:
                run("blkdiscard", "-o", 4 * MIB, "-l", 4 * MIB, device)
                run("blkdiscard", "-z", "-o", 12 * MIB, "-l", MIB, device)
        data[4 * MIB:8 * MIB] = bytes(4 * MIB)
        data[12 * MIB:13 * MIB] = bytes(MIB)
        images.check(image)
        self.assertEqual(
            images.converted(self.folder, image).read_bytes(), bytes(data))
        # The file system notes more extents now, in blocks of the file's own.
        self.assertLessEqual(host_bytes(image), full - 4 * MIB + 65536)


if __name__ == "__main__":
    main()
