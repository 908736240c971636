"""A graph that changes while clients write to it and verify what they wrote."""

import contextlib
import errno
import json
import os
import subprocess
import threading

from harness import MIB, Test, bgfs, digest, fio, main, per_form, run, wait_until

SIZE = 16 * MIB


class Writer(threading.Thread):
    """Writes a file all over and verifies it, again and again."""

    def __init__(self, file, seed):
        super().__init__()
        self.file = file
        self.seed = seed
        self.stopping = threading.Event()
        self.rounds = 0
        self.error = None

    def run(self):
        try:
            while not self.stopping.is_set():
                fio(self.file, "live", "--rw=randwrite", "--bs=4k",
                    "--iodepth=8", "--ioengine=libaio", "--direct=1",
                    f"--size={SIZE}", "--verify_backlog=256",
                    f"--randseed={self.seed + self.rounds}")
                self.rounds += 1
        except BaseException as error:  # told by whoever joins
            self.error = error

    def finish(self):
        self.stopping.set()
        self.join()
        if self.error is not None:
            raise self.error


class LiveChanges(Test):

    def setUp(self):
        super().setUp()
        for name in ("raw.img", "base-a.img"):
            self.path(name).write_bytes(self.random.randbytes(SIZE))
        # Bases of the same content.
        self.path("base-b.img").write_bytes(
            self.path("base-a.img").read_bytes())
        run("qemu-img", "create", "-q", "-f", "qcow2", self.path("empty.qcow2"),
            str(SIZE))
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
            "base-a.img", self.path("overlay.qcow2"))

    def pick(self, *choices):
        return self.random.choice(choices)

    def filters(self, node, text):
        """Puts some filters over `node`; gives the top."""
        top = node
        for level in range(self.random.randrange(3)):
            above = f"{node}-f{level}"
            kind = self.pick("raw", "throttle", "group", "blkdebug")
            driver = {
                "raw": f'raw {{ file_node: "{top}" }}',
                "throttle": f'throttle {{ file_node: "{top}" limits {{ '
                            f'iops_total: {self.pick(2000, 20000)} }} }}',
                "group": f'throttle {{ file_node: "{top}" group: "all" }}',
                "blkdebug": f'blkdebug {{ file_node: "{top}" '
                            f'align: "{self.pick(512, 4096)}" }}',
            }[kind]
            text.append(f'nodes {{ node_name: "{above}-{kind}" {driver} }}')
            above += f"-{kind}"
            top = above
        return top

    def settings(self):
        discard = self.pick("IGNORE", "UNMAP")
        zeroes = self.pick("OFF", "ON",
                           "UNMAP" if discard == "UNMAP" else "OFF")
        return f"discard: {discard} detect_zeroes: {zeroes}"

    def configuration(self):
        """A random one that shows the same four disks."""
        text = []
        direct = self.pick("true", "false")
        cache = self.pick("", 'l2_cache_size: "1M"', 'l2_cache_size: "4M"')
        base = self.pick("a", "b")
        text.append(f'nodes {{ node_name: "base-{base}" read_only: true '
                    f'raw {{ file {{ filename: "base-{base}.img" }} }} }}')
        text.append(f'nodes {{ node_name: "raw" {self.settings()} raw {{ file '
                    f'{{ filename: "raw.img" cache {{ direct: {direct} }} }} '
                    '} }')
        text.append(f'nodes {{ node_name: "empty" {self.settings()} qcow2 {{ '
                    f'file {{ filename: "empty.qcow2" }} {cache} }} }}')
        text.append(f'nodes {{ node_name: "overlay" {self.settings()} qcow2 {{ '
                    f'file {{ filename: "overlay.qcow2" }} '
                    f'backing: "base-{base}" {cache} }} }}')
        text.append(f'nodes {{ node_name: "memory" {self.settings()} '
                    f'memory {{ size: "{SIZE}" }} }}')
        for disk in ("raw", "empty", "overlay", "memory"):
            top = self.filters(disk, text)
            writethrough = self.pick("", "writethrough: true")
            text.append(f'exports {{ id: "{disk}" node: "{top}" writable: true '
                        f'{writethrough} fuse {{}} }}')
        text.append('throttle_groups { name: "all" limits { bps_total: "'
                    f'{self.pick(20, 200)}M" }} }}')
        for number in range(self.random.randrange(3)):
            node = self.pick(f"base-{base}", "extra")
            if node == "extra" and not any('"extra"' in line for line in text):
                text.append('nodes { node_name: "extra" null {} }')
            text.append(f'exports {{ id: "more{number}" node: "{node}" '
                        'fuse {} }')
        self.random.shuffle(text)
        return "\n".join(text) + "\n"

    def broken(self):
        """One that is well formed, and fails when much is done already."""
        text = self.configuration()
        return text + self.pick(
            'nodes { node_name: "no" raw { file { filename: "no.img" } } }\n',
            'exports { id: "second" node: "raw" writable: true fuse {} }\n',
            'exports { id: "lost" node: "raw" fuse { mountpoint: "no" } }\n',
            'nodes { node_name: "no" qcow2 { file { filename: "raw.img" } } }\n'
        )

    def apply(self, text, *options, folder, check=True):
        config = self.path("next.textproto")
        config.write_text(text)
        done = bgfs("apply", "--json", *options, config, folder, check=check,
                    timeout=120)
        return done, json.loads(done.stdout)

    @staticmethod
    def descriptors(pid):
        return len(os.listdir(f"/proc/{pid}/fd"))

    def test_changes_under_load(self):
        changes = per_form(quick=40, long=200, soak=1000)
        first = self.configuration()
        with self.served(first) as folder:
            # served() has the file beside the images.
            status = json.loads(bgfs("status", "--json", folder).stdout)
            pid = status["pid"]
            writers = [Writer(folder / disk, self.seed % 100000)
                       for disk in ("raw", "empty", "overlay", "memory")]
            for writer in writers:
                writer.start()
            pauses = []
            failed = 0
            current = first
            try:
                for _ in range(changes):
                    if self.random.random() < 0.2:
                        _, reply = self.apply(self.broken(), folder=folder,
                                              check=False)
                        self.assertTrue(reply["errors"], reply)
                        failed += 1
                    else:
                        current = self.configuration()
                        _, reply = self.apply(current, folder=folder)
                        pauses.append(reply["pause_ms"])
                    _, same = self.apply(current, "--dry-run", folder=folder)
                    self.assertEqual(same["steps"], [], "as declared")
                # A first and a last measure of the same graph.
                self.apply(first, folder=folder)
                before = self.descriptors(pid)
                self.apply(current, folder=folder)
                self.apply(first, folder=folder)
                self.assertEqual(self.descriptors(pid), before)
            finally:
                for writer in writers:
                    writer.stopping.set()
            for writer in writers:
                writer.finish()
            rounds = [writer.rounds for writer in writers]
            pauses.sort()
            print(f"{len(pauses)} changes, {failed} that failed; clients waited "
                  f"{pauses[len(pauses) // 2]:.1f} ms (median), "
                  f"{pauses[len(pauses) * 99 // 100]:.1f} ms (99 of 100), "
                  f"{pauses[-1]:.1f} ms at most; written and verified: {rounds}")
        for image in ("empty.qcow2", "overlay.qcow2"):
            run("qemu-img", "check", self.path(image))

    def test_a_removed_export(self):
        text = """
            nodes { node_name: "raw" raw { file { filename: "raw.img" } } }
            nodes { node_name: "other" memory { size: "1M" } }
            exports { id: "other" node: "other" fuse {} }
        """
        both = text + 'exports { id: "raw" node: "raw" writable: true fuse {} }'
        with self.served(both) as folder:
            with open(folder / "raw", "r+b", buffering=0) as file:
                file.write(b"kept" * 1024)
                self.apply(text, folder=folder)
                self.assertEqual(os.listdir(folder), ["other"])
                self.assertEqual(self.path("raw.img").read_bytes()[:4], b"kept")
                with self.assertRaises(OSError) as caught:
                    os.pread(file.fileno(), 4, 0)
                self.assertEqual(caught.exception.errno, errno.ESHUTDOWN)
                # The image is nobody's: another tool may write to it.
                run("qemu-io", "-f", "raw", "-c", "write 0 4k",
                    self.path("raw.img"))
            self.apply(both, folder=folder)
            self.assertEqual(sorted(os.listdir(folder)), ["other", "raw"])
            self.assertEqual(digest(folder / "raw"),
                             digest(self.path("raw.img")))

    def refused(self, text, folder):
        """What the daemon says of a configuration that it does not take."""
        _, reply = self.apply(text, folder=folder, check=False)
        self.assertEqual(len(reply["errors"]), 1, reply)
        return reply["errors"][0]

    def test_conflicts_name_both_sides(self):
        raw = 'nodes { node_name: "raw" raw { file { filename: "raw.img" } } }\n'
        base = 'nodes { node_name: "base" raw { file { filename: ' \
            '"base-a.img" } } }\n'
        other = 'nodes { node_name: "other" null {} }\n' \
            'exports { id: "other" node: "other" fuse {} }\n'
        writer = 'exports { id: "w" node: "raw" writable: true fuse {} }\n'
        second = 'exports { id: "v" node: "raw" writable: true fuse {} }\n'
        overlay = 'nodes { node_name: "top" qcow2 { file { filename: ' \
            '"overlay.qcow2" } backing: "base" } }\n' \
            'exports { id: "top" node: "top" writable: true fuse {} }\n'
        base_writer = 'exports { id: "b" node: "base" writable: true fuse ' \
            '{} }\n'
        with self.served(raw + other + writer) as folder:
            message = self.refused(raw + other + writer + second, folder)
            for name in ('"raw"', "export w", "export v", "write"):
                self.assertIn(name, message)
            message = self.refused(
                base + other + overlay + base_writer, folder)
            for name in ('"base"', 'export "b"', '"top"'):
                self.assertIn(name, message)
            resizer = second.replace("fuse {}", "fuse { resizable: true }")
            message = self.refused(raw + other + writer + resizer, folder)
            self.assertIn("export v", message)
            self.assertIn("export w", message)
            self.assertEqual(sorted(os.listdir(folder)), ["other", "w"])

    def test_locks_follow(self):
        image = self.path("raw.img")
        raw = 'nodes { node_name: "raw" raw { file { filename: "raw.img" } } }\n'
        other = 'nodes { node_name: "other" null {} }\n' \
            'exports { id: "other" node: "other" fuse {} }\n'
        reader = 'exports { id: "r" node: "raw" fuse {} }\n'
        writer = 'exports { id: "w" node: "raw" writable: true fuse {} }\n'

        def qemu(*options, check=False):
            return run("qemu-io", *options, "-f", "raw", "-c", "write 0 4k",
                       image, check=check)

        with self.served(other) as folder:
            holder = subprocess.Popen(
                ["qemu-io", "-f", "raw", image], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True)
            try:
                holder.stdin.write("read 0 512\n")
                holder.stdin.flush()
                holder.stdout.readline()  # it is open
                message = self.refused(raw + other + reader, folder)
                self.assertIn("qemu-io", message)
                self.assertIn(str(holder.pid), message)
            finally:
                holder.communicate("quit\n", timeout=20)
            qemu(check=True)
            self.apply(raw + other + reader, folder=folder)
            self.assertIn("lock", qemu().stderr)
            # A reader of its own, which the writer is not to disturb.
            with open(folder / "r", "rb") as file:
                self.apply(raw + other + reader + writer, folder=folder)
                self.assertIn("lock", qemu().stderr)
                with open(folder / "w", "r+b", buffering=0) as out:
                    out.write(b"written")
                self.assertEqual(file.read(7), b"written")
            self.apply(raw + other + reader, folder=folder)
            self.assertIn("lock", qemu().stderr)
            self.apply(other, folder=folder)
            qemu(check=True)

    def test_an_export_is_replaced(self):
        one = 'nodes { node_name: "a" memory { size: "1M" } }\n' \
            'exports { id: "a" node: "a" fuse {} }\n'
        other = one.replace("fuse {}", "writable: true fuse { mode: 0640 }")
        with self.served(one) as folder:
            with open(folder / "a", "rb", buffering=0) as old:
                self.assertEqual(old.read(4), bytes(4))
                # What fails leaves the old one where it was, and open.
                self.refused(other + 'exports { id: "b" node: "a" fuse { '
                             'mountpoint: "no" } }\n', folder)
                self.assertEqual(os.listdir(folder), ["a"])
                self.assertEqual(old.read(4), bytes(4))
                self.apply(other, folder=folder)
                with self.assertRaises(OSError) as caught:
                    os.pread(old.fileno(), 4, 0)
                self.assertEqual(caught.exception.errno, errno.ESHUTDOWN)
            self.assertEqual(os.stat(folder / "a").st_mode & 0o777, 0o640)
            with open(folder / "a", "r+b", buffering=0) as file:
                file.write(b"new")
                self.assertEqual(os.pread(file.fileno(), 3, 0), b"new")

    def test_a_dead_disk_stops_no_other(self):
        disk = self.raw_image("fs.img", 128 * MIB)
        run("mkfs.ext4", "-q", disk)
        with self.loop_device(disk) as device, \
                self.file_system(device) as point:
            with open(point / "stuck.img", "wb") as file:
                file.truncate(4 * MIB)
            text = f'''
                nodes {{ node_name: "stuck" raw {{ file {{
                    filename: "{point}/stuck.img" cache {{ direct: true }} }} }} }}
                nodes {{ node_name: "raw" raw {{ file {{
                    filename: "raw.img" }} }} }}
                exports {{ id: "stuck" node: "stuck" writable: true fuse {{}} }}
                exports {{ id: "raw" node: "raw" writable: true fuse {{}} }}
            '''
            with self.served(text) as folder:
                run("fsfreeze", "-f", point)
                try:
                    writer = subprocess.Popen(
                        ["dd", "if=/dev/zero", f"of={folder / 'stuck'}",
                         "bs=4k", "count=1", "conv=notrunc", "oflag=direct"],
                        stderr=subprocess.DEVNULL)
                    wait_until(lambda: self.waiting_requests(
                        folder / "stuck") > 0, "the write waits")
                    # The other disk changes as if nothing were.
                    self.apply(text.replace('"raw" raw', '"raw" discard: UNMAP '
                                            'raw'), folder=folder)
                    with open(folder / "raw", "r+b", buffering=0) as file:
                        file.write(b"alive")
                    # What hangs cannot change, is told so, and goes on later.
                    self.assertIn("do not end", self.refused(
                        text.replace('"stuck" raw', '"stuck" discard: UNMAP '
                                     'raw'), folder))
                    self.assertIsNone(writer.poll())
                finally:
                    run("fsfreeze", "-u", point)
                self.assertEqual(writer.wait(timeout=20), 0)
                self.apply(text, folder=folder)

    def test_passthrough_is_cut_off(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        other = 'nodes { node_name: "other" null {} }\n' \
            'exports { id: "other" node: "other" fuse {} }\n'
        text = other + 'nodes { node_name: "raw" raw { file { filename: ' \
            '"raw.img" } } }\nexports { id: "raw" node: "raw" writable: true ' \
            'fuse { passthrough: true resizable: true } }\n'
        with self.served(text) as folder:
            file = os.open(folder / "raw", os.O_RDWR)
            os.write(file, b"past us")
            self.apply(other, folder=folder)
            with self.assertRaises(OSError):
                os.write(file, b"no more")
            with contextlib.suppress(OSError):  # closing tells it, too
                os.close(file)
            self.assertEqual(os.listdir(folder), ["other"])
            self.assertEqual(self.path("raw.img").read_bytes()[:7], b"past us")

    def test_reload_on_sighup(self):
        config = self.path("graph.textproto")
        one = 'nodes { node_name: "a" null {} }\n' \
            'exports { id: "a" node: "a" fuse {} }\n'
        config.write_text(one)
        folder = self.path("shown")
        folder.mkdir()
        bgfs("serve", config, folder)
        try:
            pid = json.loads(bgfs("status", "--json", folder).stdout)["pid"]
            config.write_text(one + 'exports { id: "b" node: "a" fuse {} }\n')
            os.kill(pid, 1)
            wait_until(lambda: sorted(os.listdir(folder)) == ["a", "b"],
                       "the second export is there")
            config.write_text("nonsense")
            os.kill(pid, 1)
            config.write_text(one)
            os.kill(pid, 1)
            wait_until(lambda: os.listdir(folder) == ["a"],
                       "the second export is gone")
        finally:
            bgfs("umount", folder)


if __name__ == "__main__":
    main()
