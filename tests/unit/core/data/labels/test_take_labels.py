"""Deliveries of labels: what is kept of them, what is refused, and what the ledger says."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.data.labels.erase_labels import erase_labels
from airflow_mlops.core.data.labels.labels_of import labels_of, pin_labels
from airflow_mlops.core.data.labels.take_labels import take_due_labels, take_labels
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import (
    DataError,
    DeclarationError,
    NotReadyError,
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreadableError,
)
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.later_labels import deliver, labelled_fields, labelled_workspace, labels_by_key, weeks
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.toy_loop import ingest, toy_rows, week

ROWS = weeks(5)


def publish_weeks(folder: Path, *numbers: int, **changes: Any) -> Workspace:
    """Return a workspace in which weeks are published, without their labels."""
    workspace = labelled_workspace(folder, ROWS, **changes)
    for number in numbers:
        ingest(workspace, week(number))
    return workspace


def labels_as_of(workspace: Workspace, number: int, *, as_of: int) -> dict[str, float]:
    """Return the labels of a week as of another."""
    pin = pin_labels(workspace.state().labels, week(number), week(as_of))
    return {str(key): value for key, value in labels_of(workspace, week(number), pin).items()}


def deliver_and_take(workspace: Workspace, number: int, labels: Any) -> dict[str, Any]:
    """Deliver labels for a week's tick and take them."""
    deliver(workspace, week(number), labels)
    return take_labels(workspace, week(number))


def test_a_delivery_labels_the_rows_of_its_delay_and_the_ledger_counts_them(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1)
    labels = labels_by_key(ROWS[week(0)])
    record = deliver_and_take(workspace, 1, labels | {"nobody": 1.0})
    assert (record.rows, record.unknown, record.touches) == (121, 1, {week(0): 120})
    assert record.since == week(0)
    assert "1 keys stand in no published partition" in record.message
    assert labels_as_of(workspace, 0, as_of=1) == labels | {"nobody": 1.0}
    assert workspace.state().labels[week(1)].digest == record.digest


def test_a_run_sees_only_what_was_delivered_by_its_partition(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1, 2, delay=2)
    deliver_and_take(workspace, 1, {"0-1": 1.0, "0-2": 2.0})
    deliver_and_take(workspace, 2, {"0-2": 9.0, "0-3": 3.0})
    assert labels_as_of(workspace, 0, as_of=0) == {}
    assert labels_as_of(workspace, 0, as_of=1) == {"0-1": 1.0, "0-2": 2.0}
    assert labels_as_of(workspace, 0, as_of=2) == {"0-1": 1.0, "0-2": 9.0, "0-3": 3.0}


def test_of_two_deliveries_the_newer_tick_counts_whichever_was_taken_first(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1, 2, delay=2)
    deliver_and_take(workspace, 2, {"0-2": 9.0})
    deliver_and_take(workspace, 1, {"0-2": 2.0})
    assert labels_as_of(workspace, 0, as_of=2) == {"0-2": 9.0}
    assert labels_as_of(workspace, 0, as_of=1) == {"0-2": 2.0}


def test_a_label_that_comes_after_the_delay_joins_nothing(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1, 2)
    record = deliver_and_take(workspace, 2, {"0-1": 1.0})
    assert (record.unknown, record.touches) == (1, {})
    assert labels_as_of(workspace, 0, as_of=2) == {}


def test_the_same_delivery_again_changes_nothing_and_a_corrected_one_replaces_it(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1)
    first = deliver_and_take(workspace, 1, {"0-1": 1.0})
    before = list(workspace.ledger.records())
    assert take_labels(workspace, week(1)) == first
    assert list(workspace.ledger.records()) == before
    pin = pin_labels(workspace.state().labels, week(0))
    corrected = deliver_and_take(workspace, 1, {"0-1": 5.0})
    assert corrected.replaces == first.digest
    assert labels_as_of(workspace, 0, as_of=1) == {"0-1": 5.0}
    again = deliver_and_take(workspace, 1, {"0-1": 1.0})
    assert (again.digest, again.delivery) == (first.digest, 3)
    assert labels_as_of(workspace, 0, as_of=1) == {"0-1": 1.0}
    assert dict(labels_of(workspace, week(0), pin).items()) == {"0-1": 1.0}


