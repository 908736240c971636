"""Usage, help and configurations: what needs no mount."""

import json
import os
import pathlib
import shutil
import subprocess

import command


class UsageTest(command.CommandTest):

    def test_version(self):
        self.assertRegex(self.bgfs("--version"), r"\Abgfs \d+\.\d+\.\d+\n\Z")

    def test_help_names_every_verb_and_every_verb_has_help(self):
        text = self.bgfs("help")
        self.assertEqual(text, self.bgfs("--help"))
        verbs = self.bgfs("help", "--words").split()
        self.assertIn("mount", verbs)
        for verb in verbs:
            self.assertIn(f"  {verb} ", text)
            of_verb = self.bgfs("help", verb)
            self.assertIn(f"Usage: bgfs {verb} ", of_verb)
            self.assertEqual(of_verb, self.bgfs(verb, "--help"))

    def test_each_verb_has_a_page_of_its_own(self):
        pages = {"bgfs.1": self.bgfs("help", "--man")}
        for verb in self.bgfs("help", "--words").split():
            pages[f"bgfs-{verb}.1"] = self.bgfs("help", "--man", verb)
        source = pathlib.Path(__file__).resolve().parents[3]
        pages["bgfs-config.5"] = subprocess.run(
            ["awk", "-f", source / "cmake/proto_to_man.awk",
             source / "proto/bgfs.proto"],
            check=True, capture_output=True, text=True, timeout=60).stdout
        for name, page in pages.items():
            with self.subTest(name=name):
                self.assertRegex(page, r"\A\.TH BGFS")
                self.assertIn(".SH NAME\nbgfs", page)
                if shutil.which("groff") is None:
                    continue
                done = subprocess.run(
                    ["groff", "-man", "-ww", "-z", "-K", "utf8"], input=page,
                    capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
        for option in ("--dry", "--json", "insert", "FILTER"):
            self.assertIn(option.replace("-", "\\-"), pages["bgfs-node.1"])
        for field in ("node_name", "throttle_groups", "l2_cache_size"):
            self.assertIn(field, pages["bgfs-config.5"])

    def complete(self, *words):
        """What bash offers for the last of the words."""
        script = pathlib.Path(__file__).resolve().parents[3] / \
            "config/cli/completion/bgfs"
        done = subprocess.run(
            ["bash", "-c", f"source {script}; COMP_WORDS=(\"$@\"); "
             "COMP_CWORD=$(($# - 1)); _bgfs \"$1\"; "
             "printf '%s\\n' \"${COMPREPLY[@]}\"", "bash",
             os.path.abspath(command.BGFS), *words],
            check=True, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash_completes(self):
        self.assertEqual(self.complete("check"), ["check", "check-config"])
        self.assertEqual(self.complete("mount", "--read"), ["--read-only"])
        self.assertEqual(self.complete("node", "re"),
                         ["remove", "reopen", "replace"])
        self.assertEqual(self.complete("node", "insert", "--d"), ["--dry-run"])
        self.assertEqual(self.complete("help", "do"), ["doctor"])
        self.assertEqual(self.complete("mount", "--close"), [])

    def test_help_of_mount_has_the_options(self):
        text = self.bgfs("help", "mount")
        for option in ("--read-only", "--format", "--resizable",
                       "--force-share", "--allow-implicit", "--foreground",
                       "--log", "--pid-file", "-o "):
            self.assertIn(f"  {option}", text)
        self.assertNotIn("--close-limit", text)

    def test_wrong_usage_is_2_and_one_line(self):
        for arguments, message in (
            ([], "no verb given; see: bgfs help"),
            (["mout"], 'no verb "mout"; did you mean "mount"?; see: bgfs help'),
            (["help", "x"], 'no verb "x"; see: bgfs help'),
            (["mount"], "mount: IMAGE is required; see: bgfs help mount"),
            (["mount", "a"],
             "mount: MOUNTPOINT is required; see: bgfs help mount"),
            (["mount", "a", "b", "--frob"],
             "mount: The following argument was not expected: --frob; "
             "see: bgfs help mount"),
            (["mount", "a", "b", "-o", "ro,frob=1"],
             'mount: -o: cannot use "frob=1"; see: bgfs help mount'),
            (["mount", "a", "b", "-o", "mode=8"],
             'mount: -o: cannot use "mode=8"; see: bgfs help mount'),
            (["mount", "a", "b", "-o", "uid=-1"],
             'mount: -o: cannot use "uid=-1"; see: bgfs help mount'),
            (["mount", "a", "b", "--read-only", "--resizable"],
             "mount: --resizable and read-only exclude each other; "
             "see: bgfs help mount"),
            (["umount"], "umount: PATH is required; see: bgfs help umount"),
        ):
            with self.subTest(arguments=arguments):
                self.fails(2, message, *arguments)

    def test_format_is_one_that_is_known(self):
        done = self.run_bgfs("mount", "--format=vmdk", "a", "b")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"\Abgfs: mount: --format: .*\n\Z")

    def test_check_config_says_nothing_of_a_good_one(self):
        config = self.config('nodes { node_name: "n" null {} }\n'
                             'exports { id: "e" node: "n" fuse {} }\n')
        self.assertEqual(self.bgfs("check-config", config), "")
        self.assertEqual(json.loads(self.bgfs("check-config", "--json",
                                              config))["mistakes"], [])

    def test_check_config_tells_every_mistake_at_its_place(self):
        self.config('nodes { node_name: "n" null {} }\n'
                    'exports { id: "e" node: "m" fuse {} }\n'
                    'exports { id: "e" node: "n" fuse {} }\n', "bad.textproto")
        done = self.run_bgfs("check-config", "bad.textproto")
        self.assertEqual(done.returncode, 1)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[0], r"\Abad\.textproto:2:\d+: .*\"m\"")
        self.assertRegex(lines[1], r"\Abad\.textproto:3:\d+: ")

        done = self.run_bgfs("check-config", "--json", "bad.textproto")
        self.assertEqual(done.returncode, 1)
        mistakes = json.loads(done.stdout)["mistakes"]
        self.assertEqual([mistake["line"] for mistake in mistakes], [2, 3])
        for mistake, line in zip(mistakes, lines):
            self.assertTrue(line.endswith(mistake["message"]))

    def test_serve_tells_them_too(self):
        self.config('nodes { node_name: "n" nul {} }\n')
        done = self.run_bgfs("serve", "graph.textproto", "mnt")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr,
                         r"\Abgfs: graph\.textproto:1:\d+: .*\"null\".*\n")

    def test_a_configuration_that_is_not_there(self):
        done = self.run_bgfs("check-config", "none.textproto")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stderr, "none.textproto: cannot read the configuration: "
            "No such file or directory\n")

    def test_what_needs_no_daemon_starts_none(self):
        self.run_bgfs("serve", "none.textproto", "mnt")
        self.assertEqual(os.listdir(self.path("run")), [])

    def test_a_reader_that_goes_is_no_crash(self):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([command.BGFS, "help"], stdout=writer,
                              timeout=60, check=False)
        os.close(writer)
        self.assertGreaterEqual(done.returncode, 0)


if __name__ == "__main__":
    command.main()
