"""Snapshots: kept as they arrived and adopted when they come again, or refused with the column and the rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DataError, PartitionRefusedError, SourceMissingError, SourceUnreadableError
from airflow_mlops.core.ledger.data_details import PartitionRefused
from airflow_mlops.core.ports.partitions import Arrival
from airflow_mlops.core.sources.parquet_source import ParquetFiles
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_fields, toy_loop, toy_rows, week

GOOD = pa.Table.from_pandas(toy_rows(0), preserve_index=False)


def open_loop(tmp_path: Path, **frames: Any) -> Workspace:
    """Return a loop with rows for weeks given as ``w0=…``."""
    rows = {week(int(name[1:])): frame for name, frame in frames.items()}
    return in_memory_workspace(toy_loop(), rows, scratch=tmp_path)


def without(name: str) -> pa.Table:
    return GOOD.drop_columns([name])


def with_column(name: str, values: pa.Array) -> pa.Table:
    return GOOD.set_column(GOOD.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD.slice(0, 0), "the partition is empty: 0 rows arrived"),
        (GOOD.append_column("x", GOOD.column("x")), "column 'x' stands there 2 times"),
        (GOOD.append_column("partition", GOOD.column("id")), "column 'partition' has a name that snapshots need"),
        (GOOD.append_column("<b>", GOOD.column("id")), "column '<b>' has a name that is refused"),
        (without("id"), "column 'id', the declared key, is missing; there are at, x, kind, y"),
        (without("kind"), r"column 'kind' \(string in the partitions before\) is missing"),
        (with_column("x", pa.array(["a"] * 120)), "column 'x' has the type string; the partitions before have double"),
        (GOOD.append_column("new", GOOD.column("x")), "column 'new' is new"),
    ],
)
def test_a_table_that_cannot_be_a_partition_is_refused_with_the_column_and_the_rule(
    tmp_path: Path, rows: pa.Table, message: str
) -> None:
    workspace = open_loop(tmp_path, w0=GOOD, w1=rows)
    ingest(workspace, week(0))
    with pytest.raises(PartitionRefusedError, match=message):
        take_snapshot(workspace, week(1))


@pytest.mark.parametrize("role", ["id", "at", "y"])
def test_a_first_partition_without_a_declared_column_is_refused(tmp_path: Path, role: str) -> None:
    workspace = open_loop(tmp_path, w0=without(role))
    with pytest.raises(PartitionRefusedError, match=f"column '{role}', the declared .*, is missing; there are"):
        take_snapshot(workspace, week(0))


@pytest.mark.parametrize(
    "rows",
    [
        GOOD.select(GOOD.column_names[::-1]),
        with_column("kind", GOOD.column("kind").cast(pa.large_string())),
        with_column("kind", GOOD.column("kind").dictionary_encode()),
        with_column("kind", pa.nulls(120)),
    ],
    ids=["order", "large text", "categories", "nothing known"],
)
def test_the_order_of_columns_and_the_encoding_of_values_do_not_count(tmp_path: Path, rows: pa.Table) -> None:
    workspace = open_loop(tmp_path, w0=GOOD, w1=rows)
    ingest(workspace, week(0))
    assert take_snapshot(workspace, week(1)).columns == workspace.state().published[week(0)].columns


def rows_with_keys(*keys: str | None) -> pa.Table:
    """Return 1,000 rows, the first of them with these keys."""
    rows = pa.Table.from_pandas(toy_rows(0, rows=1000), preserve_index=False)
    ids = [*keys, *(str(number) for number in range(len(keys), 1000))]
    return rows.set_column(rows.column_names.index("id"), "id", pa.array(ids, pa.string()))


@pytest.mark.parametrize(
    ("rows", "bad", "reason"),
    [
        (rows_with_keys(None), [None], "id: is null"),
        (
            rows_with_keys("twice", "twice"),
            ["twice"] * 2,
            "id: is not unique: 'twice' stands there 2 times with different values",
        ),
        (
            pa.concat_tables([rows_with_keys(), rows_with_keys().slice(5, 1)]),
            ["5"],
            "id: is not unique: '5' stands there 2 times, and this row is a copy",
        ),
        (rows_with_keys().set_column(2, "x", pa.array([float("inf")] + [1.0] * 999)), ["0"], "x: inf is not finite"),
        (rows_with_keys().set_column(2, "x", pa.array([float("nan")] + [1.0] * 999)), ["0"], "x: nan is not finite"),
    ],
    ids=["null key", "two rows of a key", "a copy", "infinity", "not a number"],
)
def test_a_bad_row_goes_to_quarantine_with_its_reason_and_the_others_go_on(
    tmp_path: Path, rows: pa.Table, bad: list[str | None], reason: str
) -> None:
    workspace = open_loop(tmp_path, w0=rows)
    manifest = take_snapshot(workspace, week(0))
    quarantined = workspace.quarantine.read(week(0)).to_pylist()
    assert [row["key"] for row in quarantined] == bad
    assert {tuple(json.loads(row["reasons"])) for row in quarantined} == {(reason,)}
    assert (manifest.rows, manifest.rejected) == (rows.num_rows - len(bad), len(bad))
    assert workspace.snapshots.read(week(0)).num_rows == manifest.rows


def test_more_bad_rows_than_declared_refuse_the_partition_and_all_are_kept(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, w0=rows_with_keys(*[None] * 11))
    with pytest.raises(PartitionRefusedError, match=r"11 of 1,000 rows are bad \(1.10%\).*most often id: is null"):
        take_snapshot(workspace, week(0))
    assert workspace.quarantine.read(week(0)).num_rows == 11
    with pytest.raises(DataError):
        workspace.snapshots.read(week(0))


def test_a_good_delivery_empties_the_quarantine_of_the_bad_one(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, w0=rows_with_keys(*[None] * 11))
    with pytest.raises(PartitionRefusedError):
        take_snapshot(workspace, week(0))
    workspace.source.frames[week(0)] = rows_with_keys()  # type: ignore[attr-defined]
    assert take_snapshot(workspace, week(0)).rejected == 0
    assert workspace.quarantine.partitions() == []


def test_more_rows_than_the_limits_allow_are_refused(tmp_path: Path) -> None:
    fields = toy_fields()
    fields["data"] |= {"limits": {"rows": 119}}
    workspace = in_memory_workspace(Loop(**fields), {week(0): GOOD}, scratch=tmp_path)
    with pytest.raises(PartitionRefusedError, match="more than 119 rows"):
        take_snapshot(workspace, week(0))


def test_a_refusal_stands_in_the_ledger_once_and_the_next_partition_goes_on(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, w0=GOOD, w1=GOOD.slice(0, 0), w2=toy_rows(2))
    ingest(workspace, week(0))
    for _ in range(2):
        with pytest.raises(PartitionRefusedError):
            take_snapshot(workspace, week(1))
    ingest(workspace, week(2))
    state = workspace.state()
    reason = "the partition is empty: 0 rows arrived"
    assert state.refused[week(1)] == PartitionRefused(stage="snapshot", reason=reason, personal=())
    assert sorted(state.published) == [week(0), week(2)]
    assert [record.kind for record in list(workspace.ledger.records())].count("partition_refused") == 1


def test_what_is_unreadable_is_recorded_and_what_is_not_there_yet_is_not(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, w0=SourceUnreadableError("file.parquet cannot be read: truncated"))
    with pytest.raises(SourceUnreadableError):
        take_snapshot(workspace, week(0))
    with pytest.raises(SourceMissingError):
        take_snapshot(workspace, week(1))
    assert list(workspace.state().refused) == [week(0)]


def test_a_type_that_no_snapshot_keeps_is_refused_and_recorded(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, w0=GOOD.append_column("list", pa.array([[1]] * 120)))
    with pytest.raises(DataError, match="column 'list' has the type"):
        take_snapshot(workspace, week(0))
    assert list(workspace.state().refused) == [week(0)]


def test_the_same_content_again_is_adopted_and_changes_nothing(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, w0=toy_rows(0))
    first = ingest(workspace, week(0))
    workspace.source.frames[week(0)] = toy_rows(0).sample(frac=1, random_state=1)  # type: ignore[attr-defined]
    before = list(workspace.ledger.records())
    manifest = take_snapshot(workspace, week(0))
    assert (manifest.adopted, manifest.version, manifest.digest) == (True, first.version, first.digest)
    assert ingest(workspace, week(0)) == first
    assert list(workspace.ledger.records()) == before


def test_changed_content_is_a_new_version_and_the_old_one_stays_readable(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, w0=toy_rows(0))
    first = ingest(workspace, week(0))
    workspace.source.frames[week(0)] = toy_rows(0, rows=130)  # type: ignore[attr-defined]
    second = ingest(workspace, week(0))
    assert second.version != first.version
    assert workspace.state().published[week(0)].digest == second.digest
    assert workspace.snapshots.read(week(0), version=first.version).num_rows == 120


def test_a_replaced_first_partition_must_keep_its_own_columns(tmp_path: Path) -> None:
    # A store would turn text back into the numbers that stood there before, without a word.
    workspace = open_loop(tmp_path, w0=toy_rows(0))
    ingest(workspace, week(0))
    changed: pd.DataFrame = toy_rows(0).assign(x="7")
    workspace.source.frames[week(0)] = changed  # type: ignore[attr-defined]
    with pytest.raises(PartitionRefusedError, match="column 'x' has the type string"):
        take_snapshot(workspace, week(0))


def test_a_source_that_repeats_other_keys_at_each_reading_is_refused(tmp_path: Path) -> None:
    class Restless:
        """A source whose rows change while they are read: another key stands there twice each time."""

        readings = 0

        @contextmanager
        def open(self, partition: str, *, known: Any = None) -> Iterator[Arrival]:
            self.readings += 1
            rows = rows_with_keys(*[f"twice-{self.readings}"] * 2)
            yield Arrival(rows.schema, iter(rows.to_batches()))

    workspace = open_loop(tmp_path)
    ports = replace(workspace.ports, source=Restless)
    with pytest.raises(PartitionRefusedError, match="other keys at each of 3 readings"):
        take_snapshot(replace(workspace, ports=ports), week(0))
    assert workspace.snapshots.partitions() == []


CONTRACT = """
contract: toy
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: none, nullable: false}
  x: {type: float}
  kind: {type: text}
  y: {type: float}
