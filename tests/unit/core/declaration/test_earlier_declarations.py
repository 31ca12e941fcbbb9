"""Declarations that earlier code has read: today's reads each of them, and what it declares is what it declared."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.read_loop import read_loop

FROZEN = json.loads(gzip.decompress((Path(__file__).parent / "frozen" / "declarations.json.gz").read_bytes()))
"""Each with the ``commit`` that brought it, its ``page``, its ``text`` and what was ``declared`` by it then."""
CHANGED_DEFAULTS = {("retrain.cooldown", 2): 1}
"""What a key that a text does not state meant by the code of then, and means now."""
PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "upgrade.md"


def differing(then: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every key that was declared and means something else now, with both values; keys of today may be more."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key, value in then.items():
            yield from differing(value, now.get(key), f"{path}.{key}" if path else key)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for index, pair in enumerate(zip(then, now, strict=True)):
            yield from differing(*pair, f"{path}[{index}]")
    elif then != now:
        yield path, then, now


def read(text: str, folder: Path) -> dict[str, Any]:
    """Return a declaration as JSON values, defaults included."""
    file = folder / "loop.yaml"
    file.write_text(text, encoding="utf-8")
    return read_loop(file).to_dict()


@pytest.mark.parametrize("frozen", FROZEN, ids=[f"{kept['commit']}-{kept['page']}" for kept in FROZEN])
def test_a_declaration_of_then_means_now_what_it_meant(frozen: dict[str, Any], tmp_path: Path) -> None:
    declared = read(frozen["text"], tmp_path)
    for path, then, now in differing(frozen["declared"], declared):
        assert CHANGED_DEFAULTS.get((path, then)) == now, f"{path} was {then!r} and is {now!r}"


def test_every_default_that_changed_occurs_and_is_told_on_the_page_about_upgrades(tmp_path: Path) -> None:
    changed = {
        (path, then): now
        for frozen in FROZEN
        for path, then, now in differing(frozen["declared"], read(frozen["text"], tmp_path))
    }
    assert changed == CHANGED_DEFAULTS
    for (path, then), now in CHANGED_DEFAULTS.items():
        assert f"`{path}: {then}`" in PAGE.read_text(encoding="utf-8")
        assert f"`{path}: {now}`" in PAGE.read_text(encoding="utf-8")


def test_the_texts_are_those_of_every_loop_and_page_of_then() -> None:
    assert len(FROZEN) == 39
    assert len({frozen["text"] for frozen in FROZEN}) == 39
    assert {"include/loops/flight_air_time.yaml", "include/loops/flight_arrival.yaml", "README.md"} <= {
        frozen["page"] for frozen in FROZEN
    }
