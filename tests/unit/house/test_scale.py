"""The page about scale says what its constants give, and each constant names the benchmark that measured it."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.__main__ import MODULES
from benchmarks.scale import CADENCES, CORES, PAGE, PICTURE, ROWS, Constants, draw, page_with_tables, read_rows


def test_writing_the_page_and_its_picture_again_changes_nothing() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page_with_tables(page) == page, "run python -m benchmarks.scale"
    assert PICTURE.read_text(encoding="utf-8") == draw(), "run python -m benchmarks.scale"


def test_another_constant_would_change_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    page, constants = PAGE.read_text(encoding="utf-8"), Constants.read()
    for field in dataclasses.fields(Constants):
        other = dataclasses.replace(constants, **{field.name: 3 * getattr(constants, field.name)})
        monkeypatch.setattr(Constants, "read", classmethod(lambda _cls, other=other: other))
        assert page_with_tables(page) != page, field.name


def test_every_constant_names_a_benchmark_and_was_measured() -> None:
    for name, row in read_rows().items():
        assert row["value"] > 0, name
        assert row["over"] > 0, name
        benchmark = row["command"].rpartition("python -m benchmarks ")[2]
        assert benchmark in MODULES, name


def test_taking_constants_replaces_those_that_were_measured_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_rows()
    monkeypatch.setattr(scale, "CONSTANTS", tmp_path / "constants.json")
    monkeypatch.setattr(scale, "MEASURED", tmp_path / "bench.json")
    scale.CONSTANTS.write_text(json.dumps(before))
    with pytest.raises(SystemExit, match="run the benchmarks"):
        scale.take_rows()
    scale.MEASURED.write_text(json.dumps([{"name": "page_300_models", "ours": 640.0, "unit": "CPU ms"}]))
    scale.take_rows()
    after = read_rows()
    assert after.pop("page_300_models") == {
        "value": 640.0,
        "over": 300,
        "unit": "CPU ms",
        "command": "python -m benchmarks loops_300_turn",
    }
    assert after == {name: row for name, row in before.items() if name != "page_300_models"}


@pytest.mark.parametrize("warm", [True, False])
def test_the_models_that_a_machine_bears_keep_its_cores_busy(warm: bool) -> None:
    constants = Constants.read()
    for partitions in CADENCES.values():
        for rows in ROWS:
            models = constants.models(partitions, rows, warm=warm)
            assert constants.cores(models, partitions, rows, warm=warm) == pytest.approx(CORES)


def test_the_picture_is_a_file_that_any_reader_of_svg_draws() -> None:
    root = ET.fromstring(PICTURE.read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall("{*}polyline")) == 5
