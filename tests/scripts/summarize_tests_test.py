"""scripts/summarize_tests.py counts what ctest reports, and hides nothing."""

import os
import subprocess
import sys
import tempfile
import unittest

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "../../scripts/summarize_tests.py")

PASSED = '<testcase name="good" status="run" time="1"/>'
FAILED = """<testcase name="bad" status="fail"><failure message=""/>
  <system-out>Expected: 1\nActual: 2</system-out></testcase>"""
DISABLED = """<testcase name="off" status="disabled">
  <skipped message="Disabled"/></testcase>"""


def skipped(output, message="SKIP_REGULAR_EXPRESSION_MATCHED"):
    return f"""<testcase name="not_here" status="notrun">
      <skipped message="{message}"/><system-out>{output}</system-out>
      </testcase>"""


def summarize(*cases, ctest_status=0):
    """(exit status, lines printed) for these test cases."""
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(f"<testsuite>{''.join(cases)}</testsuite>")
        file.flush()
        done = subprocess.run(
            [sys.executable, "-B", _PROGRAM, file.name, str(ctest_status)],
            capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


class SummarizeTestsTest(unittest.TestCase):

    def test_all_passed(self):
        self.assertEqual(summarize(PASSED, PASSED),
                         (0, ["2 passed, 0 failed"]))

    def test_a_failure_shows_its_output(self):
        status, lines = summarize(PASSED, FAILED, ctest_status=8)
        self.assertEqual(status, 1)
        self.assertIn("Actual: 2", lines)
        self.assertEqual(lines[-1], "1 passed, 1 failed")

    def test_a_skip_shows_its_reason(self):
        gtest = "[ RUN ] A.B\na_test.cc:7: Skipped\nneeds root\n\n[  SKIPPED ] A"
        for output, reason in ((gtest, "needs root"), ("x\nno fuse\n",
                                                       "no fuse")):
            status, lines = summarize(PASSED, skipped(output))
            self.assertEqual(status, 0)
            self.assertEqual(lines, ["1 skipped:", f"  not_here: {reason}",
                                     "1 passed, 0 failed"])

    def test_a_disabled_test_is_shown(self):
        self.assertIn("  off: disabled", summarize(PASSED, DISABLED)[1])

    def test_a_skip_that_also_failed_has_failed(self):
        for sign in ("[  FAILED  ] A.B", "ERROR: LeakSanitizer: leaks",
                     "a.cc:1:2: runtime error: overflow"):
            status, lines = summarize(PASSED, skipped(f"[  SKIPPED ]\n{sign}"))
            self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed"))

    def test_what_could_not_run_has_failed(self):
        status, lines = summarize(
            PASSED, skipped("", message="Unable to find executable"))
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed"))

    def test_nothing_passed_is_a_failure(self):
        self.assertEqual(summarize(DISABLED)[0], 1)

    def test_failure_of_ctest_itself(self):
        status, lines = summarize(PASSED, ctest_status=8)
        self.assertEqual((status, lines[-1]), (1, "1 passed, 0 failed"))


if __name__ == "__main__":
    unittest.main()
