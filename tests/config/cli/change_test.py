"""bgfs apply, node and export: what they print, and what comes of it."""

import json
import os
import re
import signal
import subprocess
import unittest

from command import CommandTest, main, needs_mounts, wait_until

CLIENT = os.path.join(os.path.dirname(__file__), "reflection_client.py")
# Debian's own, which has its packages.
PYTHON = "/usr/bin/python3"
HAS_GRPC = subprocess.run(
    [PYTHON, "-c", "import grpc, google.protobuf.json_format"],
    capture_output=True, check=False).returncode == 0

ONE = """\
nodes { node_name: "a" raw { file { filename: "a.img" } } }
exports { id: "a" node: "a" writable: true fuse {} }
"""
DONE = re.compile(r"done; clients waited \d+\.\d ms at most\n$")


@needs_mounts
class ChangeTest(CommandTest):

    def setUp(self):
        super().setUp()
        self.image("a.img")
        self.image("b.img")
        self.config(ONE)

    def serve(self):
        self.bgfs("serve", "graph.textproto", "mnt")

    def end(self):
        self.bgfs("umount", "mnt")
        self.assert_nothing_left()

    def does(self, steps, *arguments):
        """A change that is done, and says so in these lines."""
        output = self.bgfs(*arguments)
        self.assertRegex(output, DONE)
        self.assertEqual(output.splitlines()[:-1], steps)

    def test_apply_says_each_step(self):
        self.serve()
        text = ONE + 'nodes { node_name: "b" null {} }\n' \
            'exports { id: "b" node: "b" fuse {} }\n'
        steps = ['open node "b": null', 'add export "b" of node "b"']
        self.config(text, "next.textproto")
        self.assertEqual(
            self.bgfs("apply", "--dry-run", "next.textproto", "mnt"),
            "\n".join(steps) + "\n")
        self.assertEqual(os.listdir(self.mnt), ["a"])
        self.does(steps, "apply", "next.textproto", "mnt")
        self.assertEqual(sorted(os.listdir(self.mnt)), ["a", "b"])
        self.assertEqual(self.bgfs("apply", "next.textproto", "mnt"),
                         "nothing to do: that is what is live\n")
        reply = json.loads(self.bgfs("apply", "--json", "graph.textproto"))
        self.assertEqual(reply["errors"], [])
        self.assertEqual(len(reply["steps"]), 2)
        self.assertLess(reply["pause_ms"], 60000)
        self.assertEqual(os.listdir(self.mnt), ["a"])
        self.end()

    def test_mistakes_have_their_place(self):
        self.config("nodes {", "bad.textproto")
        done = self.run_bgfs("apply", "bad.textproto", "mnt")
        self.assertEqual(done.returncode, 1)
        self.assertIn("bad.textproto:", done.stderr)
        self.fails(1, "no daemon of yours serves a configuration; start one "
                   "with: bgfs serve", "apply", "graph.textproto")
        self.serve()
        self.config(ONE.replace("a.img", "no.img"), "next.textproto")
        self.fails(1, f'the file of a: cannot open "{self.folder}/no.img" for '
                   "writing: No such file or directory; check the name",
                   "apply", "next.textproto", "mnt")
        with open(self.path("mnt", "a"), "r+b") as file:
            file.write(b"as before")
        self.end()
        self.assertEqual(self.read("a.img")[:9], b"as before")

    def test_one_change_at_a_time(self):
        self.serve()
        self.does(['open node "f": raw',
                   'change export "a": node: "a" -> "f"'],
                  "node", "insert", 'node_name: "f" raw {}', "a")
        self.does(['reopen node "a": discard: IGNORE -> UNMAP'],
                  "node", "reopen", "a", "discard: UNMAP", "--at", "mnt")
        os.mkdir(self.path("elsewhere"))
        # A name in a command begins where the command was given.
        self.does(['open node "b/file": file', 'open node "b": raw'],
                  "node", "add", 'node_name: "b" raw { file { filename: '
                  '"b.img" } }')
        self.does(['add export "b" of node "b"'],
                  "export", "add", 'id: "b" node: "b" fuse {}')
        self.assertEqual(self.read("mnt", "b"), self.read("b.img"))
        self.fails(1, 'node "b" is used by export "b"; change that first',
                   "node", "remove", "b")
        self.does(['remove export "b": what has it open gets ESHUTDOWN'],
                  "export", "remove", "b")
        self.does(['close node "b"', 'close node "b/file"'],
                  "node", "remove", "b")
        self.does(['change export "a": node: "f" -> "a"', 'close node "f"'],
                  "node", "drop", "f")
        self.end()

    def test_a_changed_configuration_is_the_one_to_change(self):
        self.serve()
        self.bgfs("node", "add", 'node_name: "n" null {}')
        self.bgfs("export", "add", 'id: "n" node: "n" fuse {}')
        self.bgfs("export", "remove", "a")
        self.assertEqual(os.listdir(self.mnt), ["n"])
        self.fails(1, 'no export "a"; see: bgfs status', "export", "remove",
                   "a")
        self.fails(1, "the configuration has no exports: add exports { ... }",
                   "export", "remove", "n")
        self.end()

    def test_an_ordinary_mount_takes_changes_too(self):
        self.bgfs("mount", "--format=raw", "a.img", "mnt")
        self.does(['open node "f": raw',
                   'change export "a.raw": node: "image" -> "f"'],
                  "node", "insert", 'node_name: "f" raw {}', "image",
                  "--at", "mnt")
        self.end()

    def test_what_a_header_names_goes_when_nothing_stands_on_it(self):
        self.qcow2("top.qcow2", "-F", "raw", "-b", "b.img")
        top = 'nodes { node_name: "top" qcow2 { file { filename: ' \
            '"top.qcow2" } } }\n' \
            'exports { id: "top" node: "top" fuse {} }\n'
        self.config(top)
        self.serve()
        self.assertEqual(len(json.loads(self.bgfs("graph", "--json", "mnt"))
                             ["nodes"]), 4)
        self.config('nodes { node_name: "b" raw { file { filename: "b.img" } } '
                    '}\n' + top.replace('" } } }', '" } backing: "b" } }'),
                    "next.textproto")
        self.does(['open node "b/file": file', 'open node "b": raw',
                   'link backing of node "top": what its header names -> node '
                   '"b"'], "apply", "next.textproto", "mnt")
        nodes = json.loads(self.bgfs("graph", "--json", "mnt"))["nodes"]
        self.assertEqual(len(nodes), 4)
        self.assertIn("b", [node["name"] for node in nodes])
        self.fails(1, 'node "top": without backing, what the header names would '
                   "be opened, which a running bgfs cannot do; name it",
                   "apply", "graph.textproto", "mnt")
        self.end()

    def test_what_somebody_has_unmounted_comes_back(self):
        text = ONE + 'exports { id: "b" node: "a" fuse {} }\n'
        self.config(text)
        self.serve()
        subprocess.run(["umount", self.path("mnt", "b")], timeout=60,
                       check=True)
        self.does(['add export "b" of node "a"'], "apply", "graph.textproto",
                  "mnt")
        self.assertEqual(self.read("mnt", "b"), self.read("a.img"))
        self.end()

    def test_resize(self):
        self.qcow2("top.qcow2", "-F", "raw", "-b", "b.img")
        self.config(ONE + '''
            nodes { node_name: "top" qcow2 { file { filename: "top.qcow2" } } }
            exports { id: "top" node: "top" writable: true fuse {} }
            exports { id: "beside" node: "a" fuse {} }''')
        self.serve()
        size = os.path.getsize(self.path("b.img"))
        self.assertEqual(self.bgfs("resize", "mnt/top", "8M"),
                         f"mnt/top: {size} -> {8 << 20} bytes\n")
        self.assertEqual(os.path.getsize(self.path("mnt", "top")), 8 << 20)
        self.assertEqual(self.read("mnt", "top")[size:], bytes((8 << 20) - size))
        with open(self.path("mnt", "top"), "r+b") as file:
            file.seek((8 << 20) - 3)
            file.write(b"end")
        self.fails(1, f'node "top" has {8 << 20} bytes; what lies behind 4096 '
                   "would be lost: if that is meant, give --shrink",
                   "resize", "mnt/top", "4K")
        self.bgfs("resize", "mnt/top", "4K", "--shrink")
        self.assertEqual(os.path.getsize(self.path("mnt", "top")), 4096)
        # A reader beside a writer has to bear what that may do.
        self.assertEqual(self.bgfs("resize", "mnt/a", "8M"),
                         f"mnt/a: {size} -> {8 << 20} bytes\n")
        for name in (("a.img",), ("mnt", "a"), ("mnt", "beside")):
            self.assertEqual(os.path.getsize(self.path(*name)), 8 << 20)
        self.fails(2, 'resize: "big" is not a size: write bytes, or a number '
                   'with K, M, G, T, P or E, as in "64K"; see: bgfs help '
                   "resize", "resize", "mnt/a", "big")
        self.fails(1, 'no daemon shows "mnt" as a file; see: bgfs status',
                   "resize", "mnt", "8M")
        self.end()

    def test_graph_shows_nodes_and_rights(self):
        self.config('''
            nodes { node_name: "base" raw { file { filename: "b.img" } } }
            nodes { node_name: "top" qcow2 { file { filename: "top.qcow2" }
                    backing: "base" } }
            nodes { node_name: "beside" null {} }
            exports { id: "disk" node: "top" writable: true fuse {} }
            exports { id: "base" node: "base" fuse {} }''')
        self.qcow2("top.qcow2", "-F", "raw", "-b", "b.img")
        self.serve()
        text = re.sub(r"#block\d+", "#block", self.bgfs("graph"))
        text = re.sub(r"\b\d{6} bytes", "N bytes", text)
        size = os.path.getsize(self.path("b.img"))
        self.assertEqual(text.replace(self.folder, "FOLDER"), f"""\
export disk (consistent read, write)
  top  qcow2  rw  {size} bytes
    file: #block  file  rw  N bytes  FOLDER/top.qcow2
    backing: base  raw  ro  {size} bytes
      file: #block  file  ro  {size} bytes  FOLDER/b.img
export base (consistent read)
  base  (see above)
beside  null  ro  1073741824 bytes
""")
        graph = json.loads(self.bgfs("graph", "--json", "mnt"))
        nodes = {node["name"]: node for node in graph["nodes"]}
        self.assertEqual(nodes["top"]["children"][1]["uses"],
                         ["consistent read"])
        self.assertEqual(nodes["top"]["children"][1]["shares"],
                         ["consistent read", "write unchanged"])
        self.assertEqual(nodes["top"]["home"], nodes["base"]["home"])
        self.assertNotEqual(nodes["top"]["home"], nodes["beside"]["home"])
        dot = self.bgfs("graph", "--dot")
        self.assertIn('"export disk" -> "top"', dot)
        self.assertIn('"top" -> "base"', dot)
        self.assertEqual(dot.count("{"), dot.count("}"))
        self.end()

    @unittest.skipUnless(HAS_GRPC, "needs python3-grpcio")
    def test_any_language_can_drive_it(self):
        self.serve()
        socket = self.path("run", "bgfs",
                           os.listdir(self.path("run", "bgfs"))[0])

        def call(method, **request):
            done = subprocess.run(
                [PYTHON, "-B", CLIENT, socket, method, json.dumps(request)],
                capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return json.loads(done.stdout)

        live = call("Config")
        self.assertEqual(live["folder"], self.folder)
        reply = call("Apply", folder=live["folder"], config=live["config"] +
                     'exports { id: "b" node: "a" fuse {} }')
        self.assertEqual(reply["steps"], ['add export "b" of node "a"'])
        self.assertEqual(sorted(os.listdir(self.mnt)), ["a", "b"])
        self.assertEqual(len(call("Status")["exports"]), 2)
        late = call("Apply", folder=live["folder"], config=live["config"],
                    generation=live["generation"])
        self.assertIn("somebody else", late["errors"][0])
        self.assertEqual(len(call("Graph")["nodes"]), 2)
        self.end()

    def test_sighup_reads_the_file_again(self):
        self.bgfs("serve", "--log", self.path("log"), "graph.textproto", "mnt")
        self.config(ONE + 'exports { id: "b" node: "a" fuse {} }\n')
        signal.pidfd_send_signal(self.daemon(), signal.SIGHUP)
        wait_until("the export is there",
                   lambda: sorted(os.listdir(self.mnt)) == ["a", "b"])
        self.config("nonsense")
        signal.pidfd_send_signal(self.daemon(), signal.SIGHUP)
        wait_until("the log says so",
                   lambda: b"nothing was changed: " in self.read("log"))
        self.assertEqual(sorted(os.listdir(self.mnt)), ["a", "b"])
        self.end()


if __name__ == "__main__":
    main()
