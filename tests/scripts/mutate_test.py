"""scripts/mutate breaks what it says, and its list fits the tree."""

import importlib.machinery
import importlib.util
import os
import re
import tempfile
import unittest

_ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def _load():
    loader = importlib.machinery.SourceFileLoader(
        "mutate", os.path.join(_ROOT, "scripts/mutate"))
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("mutate", loader))
    loader.exec_module(module)
    return module


mutate = _load()

ENTRY = """[[mutation]]
name = "{name}"
rule = "2.2 a rule"
broken = "not doing it"
file = "a.cc"
old = "Do();"
new = ""
tests = ["a_test:A.*"]
"""


def mutation(**fields):
    whole = {"name": "m", "rule": "2.2 a rule", "broken": "not doing it",
             "file": "a.cc", "old": "Do();", "new": "", "tests": ["a_test:A.*"]}
    return mutate.Mutation(**(whole | fields))


def load(text):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return mutate.load(file.name)


class ListTest(unittest.TestCase):

    def test_loads(self):
        self.assertEqual(load(ENTRY.format(name="m")), [mutation()])

    def test_a_field_that_is_missing_or_unknown_is_told(self):
        with self.assertRaisesRegex(mutate.MutateError, "m: a mutation has"):
            load(ENTRY.format(name="m").replace("broken", "broke"))

    def test_a_name_is_there_once(self):
        with self.assertRaisesRegex(mutate.MutateError, "m: 2 mutations"):
            load(ENTRY.format(name="m") * 2)

    def test_only_takes_names_that_are_there(self):
        self.assertEqual(mutate.select([mutation()], ["m"]), [mutation()])
        with self.assertRaisesRegex(mutate.MutateError, "no mutation is called n"):
            mutate.select([mutation()], ["n"])


class ApplyTest(unittest.TestCase):

    def test_breaks(self):
        self.assertEqual(mutate.apply(mutation(), "{ Do(); }"), "{  }")

    def test_text_that_is_gone_or_twice_there_is_stale(self):
        for text in ("Done();", "Do(); Do();"):
            with self.assertRaisesRegex(mutate.MutateError, "m: stale"):
                mutate.apply(mutation(), text)

    def test_it_has_to_change_something(self):
        with self.assertRaisesRegex(mutate.MutateError, "changes nothing"):
            mutate.apply(mutation(new="Do();"), "Do();")


class FailuresTest(unittest.TestCase):

    def test_none(self):
        output = "[ RUN      ] A.B\n[       OK ] A.B (0 ms)\n"
        self.assertEqual(mutate.failures(output, 0, "A.*"), [])

    def test_one_that_says_so(self):
        output = ("[ RUN      ] A.B/0\n"
                  "[  FAILED  ] A.B/0, where GetParam() = 7 (5 ms)\n"
                  "[  FAILED  ] 1 test, listed below:\n"
                  "[  FAILED  ] A.B/0, where GetParam() = 7\n")
        self.assertEqual(mutate.failures(output, 1, "A.*"), ["A.B/0"])

    def test_one_that_never_ended(self):
        output = "[ RUN      ] A.B\n[       OK ] A.B (0 ms)\n[ RUN      ] A.C\n"
        self.assertEqual(mutate.failures(output, -6, "A.*"), ["A.C"])

    def test_a_filter_that_matches_nothing_is_an_error(self):
        with self.assertRaisesRegex(mutate.MutateError, "no test matches A"):
            mutate.failures("[==========] Running 0 tests\n", 0, "A.*")


class ReportTest(unittest.TestCase):

    def test_only_what_was_caught_is_well(self):
        caught = mutate.Result(mutation(), ["A.B"], 1.0, "")
        missed = mutate.Result(mutation(), [], 1.0, "")
        self.assertEqual(mutate.report([caught]), 0)
        self.assertEqual(mutate.report([caught, missed]), 1)
        self.assertEqual(mutate.report([]), 1)


class TheListTest(unittest.TestCase):
    """The one in scripts/mutations.toml."""

    def setUp(self):
        self.mutations = mutate.load(f"{_ROOT}/{mutate.DATA}")

    def test_every_old_text_is_in_its_file(self):
        for m in self.mutations:
            mutate.apply(m, mutate.read(_ROOT, m.file))

    def test_every_program_and_suite_is_there(self):
        programs, suites = set(), set()
        for folder, _, names in os.walk(f"{_ROOT}/tests"):
            for name in names:
                if name.endswith(".cc") or name == "CMakeLists.txt":
                    text = mutate.read(folder, name)
                    programs |= set(re.findall(r"bgfs_test\((\w+)", text))
                    suites |= set(re.findall(r"TEST(?:_[FP])?\((\w+),", text))
        for m in self.mutations:
            for test in m.tests:
                program, wanted = test.split(":", 1)
                self.assertIn(program, programs, m.name)
                for one in wanted.split(":"):
                    suite = re.sub(r"\*", ".*", one.split(".")[0].split("/")[-1])
                    self.assertTrue(any(re.fullmatch(suite, s) for s in suites),
                                    f"{m.name}: {one}")

    def test_the_table_stands_in_the_readme(self):
        readme = mutate.read(_ROOT, "tests/README.md")
        self.assertTrue(mutate.table(self.mutations) in readme,
                        "put the output of scripts/mutate --table there anew")


if __name__ == "__main__":
    unittest.main()
