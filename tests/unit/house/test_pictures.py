"""Pictures of docs/images are shown on a page, and those of pages are the ones that the tests draw."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.loop.pages_to_picture import IMAGES, LARGEST, PICTURES, WIDTH, Picture

HOUSE = Path(__file__).parents[3]
PLOTS = {"demo.png", "replay.png", "scale.svg"}
"""Pictures of figures, which the demo, the command ``replay`` and ``benchmarks.scale`` draw."""


def shown() -> set[str]:
    """Return the names of the pictures that pages show."""
    pages = [HOUSE / "README.md", *(HOUSE / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return set(re.findall(r"!\[[^\]]+\]\([^)]*?images/([^)]+)\)", text))


def test_each_picture_is_shown_and_is_drawn_by_a_test_or_a_program() -> None:
    kept = {file.name for file in IMAGES.iterdir()}
    drawn = {f"{picture.name}.png" for picture in PICTURES}
    assert kept == drawn | PLOTS
    assert shown() == kept


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_kept_picture_is_as_large_as_its_test_draws_it(picture: Picture) -> None:
    file = IMAGES / f"{picture.name}.png"
    with Image.open(file) as image:
        assert image.size == (WIDTH, picture.height), "make screenshots draws it again"
    assert file.stat().st_size < LARGEST
