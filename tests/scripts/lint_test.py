"""Each rule of scripts/lint finds what it is for, and leaves the rest alone."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest

_LINT = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "../../scripts/lint")


def _load():
    loader = importlib.machinery.SourceFileLoader("lint", _LINT)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("lint", loader))
    loader.exec_module(module)
    return module


lint = _load()
IDEA = "// An idea.\n"


def findings(files):
    """What lint finds in a tree of {path: text}, as path:line:rule."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
            with open(f"{root}/{path}", "w", encoding="utf-8") as file:
                file.write(text)
        return [f"{path}:{line}:{rule}" for path, line, rule, _ in
                lint.lint(root)]


def function(lines):
    """A function of so many lines, the first and the last included."""
    return "\n".join(["int F() {"] + ["  ++x;"] * (lines - 2) + ["}"]) + "\n"


class SizesTest(unittest.TestCase):

    def test_function_of_70_lines_passes_and_71_fails(self):
        self.assertEqual(findings({"graph/a.cc": IDEA + function(70)}), [])
        self.assertEqual(findings({"graph/a.cc": IDEA + function(71)}),
                         ["graph/a.cc:2:function-size"])

    def test_file_of_800_lines_passes_and_801_fails(self):
        text = IDEA + "int x;\n" * 799
        self.assertEqual(findings({"graph/a.h": text}), [])
        self.assertEqual(findings({"graph/a.h": text + "\n"}),
                         ["graph/a.h:801:file-size"])

    def test_every_shape_of_function_is_measured(self):
        for head in (
                "template <typename T = A<int>>\nvoid C<T>::F(T t) const&\n{",
                "auto F(int (*f)(int)) -> std::vector<int> {",
                "C::C(int a) : a_{a}, b_(f({1, 2})) {",
                "C::C(int a) noexcept(true)\n    : Base<int>(a), a_{a} {",
                "bool operator==(const C& a, const C& b) {",
                "void operator()(int x) const override {",
                "struct stat Get(struct stat in = {}) {",
                "namespace a { class C final : B<int()> {\n public:\n  C() {",
                "MACRO_BEGIN namespace a {\nvoid F() EXCLUDES(mu_) {",
                "TEST_F(FooTest, Bar) {",
                "Task<int> F() ABSL_NO_THREAD_SAFETY_ANALYSIS try {",
                "constexpr auto kF = [](int x) {",
                "const Verb kVerbs[] = {{\"a\", [] {",
                "// It's 1'000 braces {{{ '\"'\nvoid F() { char c = '{'; /* } */",
                "const char kS[] = R\"x(}\"{)x\"; void F() {",
        ):
            code = lint.strip(head)
            depth = code.count("{") - code.count("}")
            text = IDEA + head + "\n" + "  ++x;\n" * 80 + "}" * depth + "\n"
            rules = [f.split(":")[2] for f in findings({"graph/a.cc": text})]
            self.assertEqual(rules, ["function-size"], head)

    def test_what_is_no_function_may_be_long(self):
        for head, end in (
                ("class C {", "};"),
                ("struct alignas(64) C : B<int()> {", "};"),
                ("namespace a::b {", "}"),
                ("extern \"C\" {", "}"),
                ("class [[nodiscard]] C {", "};"),
        ):
            body = "int x;\n" * 80
            self.assertEqual(
                findings({"graph/a.h": f"{IDEA}{head}\n{body}{end}\n"}), [],
                head)
        for head in ("enum class E : int {", "const int kTable[] = {"):
            text = IDEA + head + "\n" + "  A,\n" * 80 + "};\n"
            self.assertEqual(findings({"graph/a.cc": text}), [], head)

    def test_short_functions_do_not_add_up(self):
        text = IDEA + "class C {\n" + "  int F() { return 1; }\n" * 100 + "};\n"
        self.assertEqual(findings({"graph/a.h": text}), [])

    def test_branches_of_the_preprocessor_count_their_braces_once(self):
        text = (IDEA + "#if A\nvoid F() {\n#else\nvoid F(int) {\n#endif\n" +
                "  ++x;\n}\n")
        self.assertEqual(findings({"graph/a.cc": text}), [])

    def test_unbalanced_braces_are_said(self):
        self.assertEqual(findings({"graph/a.cc": IDEA + "void F() {{ }\n"}),
                         ["graph/a.cc:2:braces"])
        self.assertEqual(findings({"graph/a.cc": IDEA + "}\n"}),
                         ["graph/a.cc:2:braces"])


