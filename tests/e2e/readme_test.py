"""Every example of the README does what the README shows.

A block that begins with ```console is a dialogue: a line after `$ ` is a
command (continued by a trailing backslash), what follows is its output, in
which `...` stands for anything. A ```textproto block whose first line is
`# NAME` is written to that file first. All run in one folder, in order.
"""

import doctest
import os
import pathlib
import re

from harness import BGFS, Test, main, run

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(r"^```(console|textproto)\n(.*?)^```$", re.S | re.M)


def dialogue(text):
    """[(command, expected output)] of a console block."""
    steps = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            steps.append([line[2:], ""])
        elif steps and not steps[-1][1] and steps[-1][0].endswith("\\\n"):
            steps[-1][0] += line
        else:
            steps[-1][1] += line
    return steps


class Readme(Test):

    def test_examples(self):
        checker = doctest.OutputChecker()
        path = f"{pathlib.Path(BGFS).resolve().parent}:{os.environ['PATH']}"
        environment = dict(os.environ, PATH=path, LC_ALL="C")
        commands = 0
        for kind, text in BLOCK.findall(README.read_text()):
            if kind == "textproto":
                name = text.split("\n")[0].removeprefix("# ")
                self.path(name).write_text(text)
                continue
            for command, expected in dialogue(text):
                if command.startswith("./scripts/"):
                    continue  # the set-up itself
                done = run("bash", "-c", command, cwd=self.folder,
                           env=environment, check=False)
                got = done.stdout + done.stderr
                self.assertTrue(
                    checker.check_output(
                        expected, got,
                        doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE),
                    f"$ {command}{got}\nthe README says:\n{expected}")
                commands += 1
        self.assertGreater(commands, 10)


if __name__ == "__main__":
    main()
