"""The tutorial *From one CSV file*: its files are written, its commands run, and its outputs are compared."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.cli import main

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "from-one-csv-file.md"
MODULES = ("make_sales", "sales_model")
NOT_RUN = ("export", "airflow", "for")
"""Commands of a shell's environment, or that need a running Airflow."""


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield each block of a page: the paragraph before it, its language and its text."""
    for block in re.finditer(r"```(?P<language>[a-z]+)\n(?P<text>.*?)```", page, re.DOTALL):
        yield page[: block.start()].strip().rsplit("\n\n", 1)[-1], block["language"], block["text"]


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


def test_every_file_command_and_output_of_the_page_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_scheduler: SchedulerFactory
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    printed, compared = "", []
    for paragraph, language, text in blocks(PAGE.read_text(encoding="utf-8")):
        if language in ("python", "yaml"):
            (name,) = re.findall(r"`([a-z_/]+\.(?:py|yaml))`", paragraph)
            Path(name).write_text(text, encoding="utf-8")
        elif language == "bash":
            printed = "".join(map(run_command, text.splitlines()))
        elif language == "csv":
            assert Path("include/data/sales.csv").read_text(encoding="cp1252").startswith(text)
        else:
            assert_printed(text, printed)
            compared.append(text)
    assert len(compared) == 5
    for module in MODULES:
        sys.modules.pop(module, None)