def test_a_pin_gives_the_labels_of_then_after_they_were_corrected(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1, 2, delay=2)
    deliver_and_take(workspace, 1, {"0-1": 1.0})
    pin = pin_labels(workspace.state().labels, week(0))
    deliver_and_take(workspace, 2, {"0-1": 7.0})
    deliver_and_take(workspace, 1, {"0-1": 5.0})
    assert dict(labels_of(workspace, week(0), pin).items()) == {"0-1": 1.0}
    assert labels_as_of(workspace, 0, as_of=2) == {"0-1": 7.0}


def test_labels_that_come_before_their_rows_are_found_once_the_rows_are_there(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, delay=0)
    assert deliver_and_take(workspace, 0, labels_by_key(ROWS[week(0)])).unknown == 120
    ingest(workspace, week(0))
    assert labels_as_of(workspace, 0, as_of=0) == labels_by_key(ROWS[week(0)])


GOOD = labels_by_key(ROWS[week(0)])


def arrow(keys: list[Any], labels: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    """Return a delivery that starts with 120 good rows."""
    return pa.table({"id": pa.array([*GOOD, *keys]), "y": pa.array([*GOOD.values(), *labels], kind or pa.float64())})


def put(workspace: Workspace, table: pa.Table, number: int = 1) -> None:
    """Put an Arrow table where the delivery of a week is looked for."""
    (workspace.root / "labels").mkdir(exist_ok=True)
    pq.write_table(table, workspace.root / "labels" / f"{week(number)[:10]}.parquet")


@pytest.mark.parametrize(
    ("keys", "labels", "bad", "rows"),
    [
        (["", None], [1.0, 2.0], {"no key": 2}, 120),
        (["a", "b"], [math.nan, 2.0], {"NaN or infinite": 1}, 121),
        (["a", "b"], [math.inf, -math.inf], {"NaN or infinite": 2}, 120),
        (["a", "a"], [1.0, 2.0], {"two labels for one key": 2}, 120),
        (["0-1"], [math.pi], {"two labels for one key": 2}, 119),
        ([None], [math.nan], {"no key": 1}, 120),
    ],
)
def test_bad_rows_are_left_out_and_counted_by_their_reason(
    tmp_path: Path, keys: list[Any], labels: list[float], bad: dict[str, int], rows: int
) -> None:
    workspace = publish_weeks(tmp_path, 0, 1, tolerance=0.02)
    put(workspace, arrow(keys, labels))
    record = take_labels(workspace, week(1))
    assert (record.bad, record.rows, record.delivered) == (bad, rows, 120 + len(keys))
    assert f"left out: {next(iter(bad))}" in record.message


def test_rows_that_say_the_same_again_or_nothing_are_no_fault(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1)
    put(workspace, arrow(["0-1", "0-1", "0-2", "x"], [GOOD["0-1"], GOOD["0-1"], None, None]))
    record = take_labels(workspace, week(1))
    assert (record.duplicates, record.empty, record.bad, record.rows) == (2, 2, {}, 120)


def test_too_many_bad_rows_refuse_the_delivery_and_the_ledger_says_why(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1)
    put(workspace, arrow(["a", "b"], [math.inf, math.inf]))
    for _ in range(2):
        with pytest.raises(PartitionRefusedError, match=r"2 of 122 rows are bad \(NaN or infinite: 2\).* 1\.0%"):
            take_labels(workspace, week(1))
    state = workspace.state()
    assert not state.labels
    assert not state.refused, "the rows themselves are not refused"
    assert state.checks_of(week(1))["labels"].verdict == "insufficient data"
    assert "2 of 122 rows are bad" in state.checks_of(week(1))["labels"].message
    assert [entry.kind for entry in list(workspace.ledger.records())].count("window_judged") == 1


def test_a_refused_correction_leaves_the_labels_that_were_there(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1)
    deliver_and_take(workspace, 1, {"0-1": 1.0})
    with pytest.raises(PartitionRefusedError):
        deliver_and_take(workspace, 1, {"0-1": math.inf})
    assert labels_as_of(workspace, 0, as_of=1) == {"0-1": 1.0}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"id": ["a"]}), "column 'y', the declared label of data.labels, is missing; there are id"),
        (pa.table({"y": [1.0]}), "column 'id', the declared key of data.labels, is missing; there are y"),
        (pa.table({"id": ["a"], "y": ["1.0"]}), "column 'y' has the type string; a label is a number"),
        (pa.table({"id": ["a"], "y": pa.array([0], pa.timestamp("us"))}), "a label is a number"),
        (pa.table([["a"], ["b"], [1.0]], ["id", "id", "y"]), "column 'id', the declared key .* stands there 2 times"),
    ],
)
def test_a_delivery_of_other_columns_is_refused(tmp_path: Path, table: pa.Table, message: str) -> None:
    workspace = publish_weeks(tmp_path, 0)
    put(workspace, table)
    with pytest.raises(DataError, match=message):
        take_labels(workspace, week(1))


