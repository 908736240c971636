"""A guest's file system inside an image, through a loop device."""

import shutil

from harness import MIB, Test, host_bytes, main, run



class LoopDevice(Test):

    def make_tree(self, root, files=200):
        root.mkdir()
        for i in range(files):
            size = self.random.choice([0, 100, 4096, 5000, 70000, 300000])
            (root / f"file{i}").write_bytes(self.random.randbytes(size))

    def copy_in_parallel(self, source, target, copies):
        script = " & ".join(
            f"cp -r {source} {target}/copy{i}" for i in range(copies))
        run("sh", "-c", f"{script} & wait")
        for i in range(copies):
            run("diff", "-r", source, target / f"copy{i}")

    def test_ext4_trees_and_trim(self):
        image = self.raw_image("disk.img", 512 * MIB)
        tree = self.path("tree")
        self.make_tree(tree)
        with self.mounted(image, "--format=raw") as file:
            with self.loop_device(file, "--direct-io=on") as device:
                run("mkfs.ext4", "-q", "-E", "nodiscard", device)
                with self.file_system(device) as point:
                    self.copy_in_parallel(tree, point, copies=4)
                    run("sync", "-f", point)
                    full = host_bytes(image)
                    for i in range(3):
                        shutil.rmtree(point / f"copy{i}")
                    run("sync", "-f", point)
                    run("fstrim", point)
                    self.assertLess(host_bytes(image), full // 2)
                    run("diff", "-r", tree, point / "copy3")
                run("e2fsck", "-fn", device)
        # What the guest wrote stands in the image itself.
        with self.loop_device(image) as device:
            run("e2fsck", "-fn", device)
            with self.file_system(device, options="ro") as point:
                run("diff", "-r", tree, point / "copy3")

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
