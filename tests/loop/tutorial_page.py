"""Read the files, commands and outputs of a page, follow it, and run its commands in this process."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from airflow_mlops.cli import main

NOT_RUN = ("export", "airflow", "for")
"""Commands of a shell's environment, or that need a running Airflow."""


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield each block of a page: the paragraph before it, its language and its text."""
    for block in re.finditer(r"```(?P<language>[a-z]+)\n(?P<text>.*?)```", page, re.DOTALL):
        yield page[: block.start()].strip().rsplit("\n\n", 1)[-1], block["language"], block["text"]


def follow_page(page: Path, type_command: Callable[[str], str], folder: Path) -> int:
    """Write the files of a page, type its commands, compare what they print; return the number of comparisons."""
    printed, compared = "", 0
    for paragraph, language, text in blocks(page.read_text(encoding="utf-8")):
        if language == "python":
            (name,) = re.findall(r"`([a-z_/]+\.py)`", paragraph)
            (folder / name).write_text(text, encoding="utf-8")
        elif language == "bash":
            printed = "".join(map(type_command, text.splitlines()))
        else:
            assert_printed(text, printed)
            compared += 1
    return compared


def run_command(line: str) -> str:
    """Run one command of the page in this process and return what it prints."""
    words, _, log = line.replace("2>&1", "").partition(">")
    command, *arguments = shlex.split(words)
    printed = StringIO()
    with redirect_stdout(printed):
        if command == "mkdir":
            for folder in arguments[1:]:
                Path(folder).mkdir(parents=True, exist_ok=True)
        elif command == "python":
            runpy.run_path(arguments[0], run_name="__main__")
        elif command == "airflow-mlops":
            assert main(arguments) == 0
        elif command == "tail":
            printed.write("".join(Path(arguments[-1]).read_text().splitlines(keepends=True)[-int(arguments[1]) :]))
        else:
            assert command in NOT_RUN, f"the page has a command that this test does not know: {line}"
    if not log:
        return printed.getvalue()
    Path(log.strip()).write_text(printed.getvalue())
    return ""


def assert_printed(expected: str, printed: str) -> None:
    """Check that each line of the page, where … is anything, is a line of the output, in the same order."""
    position = 0
    for line in expected.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        match = re.compile(f"^{pattern}$", re.MULTILINE).search(printed, position)
        assert match is not None, f"{line!r} is not in its place in:\n{printed}"
        position = match.start() if line == "…" else match.end()