def test_a_broken_file_is_unreadable_and_a_missing_one_not_there_yet(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0)
    with pytest.raises(SourceMissingError, match="not there yet"):
        take_labels(workspace, week(1))
    assert not workspace.state().checked
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{week(1)[:10]}.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(SourceUnreadableError):
        take_labels(workspace, week(1))
    assert "cannot be read" in workspace.state().checks_of(week(1))["labels"].message


def test_an_empty_delivery_says_that_there_are_no_labels(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1)
    put(workspace, arrow([], []).slice(0, 0))
    assert take_labels(workspace, week(1)).rows == 0
    assert labels_as_of(workspace, 0, as_of=1) == {}


def test_whole_numbers_and_truth_values_are_labels_of_classes(tmp_path: Path) -> None:
    classes = {"gates": [{"metric": "log_loss", "at_most": 5}]}
    workspace = publish_weeks(tmp_path, 0, 1, tolerance=0.5, **classes)
    put(workspace, pa.table({"id": ["0-1", "0-2"], "y": pa.array([True, False])}))
    take_labels(workspace, week(1))
    assert labels_as_of(workspace, 0, as_of=1) == {"0-1": 1.0, "0-2": 0.0}
    put(workspace, pa.table({"id": ["0-1", "0-2", "0-3"], "y": pa.array([0, 0, 2])}))
    assert take_labels(workspace, week(1)).bad == {"neither 0 nor 1": 1}


def test_text_files_have_their_numbers_read_and_their_columns_named(tmp_path: Path) -> None:
    labels = {
        "source": {"kind": "csv", "uri": "labels/{partition}.csv"},
        "key": "order",
        "label": "outcome",
    }
    workspace = publish_weeks(tmp_path, 0, 1, labels=labels, tolerance=0.5)
    (tmp_path / "labels").mkdir()
    text = "order,outcome,id\n0-1,1.5,x\n0-2,,y\n0-3,nan,z\n0-4,TRUE,z\n0-5,1e400,z\n"
    (tmp_path / "labels" / f"{week(1)[:10]}.csv").write_text(text)
    record = take_labels(workspace, week(1))
    assert labels_as_of(workspace, 0, as_of=1) == {"0-1": 1.5, "0-4": 1.0}
    assert (record.empty, record.bad) == (1, {"no number": 2})