"""


def loop_of_files(tmp_path: Path, uri: str, *, contract: bool) -> Workspace:
    """Return a daily loop that reads Parquet files of a folder."""
    fields = toy_fields()
    fields["data"] |= {"every": "@daily", "source": {"kind": "parquet", "uri": uri}}
    if contract:
        fields["data"]["contract"] = "toy.yaml"
        (tmp_path / "toy.yaml").write_text(CONTRACT)
    loop = Loop(**fields)
    workspace = in_memory_workspace(loop, {}, scratch=tmp_path)
    files = ParquetFiles(uri, root=tmp_path, schedule=loop.data.schedule)
    return replace(workspace, ports=replace(workspace.ports, source=lambda: files))


def write_day(tmp_path: Path, day: str) -> None:
    """Write the rows of a day into a file that is named by it."""
    rows = toy_rows(0).assign(at=pd.Timestamp(day) + pd.Timedelta(hours=9))
    rows.to_parquet(tmp_path / f"{day}.parquet")


def test_a_file_named_by_the_day_that_it_holds_is_found_by_its_start(tmp_path: Path) -> None:
    write_day(tmp_path, "2013-03-01")
    workspace = loop_of_files(tmp_path, "{start:%Y-%m-%d}.parquet", contract=True)
    manifest = take_snapshot(workspace, "2013-03-02T00:00:00")
    assert (manifest.rows, manifest.rejected, manifest.late, manifest.warnings) == (120, 0, 0, ())


def test_rows_after_their_partition_are_refused_with_the_placeholder_for_files_named_by_their_start(
    tmp_path: Path,
) -> None:
    write_day(tmp_path, "2013-03-01")
    with pytest.raises(PartitionRefusedError) as raised:
        take_snapshot(loop_of_files(tmp_path, "{partition}.parquet", contract=True), "2013-03-01T00:00:00")
    assert "120 of 120 rows lie after the partition, which ends at 2013-03-01T00:00:00" in str(raised.value)
    assert "{partition} in data.source.uri names that end" in str(raised.value)
    assert "write {start} there" in str(raised.value)


def test_where_rows_after_their_partition_are_accepted_the_wrong_placeholder_is_a_warning(tmp_path: Path) -> None:
    write_day(tmp_path, "2013-03-01")
    manifest = take_snapshot(loop_of_files(tmp_path, "{end}.parquet", contract=False), "2013-03-01T00:00:00")
    assert manifest.rows == 120
    (warning,) = manifest.warnings
    assert "{end} in data.source.uri names that end" in warning
    assert "write {start} there" in warning


def test_rows_before_their_partition_are_a_warning_with_the_placeholder_for_files_named_by_their_end(
    tmp_path: Path,
) -> None:
    write_day(tmp_path, "2013-03-01")
    workspace = loop_of_files(tmp_path, "{start:%Y-%m-%d}.parquet", contract=False)
    (tmp_path / "2013-03-01.parquet").rename(tmp_path / "2013-03-02.parquet")
    manifest = take_snapshot(workspace, "2013-03-03T00:00:00")
    (warning,) = manifest.warnings
    assert "120 of 120 rows lie before the partition, which starts at 2013-03-02T00:00:00" in warning
    assert "write {end} there" in warning


@pytest.mark.parametrize(("day", "hours"), [("2024-03-10", 23), ("2024-11-03", 25), ("2024-11-04", 24)])
@pytest.mark.parametrize("moments", [True, False])
def test_the_rows_of_a_local_day_lie_in_its_partition_through_both_changes_of_the_clock(
    tmp_path: Path, day: str, hours: int, moments: bool
) -> None:
    start = pd.Timestamp(day, tz="America/New_York")
    times = pd.date_range(start, periods=hours, freq="h")
    assert times[-1].date() == start.date()
    # With a zone they are moments; without one they are what the clock showed, twice in autumn.
    rows = toy_rows(0, rows=hours).assign(at=times.tz_convert("UTC") if moments else times.tz_localize(None))
    outside = [times[0] - pd.Timedelta(minutes=30), times[-1] + pd.Timedelta(minutes=90)]
    index = pd.DatetimeIndex(outside)
    more = toy_rows(1, rows=2).assign(at=index.tz_convert("UTC") if moments else index.tz_localize(None))
    pd.concat([rows, more], ignore_index=True).to_parquet(tmp_path / f"{day}.parquet")
    fields = toy_fields()
    uri = "{start:%Y-%m-%d}.parquet"
    fields["data"] |= {
        "every": "@daily",
        "timezone": "America/New_York",
        "source": {"kind": "parquet", "uri": uri},
        "contract": "toy.yaml",
        "tolerance": 0.1,
    }
    (tmp_path / "toy.yaml").write_text(CONTRACT.replace("zone: none", f"zone: {'UTC' if moments else 'none'}"))
    loop = Loop(**fields)
    files = ParquetFiles(uri, root=tmp_path, schedule=loop.data.schedule)
    workspace = in_memory_workspace(loop, {}, scratch=tmp_path)
    workspace = replace(workspace, ports=replace(workspace.ports, source=lambda: files))
    manifest = take_snapshot(workspace, loop.data.schedule.next(loop.data.schedule.start_of(day)))
    # The row before the day is late and accepted, the one after it goes to quarantine.
    assert (manifest.rows, manifest.late, manifest.rejected) == (hours + 1, 1, 1)
