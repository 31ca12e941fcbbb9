"""Run the commands of a page about operation, section by section, on a small loop that stands for the page's."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from airflow_mlops.cli import main
from tests.loop.project import Project
from tests.loop.tutorial_page import assert_printed, blocks

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
MODEL = "bakery"
"""The model that the pages name."""
ELSEWHERE = ("airflow", "openssl", "cd", "mv")
"""Commands that a test does itself, or that need a running Airflow."""


class Page:
    """A page, and what its commands print on the loop of a project."""

    def __init__(self, name: str, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        self.text = (HOW_TO / name).read_text(encoding="utf-8")
        self.project = project
        self.capsys = capsys

    def follow(self, heading: str) -> str:
        """Run the commands below a heading and hold each block of output against what was printed; return all of it."""
        section = self.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        assert section, f"the page has no heading {heading!r}"
        everything, printed = "", ""
        for _, language, text in blocks(section):
            if language == "bash":
                printed = "".join(self.run(line) for line in text.splitlines() if line.strip())
                everything += printed
            elif language == "text" and printed:
                assert_printed(text.rstrip(), printed)
        return everything

    def run(self, line: str) -> str:
        """Run one command in this process; return its output and its error with the page's name of the model."""
        program, *arguments = shlex.split(line, comments=True)
        if program in ELSEWHERE:
            return ""
        assert program == "airflow-mlops", line
        main([self.project.model if word == MODEL else word for word in arguments])
        output = self.capsys.readouterr()
        return (output.out + output.err).replace(self.project.model, MODEL)
