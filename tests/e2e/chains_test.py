"""A mounted chain holds the bytes that `qemu-img convert` gives."""

import concurrent.futures
import os
import shutil

from harness import LONG, MAKE_CHAIN, Test, digest, main, run

CHAINS = 300 if LONG else 8


class Chains(Test):

    def test_mounted_chains_equal_qemu_img_convert(self):
        first = self.seed % 1000 * 1000
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            made = [pool.submit(self.make, first + i) for i in range(CHAINS)]
            for future in made:
                folder, top, expected, description = future.result()
                with self.subTest(description):
                    self.compare(top, expected)
                shutil.rmtree(folder)

    def make(self, seed):
        folder = self.path(f"chain{seed}")
        folder.mkdir()
        out = run(MAKE_CHAIN, folder, seed, timeout=300).stdout
        top, expected, description = out.split("\n", 2)
        return folder, top, expected, f"chain {seed}: {description}"

    def compare(self, top, expected):
        with self.mounted(top, "--read-only") as file:
            size = os.stat(expected).st_size
            self.assertEqual(os.stat(file).st_size, size)
            want = digest(expected)
            for block in (1 << 20, 65536, 7777 * 13):
                self.assertEqual(digest(file, block), want, f"by {block}")
            with open(file, "rb", buffering=0) as ours, \
                    open(expected, "rb", buffering=0) as theirs:
                for _ in range(200):
                    offset = self.random.randrange(size + 1)
                    length = self.random.choice(
                        [1, 511, 512, 4096, 65537, 300000])
                    self.assertEqual(os.pread(ours.fileno(), length, offset),
                                     os.pread(theirs.fileno(), length, offset))


if __name__ == "__main__":
    main()
