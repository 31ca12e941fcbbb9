"""The pages of docs/reference say what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
PAGES: dict[str, str] = runpy.run_path(str(REFERENCE / "generate.py"))["pages"]()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_writing_a_page_again_changes_nothing(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == PAGES[name], "run `make docs`"


def test_every_page_of_the_reference_is_written_by_the_script() -> None:
    assert {path.name for path in REFERENCE.iterdir() if path.is_file()} == {"generate.py", *PAGES}
