"""What the daemon's memory comes to: of one image whatever its size, of many
exports together, and when nobody uses them any more."""

import json
import pathlib
import unittest

from harness import LONG, MIB, Test, bgfs, main, run, wait_until

EXPORTS = 16


class Memory(Test):

    def daemon(self, path):
        """The process id of the daemon that shows a file or folder."""
        return json.loads(bgfs("status", "--json", path).stdout)["pid"]

    def read(self, pid):
        """What the kernel counts, in MiB."""
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return {name: int(fields[name].split()[0]) / 1024
                for name in ("VmRSS", "RssAnon", "VmHWM")}

    def memory(self, pid, when):
        """The same, and says it."""
        found = self.read(pid)
        print(f"{when}: " + ", ".join(f"{name} {mib:.1f} MiB"
                                      for name, mib in found.items()))
        return found

    def jobs(self, *jobs, timeout=100):
        """Runs fio jobs at the same time; each is a list of options."""
        words = ["fio", "--ioengine=libaio", "--direct=1", "--norandommap",
                 "--allow_file_create=0", "--output-format=json"]
        for number, options in enumerate(jobs):
            words += [f"--name=job{number}", *options]
        return json.loads(run(*words, timeout=timeout).stdout)["jobs"]

    @unittest.skipUnless(LONG, "only in the long form: making the image takes "
                         "half a minute")
    def test_an_image_of_one_tebibyte(self):
        image = self.path("tebibyte.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o",
            "preallocation=metadata", image, "1T", timeout=600)
        with self.mounted(image) as file:
            pid = self.daemon(file)
            self.memory(pid, "mounted")
            self.jobs([f"--filename={file}", "--rw=randread", "--bs=4k",
                       "--iodepth=32", "--number_ios=300000"], timeout=600)
            found = self.memory(pid, "after 300000 reads all over it")
            self.assertLess(found["VmHWM"], 64)

    def many(self):
        config = ""
        for number in range(EXPORTS):
            name = f"disk{number}"
            if number % 2:
                run("qemu-img", "create", "-q", "-f", "qcow2",
                    self.path(name), 64 * MIB)
                driver = "qcow2"
            else:
                self.raw_image(name, 64 * MIB)
                driver = "raw"
            config += (f'nodes {{ node_name: "{name}" {driver} {{ file {{ '
                       f'filename: "{self.path(name)}" }} }} }}\n'
                       f'exports {{ id: "{name}" node: "{name}" '
                       f'writable: true fuse {{}} }}\n')
        return config

    def load(self, folder, *kinds):
        """All kinds of load on all exports at once."""
        self.jobs(*([f"--filename={folder}/disk{number}", "--size=64M", *kind]
                    for number in range(EXPORTS) for kind in kinds))

    def test_many_exports(self):
        with self.served(self.many()) as folder:
            pid = self.daemon(folder)
            served = self.memory(pid, "served")
            reads = ["--rw=randread", "--bs=4k", "--iodepth=32"]
            self.load(folder, [*reads, "--number_ios=1000"])
            found = self.memory(pid, "after reads")
            self.assertLess(found["VmHWM"], 40)
            # A thread for each export that copies, as dd does.
            self.load(folder, [*reads, "--number_ios=1000"],
                      ["--rw=write", "--bs=1M", "--iodepth=1"])
            found = self.memory(pid, "after reads and writes")
            self.assertLess(found["VmHWM"], 100)
            # While requests are under way their memory is the client's choice;
            # what is kept of it is not.
            self.load(folder, [*reads, "--number_ios=1000"],
                      ["--rw=write", "--bs=1M", "--iodepth=32"])
            found = self.memory(pid, "after reads and deep writes")
            self.assertLess(found["VmRSS"], 100)
            # The daemon gives the rest back when a second has passed without
            # a request, and it finds that out by itself.
            wait_until(lambda: self.read(pid)["VmRSS"] <
                       served["VmRSS"] + 12, "idle memory is given back")
            self.memory(pid, "idle")


if __name__ == "__main__":
    main()
