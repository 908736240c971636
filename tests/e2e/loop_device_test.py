"""A guest's file system inside an image, through a loop device."""

import guest
from harness import MIB, Test, host_bytes, main, run


class LoopDevice(Test):

    def test_ext4_trees_and_trim(self):
        image = self.raw_image("disk.img", 512 * MIB)
        tree = self.path("tree")
        guest.make_tree(tree, self.random)
        with self.mounted(image, "--format=raw") as file:
            full, trimmed = guest.use(self, file, tree,
                                      lambda: host_bytes(image))
            self.assertLess(trimmed, full // 2)
        guest.check_image(self, image, tree)

    def test_block_discard_and_zero_out(self):
        image = self.path("disk.img")
        image.write_bytes(self.random.randbytes(16 * MIB))
        with self.mounted(image, "--format=raw") as file:
            with self.loop_device(file, "--direct-io=on") as device:
                run("blkdiscard", "-o", 4 * MIB, "-l", 4 * MIB, device)
                run("blkdiscard", "-z", "-o", 12 * MIB, "-l", MIB, device)
        data = image.read_bytes()
        self.assertEqual(data[4 * MIB:8 * MIB].count(0), 4 * MIB)
        self.assertEqual(data[12 * MIB:13 * MIB].count(0), MIB)
        self.assertNotEqual(data[8 * MIB:12 * MIB].count(0), 4 * MIB)
        self.assertLessEqual(host_bytes(image), 12 * MIB + 65536)


if __name__ == "__main__":
    main()