def test_keys_are_compared_as_the_rows_have_them(tmp_path: Path) -> None:
    rows = ROWS[week(0)].assign(id=range(120))
    workspace = labelled_workspace(tmp_path, {week(0): rows})
    ingest(workspace, week(0))
    for kind in (pa.int32(), pa.float64()):
        put(workspace, pa.table({"id": pa.array([7, 8], kind), "y": [1.0, 2.0]}))
        assert take_labels(workspace, week(1)).touches == {week(0): 2}
    labels = {"source": {"kind": "csv", "uri": "labels/{partition}.csv"}}
    other = labelled_workspace(tmp_path / "text", {week(0): rows}, labels=labels, tolerance=0.5)
    ingest(other, week(0))
    (tmp_path / "text" / "labels").mkdir(parents=True)
    (tmp_path / "text" / "labels" / f"{week(1)[:10]}.csv").write_text("id,y\n007,1.0\nseven,2.0\n")
    record = take_labels(other, week(1))
    assert (record.touches, record.bad) == ({week(0): 1}, {"no key": 1})


def test_a_key_in_several_partitions_of_the_delay_is_told(tmp_path: Path) -> None:
    rows = {week(number): toy_rows(0) for number in range(2)}
    workspace = labelled_workspace(tmp_path, rows)
    for number in range(2):
        ingest(workspace, week(number))
    record = deliver_and_take(workspace, 1, {"0-1": 1.0})
    assert record.ambiguous == 1
    assert "1 keys stand in several partitions" in record.message


def test_keys_are_masked_as_those_of_the_rows_are(tmp_path: Path) -> None:
    contract = """
contract: toy
key: id
time: at
columns:
  id: {type: text, nullable: false, mask: true}
  at: {type: time, zone: none}
  x: {type: float}
  kind: {type: text}
"""
    (tmp_path / "toy.yaml").write_text(contract)
    fields = labelled_fields()
    fields["data"]["contract"] = "toy.yaml"
    workspace = labelled_workspace(tmp_path, ROWS)
    workspace = replace(workspace, loop=Loop(**fields), secret="a secret of enough bytes")
    for number in range(2):
        ingest(workspace, week(number))
    assert deliver_and_take(workspace, 1, GOOD).touches == {week(0): 120}
    assert not set(GOOD) & set(labels_as_of(workspace, 0, as_of=1))


def test_labels_of_the_forgotten_stay_out(tmp_path: Path) -> None:
    from airflow_mlops.core.data.forget_subject import forget_subject

    workspace = replace(publish_weeks(tmp_path, 0, 1), secret="a secret of enough bytes")
    forget_subject(workspace, "0-1")
    record = deliver_and_take(workspace, 1, GOOD)
    assert (record.erased, record.rows, record.unknown) == (1, 119, 0)
    assert "0-1" not in labels_as_of(workspace, 0, as_of=1)


def test_deliveries_that_came_late_are_taken_with_the_next_one(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1, 2, 3, delay=2)
    with pytest.raises(NotReadyError, match="no labels have come"):
        take_due_labels(workspace, week(1))
    for number in (0, 1, 3):
        deliver(workspace, week(number), {"1-1": float(number)})
    assert list(take_due_labels(workspace, week(3))) == [week(1), week(3)]
    assert labels_as_of(workspace, 1, as_of=1) == {"1-1": 1.0}


def test_one_delivery_that_cannot_be_taken_does_not_stop_the_others(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1, 2, delay=2)
    deliver(workspace, week(1), {"1-1": math.inf})
    deliver(workspace, week(2), {"1-2": 2.0})
    with pytest.raises(PartitionRefusedError, match=week(1)):
        take_due_labels(workspace, week(2))
    assert labels_as_of(workspace, 1, as_of=2) == {"1-2": 2.0}


