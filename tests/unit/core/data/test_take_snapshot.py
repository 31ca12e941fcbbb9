"""Snapshots: kept as they arrived and adopted when they come again, or refused with the column and the rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from airflow_mlops.core.data.take_snapshot import check_structure, columns_of, take_snapshot
from airflow_mlops.core.errors import DataError, PartitionRefusedError, SourceMissingError, SourceUnreadableError
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week

GOOD = pa.Table.from_pandas(toy_rows(0), preserve_index=False)


def opened(tmp_path: Path, **frames: Any) -> Workspace:
    """Return a loop with rows for weeks given as ``w0=…``."""
    rows = {week(int(name[1:])): frame for name, frame in frames.items()}
    return in_memory_workspace(toy_loop(), rows, scratch=tmp_path)


def without(name: str) -> pa.Table:
    return GOOD.drop_columns([name])


def with_column(name: str, values: pa.Array) -> pa.Table:
    return GOOD.set_column(GOOD.column_names.index(name), name, values)


REPEATED = pa.array(["twice"] * 2 + [str(row) for row in range(118)])
HOLED = pa.array([None] + [str(row) for row in range(119)])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (GOOD.slice(0, 0), "the partition is empty: 0 rows arrived"),
        (GOOD.append_column("x", GOOD.column("x")), "column 'x' stands there 2 times"),
        (GOOD.append_column("partition", GOOD.column("id")), "column 'partition' has a name that snapshots need"),
        (GOOD.append_column("reasons", GOOD.column("id")), "column 'reasons' has a name that snapshots need"),
        (without("id"), "column 'id', the declared key, is missing; the file has at, x, kind, y"),
        (without("at"), "column 'at', the declared time, is missing"),
        (without("y"), "column 'y', the declared label, is missing"),
        (without("kind"), r"column 'kind' \(string in the partitions before\) is missing"),
        (with_column("x", pa.array(["a"] * 120)), "column 'x' has the type string; the partitions before have double"),
        (GOOD.append_column("new", GOOD.column("x")), "column 'new' is new"),
        (with_column("id", REPEATED), "key 'id' is not unique: 1 keys repeat, for example 'twice' 2 times"),
        (with_column("id", HOLED), "key 'id' is null in 1 of 120 rows"),
    ],
)
def test_a_table_that_cannot_be_a_partition_is_refused_with_the_column_and_the_rule(rows: pa.Table, said: str) -> None:
    with pytest.raises(PartitionRefusedError, match=said):
        check_structure(rows, toy_loop(), columns_of(GOOD))


def test_a_good_table_passes_and_the_order_of_columns_does_not_count() -> None:
    check_structure(GOOD, toy_loop(), None)
    check_structure(GOOD.select(GOOD.column_names[::-1]), toy_loop(), columns_of(GOOD))
    check_structure(with_column("kind", GOOD.column("kind").cast(pa.large_string())), toy_loop(), columns_of(GOOD))


def test_a_refusal_stands_in_the_ledger_once_and_the_next_partition_goes_on(tmp_path: Path) -> None:
    workspace = opened(tmp_path, w0=GOOD, w1=GOOD.slice(0, 0), w2=toy_rows(2))
    ingest(workspace, week(0))
    for _ in range(2):
        with pytest.raises(PartitionRefusedError):
            take_snapshot(workspace, week(1))
    ingest(workspace, week(2))
    state = workspace.state()
    assert state.refused[week(1)] == {"stage": "snapshot", "reason": "the partition is empty: 0 rows arrived"}
    assert sorted(state.published) == [week(0), week(2)]
    assert [each.kind for each in workspace.ledger.records()].count("partition_refused") == 1


def test_what_is_unreadable_is_recorded_and_what_is_not_there_yet_is_not(tmp_path: Path) -> None:
    workspace = opened(tmp_path, w0=SourceUnreadableError("file.parquet cannot be read: truncated"))
    with pytest.raises(SourceUnreadableError):
        take_snapshot(workspace, week(0))
    with pytest.raises(SourceMissingError):
        take_snapshot(workspace, week(1))
    assert list(workspace.state().refused) == [week(0)]


def test_a_type_that_no_snapshot_keeps_is_refused_and_recorded(tmp_path: Path) -> None:
    workspace = opened(tmp_path, w0=GOOD.append_column("list", pa.array([[1]] * 120)))
    with pytest.raises(DataError, match="column 'list' has the type"):
        take_snapshot(workspace, week(0))
    assert list(workspace.state().refused) == [week(0)]


def test_the_same_content_again_is_adopted_and_changes_nothing(tmp_path: Path) -> None:
    workspace = opened(tmp_path, w0=toy_rows(0))
    first = ingest(workspace, week(0))
    workspace.source.frames[week(0)] = toy_rows(0).sample(frac=1, random_state=1)  # type: ignore[attr-defined]
    before = workspace.ledger.records()
    manifest = take_snapshot(workspace, week(0))
    assert (manifest.adopted, manifest.version, manifest.digest) == (True, first["version"], first["digest"])
    assert ingest(workspace, week(0)) == first
    assert workspace.ledger.records() == before


def test_changed_content_is_a_new_version_and_the_old_one_stays_readable(tmp_path: Path) -> None:
    workspace = opened(tmp_path, w0=toy_rows(0))
    first = ingest(workspace, week(0))
    workspace.source.frames[week(0)] = toy_rows(0, rows=130)  # type: ignore[attr-defined]
    second = ingest(workspace, week(0))
    assert second["version"] != first["version"]
    assert workspace.state().published[week(0)]["digest"] == second["digest"]
    assert workspace.snapshots.read(week(0), version=first["version"]).num_rows == 120


def test_a_replaced_first_partition_must_keep_its_own_columns(tmp_path: Path) -> None:
    # A store would turn text back into the numbers that stood there before, without a word.
    workspace = opened(tmp_path, w0=toy_rows(0))
    ingest(workspace, week(0))
    changed: pd.DataFrame = toy_rows(0).assign(x="7")
    workspace.source.frames[week(0)] = changed  # type: ignore[attr-defined]
    with pytest.raises(PartitionRefusedError, match="column 'x' has the type string"):
        take_snapshot(workspace, week(0))
