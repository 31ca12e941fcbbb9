"""The tutorial *From one CSV file*: its files are written, its commands run, and its outputs are compared."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loop.tutorial_page import assert_printed, blocks, run_command

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "from-one-csv-file.md"
MODULES = ("make_sales", "sales_model")


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
