"""Rows that come back from quarantine have the values that they arrived with, however their source writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.release_quarantine import release_quarantine
from tests.bad_input.cases_of_dialects import COMMA, GERMAN_DAY, source, writer
from tests.bad_input.cases_of_values import contract_with
from tests.bad_input.world import BAD, CONTRACT, ROWS, SUITE, World, good_rows


def limit_of_x(low: float) -> dict[str, object]:
    kwargs = {"column": "x", "min_value": low, "max_value": 1000}
    return {"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": kwargs}]}


def test_a_row_is_released_with_the_value_that_it_arrived_with(tmp_path: Path) -> None:
    declared = {**CONTRACT, **contract_with("day", format="%d.%m.%Y")}
    world = World(
        tmp_path,
        "csv",
        contract={**declared, "early": "quarantine"},
        data={**source(delimiter=";", decimal=",", thousands="."), "tolerance": 0.99},
        suite=limit_of_x(1.2345),
        writer=writer(COMMA, GERMAN_DAY, delimiter=";"),
    )
    rows = good_rows(BAD)
    values = [1.234, 500.25, *[2.0] * (ROWS - 2)]
    rows = rows.set_column(rows.column_names.index("x"), "x", pa.array(values))
    # The second row breaks the contract as it stands: its text is kept as the source wrote it.
    end = datetime.fromisoformat(BAD).replace(tzinfo=UTC)
    times = [rows["at"][0].as_py(), end, *rows["at"].to_pylist()[2:]]
    rows = rows.set_column(rows.column_names.index("at"), "at", pa.array(times, rows["at"].type))
    world.put(BAD, rows)
    published = world.ingest(BAD)
    assert (published.rows, published.quarantined) == (ROWS - 2, 2)

    world.suite, world.contract = SUITE, {**declared, "early": "accept"}
    released = release_quarantine(world.workspace, BAD, GxValidator())
    assert (released.released, released.kept) == (2, 0)
    stored = world.workspace.snapshots.read(BAD).sort_by("id")
    assert stored.select(rows.column_names).equals(rows.sort_by("id").cast(stored.select(rows.column_names).schema))
