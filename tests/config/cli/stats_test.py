"""What bgfs stats tells of known requests, in each of its forms."""

import json
import os
import re
import signal
import subprocess
import time

import command
from command import MIB

CONFIG = """
nodes { node_name: "raw" raw { file { filename: "a.img" } } }
nodes { node_name: "image" qcow2 { file { filename: "b.qcow2" } } }
exports { id: "a" node: "raw" writable: true fuse {} }
exports { id: "b" node: "image" writable: true fuse {} }
"""


def kind(stats, name):
    item, = [item for item in stats["operations"] if item["kind"] == name]
    return {field: int(item[field]) for field in
            ("operations", "bytes", "errors")} | (
                {"latency": item["latency"]} if item.get("latency") else {})


NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
TYPES = ("counter", "gauge", "histogram")


def parse_prometheus(text):
    """Text format 0.0.4, strictly: {name: (type, {labels: value})}, labels as a
    sorted tuple of pairs; samples of a histogram stand under their own names."""
    families, helped, current = {}, set(), None
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no end")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, words = line[len("# HELP "):].split(" ", 1)
            if name in helped or name in families or not words:
                raise ValueError(line)
            helped.add(name)
        elif line.startswith("# TYPE "):
            current, kind = line[len("# TYPE "):].split(" ")
            if (current not in helped or current in families
                    or kind not in TYPES or not NAME.fullmatch(current)):
                raise ValueError(line)
            families[current] = (kind, {})
        else:
            parse_sample(line, current, families)
    return families


def parse_sample(line, family, families):
    name = NAME.match(line)[0]
    rest = line[len(name):]
    labels = []
    if rest.startswith("{"):
        rest = rest[1:]
        while not rest.startswith("}"):
            found = LABEL.match(rest)
            labels.append(found.groups())
            rest = rest[found.end():]
            if rest.startswith(","):
                rest = rest[1:]
            elif not rest.startswith("}"):
                raise ValueError(line)
        rest = rest[1:]
    if not rest.startswith(" ") or " " in rest[1:]:
        raise ValueError(line)
    value = float(rest[1:])
    kind, samples = families[family]
    allowed = ([family + end for end in ("_bucket", "_sum", "_count")]
               if kind == "histogram" else [family])
    key = (name, tuple(sorted(labels)))
    if (name not in allowed or key in samples or value < 0
            or len(set(dict(labels))) != len(labels)
            or (kind == "counter") != family.endswith("_total")):
        raise ValueError(line)
    samples[key] = value


