"""An export whose disk stands still disturbs nobody else."""

import json
import subprocess

from harness import MIB, TRANSPORT, Test, main, run, wait_until

CONFIG = """
nodes {{ node_name: "stuck" raw {{ file {{ filename: "{stuck}"
                                       cache {{ direct: {direct} }} }} }} }}
nodes {{ node_name: "free" raw {{ file {{ filename: "{free}" }} }} }}
exports {{ id: "stuck" node: "stuck" writable: true fuse {{}} }}
exports {{ id: "free" node: "free" writable: true fuse {{}} }}
"""


class Isolation(Test):

    def read_all(self, file):
        """Every block of it at QD16, or fails; gives the rate, to look at."""
        out = run("fio", "--name=speed", f"--filename={file}",
                  "--rw=randread", "--bs=4k", "--iodepth=16",
                  "--ioengine=libaio", "--direct=1", "--size=32M",
                  "--allow_file_create=0", "--output-format=json",
                  timeout=30).stdout
        read = json.loads(out)["jobs"][0]["read"]
        self.assertEqual(read["io_bytes"], 32 * MIB)
        return read["iops"]

    def check(self, direct):
        disk = self.raw_image("fs.img", 256 * MIB)
        run("mkfs.ext4", "-q", disk)
        free = self.raw_image("free.img", 32 * MIB)
        with self.loop_device(disk) as device, \
                self.file_system(device) as point:
            stuck = point / "stuck.img"
            with open(stuck, "wb") as file:
                file.truncate(64 * MIB)
            config = CONFIG.format(stuck=stuck, free=free, direct=direct)
            with self.served(config) as folder:
                before = self.read_all(folder / "free")
                run("fsfreeze", "-f", point)
                try:
                    writer = subprocess.Popen(
                        ["fio", "--name=stuck",
                         f"--filename={folder / 'stuck'}", "--rw=randwrite",
                         "--bs=4k", "--iodepth=64", "--ioengine=libaio",
                         "--direct=1", "--size=64M", "--io_size=1M",
                         "--allow_file_create=0"],
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    # The kernel holds back what a ring has no entry for.
                    waiting = 32 if TRANSPORT == "io_uring" else 64
                    wait_until(lambda: self.waiting_requests(
                        folder / "stuck") >= waiting,
                        f"{waiting} requests waiting")
                    during = self.read_all(folder / "free")
                    listing = run("ls", folder, timeout=5).stdout.split()
                    self.assertEqual(sorted(listing), ["free", "stuck"])
                    run("stat", folder / "free", timeout=5)
                    run("umount", folder / "free", timeout=10)
                finally:
                    run("fsfreeze", "-u", point)
                self.assertEqual(writer.wait(timeout=30), 0)
                print(f"IOPS of the free export: {before:.0f} before, "
                      f"{during:.0f} during ({during / before:.2f})")

    def test_buffered(self):
        self.check("false")

    def test_direct(self):
        self.check("true")


if __name__ == "__main__":
    main()