class OpeningTest(unittest.TestCase):

    def test_a_header_opens_with_its_idea(self):
        self.assertEqual(findings({"graph/a.h": "#ifndef A\n#endif\n"}),
                         ["graph/a.h:1:opening"])


class IncludesTest(unittest.TestCase):
    # Who may include whom, as the table of the house has it.
    ALLOWED = {
        "proto/x.h": {"proto"},
        "graph/async/x.h": {"graph/async"},
        "graph/x.h": {"graph", "graph/async"},
        "drivers/qcow2/x.h": {"drivers", "graph", "graph/async", "proto"},
        "fuse/x.h": {"fuse", "graph", "graph/async", "proto"},
        "config/x.h": {"config", "graph", "graph/async", "proto"},
        "config/cli/x.cc": {"config/cli", "config", "fuse", "drivers", "graph",
                            "graph/async", "proto"},
        "tests/graph/x.cc": {"tests", "config/cli", "config", "fuse",
                             "drivers", "graph", "graph/async", "proto"},
    }

    def test_every_arrow(self):
        floors = self.ALLOWED["tests/graph/x.cc"]
        for path, allowed in self.ALLOWED.items():
            for floor in floors:
                text = f'{IDEA}#include "{floor}/y.h"\n'
                wanted = [] if floor in allowed else [f"{path}:2:include-arrow"]
                self.assertEqual(findings({path: text}), wanted, floor)

    def test_angle_brackets_and_spaces_hide_nothing(self):
        self.assertEqual(
            findings({"fuse/x.h": IDEA + "#  include <drivers/raw.h>\n"}),
            ["fuse/x.h:2:include-arrow"])

    def test_other_peoples_headers_are_theirs(self):
        text = IDEA + '#include <vector>\n#include "absl/status/status.h"\n'
        self.assertEqual(findings({"graph/x.h": text}), [])

    def test_includes_are_written_from_the_root(self):
        self.assertEqual(
            findings({
                "graph/x.h": IDEA + '#include "../fuse/y.h"\n',
                "fuse/y.h": IDEA + '#include "z.h"\n',
                "fuse/z.h": IDEA,
            }), ["fuse/y.h:2:include-path", "graph/x.h:2:include-path",
                 "graph/x.h:2:include-arrow"])


class TracesTest(unittest.TestCase):

    def test_unfinished_work(self):
        for mark in ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"):
            self.assertEqual(findings({"cmake/a.cmake": f"# {mark}: x\n"}),
                             ["cmake/a.cmake:1:unfinished"])
        self.assertEqual(findings({"tests/a.py": "mktemp('XXXXXX')\n"}), [])

    def test_paths_of_one_machine(self):
        for path in ("wo" + "rk/a", "ho" + "me/jo/a", "ro" + "ot/a"):
            self.assertEqual(findings({"scripts/a": f"ls\ncat /{path}\n"}),
                             ["scripts/a:2:local-path"])
        self.assertEqual(findings({"scripts/a": "$d/work/a a/root/b /tmp/x\n"}),
                         [])

    def test_files_without_anything(self):
        self.assertEqual(findings({"tests/a.py": ""}), ["tests/a.py:1:empty"])
        self.assertEqual(findings({"tests/fuzz/corpus/config/a": "",
                                   "tests/__init__.py": ""}), [])

    def test_binary_files_are_left_alone(self):
        self.assertEqual(findings({"tests/a.img": "\0TO" + "DO"}), [])


class ProgramTest(unittest.TestCase):

    def run_on(self, text):
        with tempfile.TemporaryDirectory() as root:
            os.mkdir(f"{root}/graph")
            with open(f"{root}/graph/a.cc", "w", encoding="utf-8") as file:
                file.write(text)
            return subprocess.run([sys.executable, "-B", _LINT, root],
                                  capture_output=True, text=True, check=False)

    def test_exit_status_and_line(self):
        clean, dirty = self.run_on(IDEA), self.run_on("}\n")
        self.assertEqual((clean.returncode, clean.stdout), (0, ""))
        self.assertEqual(dirty.returncode, 1)
        self.assertRegex(dirty.stdout, r"\Agraph/a\.cc:1: braces: .+\n\Z")

    def test_files_that_git_ignores_are_not_ours(self):
        with tempfile.TemporaryDirectory() as root:
            for name, text in ((".gitignore", "b.cc\n"), ("b.cc", "int x;\n")):
                with open(f"{root}/{name}", "w", encoding="utf-8") as file:
                    file.write(text)
            subprocess.run(["git", "init", "-q", root], check=True)
            self.assertEqual(lint.list_files(root), [".gitignore"])


if __name__ == "__main__":
    unittest.main()
