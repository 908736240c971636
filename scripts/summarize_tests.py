#!/usr/bin/env python3
"""Says what a ctest run came to: failures with their output, skips with reasons.

  summarize_tests.py REPORT.xml CTEST_EXIT_STATUS

The last line is "N passed, N failed". ctest calls a test skipped as soon as it
prints gtest's mark for a skip, whatever else went wrong in it; here such a test
has failed. Exit status 0 when something passed, nothing failed, and ctest
itself found nothing wrong either.
"""

import collections
import re
import sys
import xml.etree.ElementTree

# What a program that failed in spite of a skip has printed.
_FAILED = re.compile(r"\[  FAILED  \]|Sanitizer:|runtime error:")

Test = collections.namedtuple("Test", "name state seconds output")


def _without_colors(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def read(path):
    """The tests of a JUnit file; state is passed, failed or skipped."""
    tests = []
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        output = _without_colors(case.findtext("system-out") or "")
        status = case.get("status")
        if status in ("notrun", "disabled") and _is_skip(case, output):
            state = "skipped"
        else:
            state = "passed" if status == "run" else "failed"
        tests.append(
            Test(case.get("name"), state, float(case.get("time") or 0), output))
    return tests


def _is_skip(case, output):
    if case.get("status") == "disabled":
        return True
    skipped = case.find("skipped")
    message = "" if skipped is None else skipped.get("message", "")
    return message.startswith("SKIP_") and not _FAILED.search(output)


def reason(output):
    """Why a test was skipped, in its own words, in one line."""
    gtest = re.search(r": Skipped\n(.*?)\n\s*\[  SKIPPED \]", output, re.S)
    text = gtest.group(1) if gtest else output
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if gtest:
        return " ".join(lines) or "no reason given"
    return lines[-1] if lines else "disabled"


def main():
    report, ctest_status = sys.argv[1], int(sys.argv[2])
    by_state = collections.defaultdict(list)
    for test in read(report):
        by_state[test.state].append(test)
    passed, failed = len(by_state["passed"]), len(by_state["failed"])

    for test in by_state["failed"]:
        print(f"--- FAILED {test.name} ({test.seconds:.1f} s)")
        print(test.output.rstrip() or "(no output)")
    if by_state["skipped"]:
        print(f"{len(by_state['skipped'])} skipped:")
    for test in by_state["skipped"]:
        print(f"  {test.name}: {reason(test.output)}")
    if failed:
        print(f"{failed} failed:")
    for test in by_state["failed"]:
        print(f"  {test.name}")
    if ctest_status and not failed:
        print(f"ctest itself failed (exit status {ctest_status})")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed or ctest_status else 0


if __name__ == "__main__":
    sys.exit(main())