def test_a_tick_with_a_zone_is_no_tick_and_daylight_saving_moves_none(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0)
    with pytest.raises(DataError, match="carries a time zone"):
        take_labels(workspace, "2013-01-13T00:00:00+01:00")
    # In Berlin the clocks went forward on 2013-03-31 and back on 2013-10-27.
    assert PartitionSchedule("@daily").before("2013-04-01T00:00:00", 2) == [
        "2013-03-31T00:00:00",
        "2013-03-30T00:00:00",
    ]
    hours = PartitionSchedule("@hourly").before("2013-10-27T04:00:00", 5)
    assert hours == [
        f"2013-10-{day}" for day in ("27T03:00:00", "27T02:00:00", "27T01:00:00", "27T00:00:00", "26T23:00:00")
    ]


def test_ticks_of_a_broken_clock_end_before_time_began() -> None:
    assert len(PartitionSchedule("@yearly").before("1903-01-01T00:00:00", 50)) == 3


@pytest.mark.parametrize("form", ["{day} 12:00:00", "{day}T12:00:00+00:00"])
def test_one_file_of_all_deliveries_is_cut_by_the_time_at_which_a_label_came(tmp_path: Path, form: str) -> None:
    declared = {"source": {"kind": "csv", "uri": "labels.csv"}, "time": "came"}
    workspace = publish_weeks(tmp_path, 0, 1, labels=declared)
    days = (date.fromisoformat(week(number)[:10]) - timedelta(days=1) for number in (1, 2))
    lines = [f"{number}-1,{number}.5,{form.format(day=day)}" for number, day in enumerate(days)]
    (workspace.root / "labels.csv").write_text("\n".join(["id,y,came", *lines, ""]))
    assert [take_labels(workspace, week(number)).rows for number in (1, 2)] == [1, 1]
    assert labels_as_of(workspace, 0, as_of=2) == {"0-1": 0.5}
    assert labels_as_of(workspace, 1, as_of=2) == {"0-1": 0.5, "1-1": 1.5}
    with pytest.raises(SourceMissingError, match="no rows between"):
        take_labels(workspace, week(3))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"delay": -1}, r"data\.labels\.delay"),
        ({"delay": 1, "late": True}, "late"),
        ({"delay": 1, "source": {"kind": "csv", "uri": "labels.csv"}}, "partition"),
        ({"delay": 1, "source": {"kind": "feast", "repo": "f"}}, r"data\.labels\.source"),
    ],
)
def test_a_wrong_declaration_of_labels_names_its_key(labels: dict[str, Any], message: str) -> None:
    fields = labelled_fields()
    fields["data"]["labels"] |= labels
    with pytest.raises(DeclarationError, match=message):
        Loop(**fields)


def test_a_source_that_cannot_be_opened_names_the_key_of_the_labels(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, labels={"source": {"kind": "parquet", "uri": "gs://b/{partition}"}})
    with pytest.raises(DeclarationError, match=r"data\.labels\.source\.uri"):
        take_labels(workspace, week(1))


def test_erased_labels_are_in_no_delivery_that_the_ledger_names_afterwards(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 0, 1, 2, delay=2)
    deliver_and_take(workspace, 1, {"0-1": 1.0, "0-2": 2.0})
    deliver_and_take(workspace, 2, {"0-2": 9.0})
    before = pin_labels(workspace.state().labels, week(0))
    changed = erase_labels(workspace, workspace.state(), {"0-1", "nobody"})
    assert {tick: (of.rows, of.erased) for tick, of in changed.items()} == {week(1): (1, 1)}
    partitions = {tick: {"labels": of} for tick, of in changed.items()}
    workspace.record_fact(
        draft_of(workspace, "subject_forgotten", "f", None, subject="s", mask_key=None, partitions=partitions)
    )
    # A pin from before may still say what was there; the files of then are deleted with those of the snapshots.
    assert labels_of(workspace, week(0), before).keys().tolist() == ["0-1", "0-2"]
    after = f"{week(2)}@{changed[week(1)].version}"
    assert dict(labels_of(workspace, week(0), after).items()) == {"0-2": 9.0}