@command.needs_mounts
class StatsTest(command.CommandTest):

    def serve(self):
        self.image("a.img")
        self.qcow2("b.qcow2", "4M")
        self.config(CONFIG)
        self.bgfs("serve", "graph.textproto", "mnt")

    def stats(self, *arguments):
        line, = self.bgfs("stats", "--json", *arguments).splitlines()
        reply = json.loads(line)
        return ({item["id"]: item for item in reply["exports"]},
                {item["name"]: item for item in reply["nodes"]})

    def use(self, name):
        """Ten writes of 4 KiB, five reads of 8 KiB, two flushes."""
        fd = os.open(self.path("mnt", name), os.O_RDWR)
        for i in range(10):
            self.assertEqual(os.pwrite(fd, b"w" * 4096, i * 4096), 4096)
        for i in range(5):
            self.assertEqual(len(os.pread(fd, 8192, i * 8192)), 8192)
        os.fsync(fd)
        os.fsync(fd)
        os.close(fd)

    def test_counters_are_exact(self):
        self.serve()
        exports, nodes = self.stats()
        for item in [*exports.values(), *nodes.values()]:
            self.assertFalse(item["stale"])
            self.assertEqual({int(k["errors"]) for k in item["operations"]},
                             {0})
        for item in exports.values():
            self.assertEqual({int(k["operations"])
                              for k in item["operations"]}, {0})
        self.use("a")
        exports, nodes = self.stats()
        self.assertEqual([exports["a"]["node"], exports["b"]["node"]],
                         ["raw", "image"])
        for item in exports["a"], nodes["raw"]:
            writes, reads, flushes = (kind(item, name) for name in
                                      ("WRITE", "READ", "FLUSH"))
            self.assertEqual((writes["operations"], writes["bytes"]),
                             (10, 40960))
            self.assertEqual((reads["operations"], reads["bytes"]), (5, 40960))
            self.assertEqual(flushes["operations"], 2)
        self.assertEqual(kind(exports["b"], "WRITE")["operations"], 0)
        self.assertEqual(int(nodes["raw"]["highest_write"]), 40960)
        self.assertGreaterEqual(int(exports["a"]["max_in_flight"]), 1)
        self.assertEqual(int(exports["a"]["in_flight"]), 0)

    def test_latencies_are_those_of_the_requests(self):
        self.serve()
        before = time.monotonic_ns()
        self.use("a")
        elapsed = time.monotonic_ns() - before
        exports, _ = self.stats()
        for name, count in ("WRITE", 10), ("READ", 5), ("FLUSH", 2):
            latency = kind(exports["a"], name)["latency"]
            buckets = [(int(b["up_to_ns"]), int(b["count"]))
                       for b in latency["buckets"]]
            self.assertEqual(sum(count for _, count in buckets), count)
            self.assertEqual(buckets, sorted(buckets))
            longest, total = int(latency["max_ns"]), int(latency["sum_ns"])
            self.assertLess(0, longest)
            self.assertLessEqual(longest, buckets[-1][0])
            self.assertLess(buckets[-1][0] * 31 / 32, longest + 1)
            self.assertLessEqual(longest, total)
            self.assertLess(total, elapsed)
        taken = int(exports["a"]["taken_ns"]) - int(exports["a"]["begun_ns"])
        self.assertLess(elapsed, taken)

    def test_caches_of_an_image(self):
        self.serve()
        self.use("b")
        _, nodes = self.stats()
        caches = {cache["name"]: cache for cache in nodes["image"]["caches"]}
        self.assertEqual(sorted(caches), ["clusters", "l2", "refcounts"])
        self.assertGreater(int(caches["l2"]["hits"]), 0)
        self.assertEqual(int(caches["l2"]["evictions"]), 0)
        self.assertEqual(nodes["raw"]["caches"], [])

    def test_the_table(self):
        self.serve()
        self.use("a")
        text = self.bgfs("stats", "mnt")
        number = r"\d+\.\d+"
        time_of = r"\d+(\.\d+)?(ns|us|ms|s)"
        self.assertRegex(text, rf"(?m)^EXPORT +REQUESTS +/S +MIB/S +DEPTH +"
                         r"P50 +P99 +MAX +ERRORS$")
        self.assertRegex(
            text, rf"(?m)^a +all +{number} +{number} +{number} +{time_of} +"
            rf"{time_of} +{time_of} +0  0 in flight, at most \d+$")
        self.assertRegex(text, rf"(?m)^ +write +{number} ")
        self.assertRegex(text, r"(?m)^b +all +0\.0 +0\.0 +0\.00 +0 +0 +0 +0  0 ")
        self.assertRegex(text, r"(?m)^raw +raw +5 +0\.0 +10 +0\.0 +2 +0 +0 +0$")
        self.assertEqual(len(re.findall(r"(?m)^ +write", text)), 1)

    def prometheus(self, *arguments):
        return parse_prometheus(self.bgfs("stats", "--prometheus", *arguments))

    def test_prometheus(self):
        self.serve()
        self.use("a")
        families = self.prometheus()

        def value(name, family=None, **labels):
            kind, samples = families[family or name]
            return samples[name, tuple(sorted(labels.items()))]

        write = {"export": "a", "operation": "write"}
        self.assertEqual(value("bgfs_export_operations_total", **write), 10)
        self.assertEqual(value("bgfs_export_bytes_total", **write), 40960)
        self.assertEqual(value("bgfs_export_errors_total", **write), 0)
        self.assertEqual(value("bgfs_export_operations_total", export="b",
                               operation="write"), 0)
        node = {"node": "raw", "driver": "raw"}
        self.assertEqual(value("bgfs_node_operations_total", **node,
                               operation="read"), 5)
        self.assertEqual(value("bgfs_node_highest_write_bytes", **node), 40960)
        self.assertEqual(value("bgfs_node_flush_failed", **node), 0)
        self.assertEqual(value("bgfs_export_stale", export="a"), 0)
        value("bgfs_node_cache_hits_total", node="image", driver="qcow2",
              cache="l2")
        self.assertEqual(families["bgfs_export_in_flight"][0], "gauge")

    def test_prometheus_histograms(self):
        self.serve()
        self.use("a")
        latency = kind(self.stats()[0]["a"], "WRITE")["latency"]
        family = "bgfs_export_latency_seconds"
        told, samples = self.prometheus()[family]
        self.assertEqual(told, "histogram")
        of_writes = {(name, dict(labels).get("le")): value
                     for (name, labels), value in samples.items()
                     if dict(labels).items() >= {
                         "export": "a", "operation": "write"}.items()}
        self.assertEqual(of_writes[family + "_count", None], 10)
        self.assertAlmostEqual(of_writes[family + "_sum", None],
                               int(latency["sum_ns"]) / 1e9, places=12)
        bounds = sorted(((float(le), value) for (name, le), value
                         in of_writes.items() if le), key=lambda b: b[0])
        self.assertEqual(bounds[-1], (float("inf"), 10))
        for bound, value in bounds[:-1]:
            self.assertEqual(value, sum(
                int(bucket["count"]) for bucket in latency["buckets"]
                if int(bucket["up_to_ns"]) <= round(bound * 1e9)))

    def test_prometheus_of_two_daemons_tells_them_apart(self):
        for name in "one", "two":
            self.image(f"{name}.img")
            os.mkdir(self.path(name))
            self.config('nodes { node_name: "n" raw { file { filename: '
                        f'"{name}.img" }} }} }} exports {{ id: "e" node: "n" '
                        'fuse {} }', f"{name}.textproto")
            self.bgfs("serve", f"{name}.textproto", name)
        _, samples = self.prometheus()["bgfs_export_stale"]
        pids = {dict(labels)["pid"] for _, labels in samples}
        self.assertEqual(pids, {str(pid) for pid in self.daemons()})
        _, samples = self.prometheus("one")["bgfs_export_stale"]
        self.assertEqual(list(samples),
                         [("bgfs_export_stale", (("export", "e"),))])

    def watch(self, *arguments):
        watching = subprocess.Popen(
            [command.BGFS, "stats", "--watch=1", *arguments],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(watching.communicate)
        self.addCleanup(watching.kill)
        return watching

    def test_a_watch_tells_what_is_new_until_it_is_interrupted(self):
        self.serve()
        self.use("a")
        for number in signal.SIGINT, signal.SIGTERM:
            watching = self.watch()
            tables = []
            while len(tables) < 2:
                line = watching.stdout.readline()
                self.assertNotEqual(line, "")
                if line.startswith("a  "):
                    tables.append(float(line.split()[2]))
            self.assertGreater(tables[0], 0)
            self.assertEqual(tables[1], 0, "nothing since")
            watching.send_signal(number)
            _, errors = watching.communicate(timeout=30)
            self.assertEqual((watching.returncode, errors), (0, ""))

    def test_a_watch_ends_with_the_daemon(self):
        self.serve()
        watching = self.watch("--json", "mnt")
        self.assertEqual(json.loads(watching.stdout.readline())["pid"],
                         self.daemons()[0])
        self.bgfs("umount", "mnt")
        _, errors = watching.communicate(timeout=30)
        self.assertEqual((watching.returncode, errors), (0, ""))

    def test_what_does_not_go_together(self):
        done = self.run_bgfs("stats", "--json", "--prometheus")
        self.assertEqual(done.returncode, 2)
        done = self.run_bgfs("stats", "--watch=0")
        self.assertEqual(done.returncode, 2)

    def test_what_does_not_answer_is_stale(self):
        frozen = self.host()
        self.image("host/a.img")
        self.qcow2("b.qcow2", "4M")
        self.config(CONFIG.replace("a.img", "host/a.img"))
        self.bgfs("serve", "graph.textproto", "mnt")
        self.use("a")
        known, _ = self.stats()
        writer = None
        subprocess.run(["fsfreeze", "--freeze", frozen], timeout=60, check=True)
        try:
            writer = subprocess.Popen(
                ["dd", "if=/dev/zero", f"of={self.mnt}/a", "bs=4k", "count=1",
                 "conv=notrunc", "status=none"])
            command.wait_until("its loop to hang", lambda: self.hanging() >= 1)
            for _ in range(3):
                exports, nodes = self.stats()
                self.assertTrue(exports["a"]["stale"])
                self.assertTrue(nodes["raw"]["stale"])
                self.assertFalse(exports["b"]["stale"])
                self.assertFalse(nodes["image"]["stale"])
                self.assertEqual(exports["a"]["taken_ns"],
                                 known["a"]["taken_ns"])
                self.assertEqual(kind(exports["a"], "WRITE"),
                                 kind(known["a"], "WRITE"))
            self.assertIn("stale: it does not answer", self.bgfs("stats"))
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", frozen], timeout=60,
                           check=True)
            if writer is not None:
                writer.wait(timeout=60)
        exports, _ = self.stats()
        self.assertFalse(exports["a"]["stale"])
        self.assertEqual(kind(exports["a"], "WRITE")["operations"], 11)
        self.bgfs("umount", "mnt")
        subprocess.run(["umount", frozen], timeout=60, check=True)
        self.assert_nothing_left()

    def test_where_nothing_is_shown(self):
        self.assertEqual(self.bgfs("stats"), "")
        self.fails(1, 'nothing of bgfs is mounted at "mnt"', "stats", "mnt")


if __name__ == "__main__":
    command.main()
