"""What the kernel keeps of an export, and what it does not."""

import pathlib

from harness import MIB, Test, digest, main, run

CONFIG = """
nodes {{ node_name: "disk" read_only: true
         qcow2 {{ file {{ filename: "{image}" }} }} }}
exports {{ id: "disk" node: "disk" fuse {{ cache: {cache} }} }}
"""


class Cache(Test):

    def read_by_daemon(self, cache):
        """Bytes that the daemon read from its files while the export, which
        had been read before, was read again."""
        raw = self.path("disk.img")
        raw.write_bytes(self.random.randbytes(8 * MIB))
        image = self.path("disk.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", raw, image)
        pid_file = self.path("pid")
        with self.served(CONFIG.format(image=image, cache=cache),
                         f"--pid-file={pid_file}") as folder:
            counters = pathlib.Path("/proc", pid_file.read_text().strip(), "io")

            def read_all():
                # In pieces that the daemon reads by itself: the kernel counts
                # only these as the process's.
                seen = digest(folder / "disk", block=32768)
                self.assertEqual(seen, digest(raw))
                return int(counters.read_text().split()[1])

            return -read_all() + read_all()

    def test_read_only_exports_are_kept(self):
        self.assertLess(self.read_by_daemon("AUTO"), 4 * MIB)

    def test_not_where_the_configuration_says_so(self):
        self.assertGreaterEqual(self.read_by_daemon("NONE"), 8 * MIB)


if __name__ == "__main__":
    main()
