"""Nothing is lost when many write at once to a qcow2 export.

Each image is shown twice, once only to be read: what was written to one file
is read from the other.
"""

import os

import images
import workloads
from harness import FSX, LONG, MIB, Test, digest, main, per_form, run

SIZE = per_form(8, 16, 128) * MIB
SECONDS = per_form(1, 5, 30)  # of each fsx

MANY = {
    "apart": lambda disk, view, seed: workloads.apart(disk, SIZE, seed),
    "interleaved":
        lambda disk, view, seed: workloads.interleaved(disk, SIZE, seed),
    "mixed": lambda disk, view, seed: workloads.mixed(disk, SIZE, seed),
    "neighbours": lambda disk, view, seed: workloads.neighbours(
        disk, seed, f"--view={view}"),
}


class Qcow2ParallelWrites(Test):

    def check(self, kind, direct, names):
        """All of `names`, each on a new image."""
        for name in names:
            with self.subTest(f"{name}, {kind}, direct {direct}"):
                self.check_one(
                    kind, {"direct": direct},
                    lambda folder, name=name: MANY[name](
                        folder / "disk", folder / "view", self.seed))

    def check_one(self, kind, options, work):
        image = images.make(self, kind, SIZE)
        with self.served(images.graph(image, **options)) as folder:
            work(folder)
            size = os.stat(folder / "disk").st_size // 512 * 512
            self.assertEqual(digest(folder / "view"),
                             digest(folder / "disk"))
            through = digest(folder / "disk", size=size)
        images.check(image)
        raw = images.converted(self.folder, image)
        # QEMU knows whole sectors only.
        self.assertEqual(os.stat(raw).st_size, size)
        self.assertEqual(digest(raw), through)
        raw.unlink()
        image.unlink()

    def test_many_writers(self):
        for kind in images.KINDS:
            if LONG:
                for direct in False, True:
                    self.check(kind, direct, MANY)
            else:
                self.check(kind, self.random.random() < 0.5,
                           [self.random.choice(list(MANY))])

    def test_fsx(self):
        """Everything that a file can do, its size included."""
        kinds = list(images.KINDS)
        for kind in kinds if LONG else [self.random.choice(kinds)]:
            for direct in False, True:
                with self.subTest(f"{kind}, direct {direct}"):
                    self.check_one(
                        kind, {"direct": direct, "resizable": True},
                        lambda folder: run(
                            FSX, folder / "disk", f"--seed={self.seed}",
                            f"--seconds={SECONDS}", "--resizable",
                            timeout=SECONDS * 2 + 60))

    def test_fsx_read_from_the_other_export(self):
        kinds = list(images.KINDS)
        for kind in kinds if LONG else [self.random.choice(kinds)]:
            with self.subTest(kind):
                self.check_one(
                    kind, {},
                    lambda folder: run(
                        FSX, folder / "disk", f"--view={folder / 'view'}",
                        f"--seed={self.seed}", f"--seconds={SECONDS}",
                        "--no-mmap", "--processes=6", "--region=300000",
                        timeout=SECONDS * 2 + 60))


if __name__ == "__main__":
    main()
