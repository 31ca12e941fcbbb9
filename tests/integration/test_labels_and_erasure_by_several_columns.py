"""Rows whose key has several columns get their labels, are erased and are released by the whole key."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from airflow_mlops.core.data.forget_subject import forget_subject
from airflow_mlops.core.data.labels.labels_of import pin_labels
from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.errors import DataError, PartitionRefusedError
from airflow_mlops.core.governance.explain_row import explain_row
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.window import read_partition
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.release_quarantine import release_quarantine
from airflow_mlops.core.workspace import Workspace
from tests.integration.order_lines import (
    COLUMN,
    CONTRACT,
    ORDERS,
    ingest,
    open_lines,
    order_lines,
    published,
    put,
    quarantined,
)
from tests.unit.core.toy_loop import train, week

LINES = 3 * ORDERS
MASKED = {"type": "text", "privacy": "personal", "mask": True}


def contract(**columns: Any) -> dict[str, Any]:
    """Return the contract with other columns."""
    changed = copy.deepcopy(CONTRACT)
    changed["columns"] |= columns
    return changed


def labelled(root: Path, kind: str = "csv", declared: dict[str, Any] | None = None, **labels: Any) -> Workspace:
    """Return the loop whose labels come a week later, in files of their own."""
    source = {"kind": kind, "uri": f"labels/{{partition}}.{kind}"}
    return open_lines(root, declared, labels={"source": source, "delay": 1, **labels})


def label_rows(number: int, **renamed: str) -> pd.DataFrame:
    """Return the labels of a week's lines in another order, with other names where they are given."""
    rows = order_lines(number)[["y", "line", "order_id"]].sample(frac=1.0, random_state=0)
    return rows.rename(columns=renamed)


def joined(workspace: Workspace, number: int) -> pd.Series[float]:
    """Return the labels of a week's rows by their key, as training reads them."""
    state = workspace.state()
    partition = state.published[week(number)]
    pin = PinnedPartition(
        week(number), partition.version, partition.digest, pin_labels(state.labels, week(number), week(number + 1))
    )
    rows = read_partition(workspace, pin, label=True)
    return rows.set_index(COLUMN)["y"]


def expected(number: int) -> dict[str, float]:
    """Return the labels of a week's rows by the text of their key."""
    rows = order_lines(number)
    return dict(zip(rows["order_id"].astype(str) + "+" + rows["line"].astype(str), rows["y"], strict=True))


@pytest.mark.parametrize(
    ("kind", "labels", "names"),
    [
        ("csv", {}, {}),
        ("parquet", {}, {}),
        ("csv", {"key": ["nr", "pos"], "label": "paid"}, {"order_id": "nr", "line": "pos", "y": "paid"}),
    ],
)
def test_labels_find_their_rows_by_all_columns(
    tmp_path: Path, kind: str, labels: dict[str, Any], names: dict[str, str]
) -> None:
    workspace = labelled(tmp_path, kind, **labels)
    put(workspace, 0, order_lines(0).drop(columns="y").assign(y=None))
    ingest(workspace, 0)
    put(workspace, 1, label_rows(0, **names), folder="labels")
    record = take_labels(workspace, week(1))
    assert (record.rows, record.unknown, record.touches) == (LINES, 0, {week(0): LINES})
    assert joined(workspace, 0).to_dict() == pytest.approx(expected(0))


def test_numbers_that_arrive_as_floats_or_text_are_the_same_keys(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, "parquet")
    put(workspace, 0)
    ingest(workspace, 0)
    rows = label_rows(0)
    put(
        workspace,
        1,
        rows.assign(order_id=rows["order_id"].map("{:06d}".format), line=rows["line"] * 1.0),
        folder="labels",
    )
    assert take_labels(workspace, week(1)).touches == {week(0): LINES}


def test_a_delivery_without_a_part_of_the_key_is_refused(tmp_path: Path) -> None:
    workspace = labelled(tmp_path)
    put(workspace, 0)
    ingest(workspace, 0)
    put(workspace, 1, label_rows(0).drop(columns="line"), folder="labels")
    with pytest.raises(PartitionRefusedError, match=r"column 'line', the declared key of data.labels, is missing"):
        take_labels(workspace, week(1))
    rows = label_rows(0).astype({"line": object})
    rows.iloc[:2, 1] = None
    put(workspace, 1, rows, folder="labels")
    record = take_labels(workspace, week(1))
    assert (record.rows, record.bad) == (LINES - 2, {"no key": 2})


def test_labels_of_masked_keys_find_their_rows(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, declared=contract(order_id=MASKED))
    put(workspace, 0)
    ingest(workspace, 0)
    put(workspace, 1, label_rows(0), folder="labels")
    assert take_labels(workspace, week(1)).touches == {week(0): LINES}
    assert sorted(joined(workspace, 0)) == pytest.approx(sorted(order_lines(0)["y"]))


def test_a_time_within_the_key_is_one_value_however_it_is_written(tmp_path: Path) -> None:
    declared = contract(at={"type": "time", "zone": "Europe/Berlin", "format": "%d.%m.%Y %H:%M"})
    declared["key"] = ["order_id", "line", "at"]
    workspace = open_lines(
        tmp_path,
        declared,
        key=declared["key"],
        labels={"source": {"kind": "csv", "uri": "labels/{partition}.csv"}, "delay": 1, "time": "at"},
    )
    rows = order_lines(0)
    put(workspace, 0, rows.assign(at=rows["at"].dt.strftime("%d.%m.%Y %H:%M")))
    ingest(workspace, 0)
    texts = rows["at"].dt.strftime("%d.%m.%Y %H:%M").where(rows["line"] < 3, "2013-01-04T17:00:00Z")
    put(workspace, 1, rows.assign(at=texts)[["order_id", "line", "at", "y"]], folder="labels")
    assert take_labels(workspace, week(1)).touches == {week(0): LINES}
    key = workspace.loop.data.key
    stored = workspace.snapshots.read(week(0))[key].to_pylist()
    assert "1000+1+2013-01-04 17:00:00.000000Z" in stored
    forget_subject(workspace, "1000+1+2013-01-04T17:00:00Z")
    assert len(workspace.snapshots.read(week(0))) == LINES - 1
    assert take_snapshot(workspace, week(0)).erased == 1


def with_model(workspace: Workspace) -> None:
    """Ingest five weeks, one row of the second bad, with their labels, bring a version live and score the last."""
    for number in range(5):
        rows = order_lines(number)
        if number == 1:
            rows.loc[0, "x"] = float("inf")
        put(workspace, number, rows)
        ingest(workspace, number)
        if number:
            put(workspace, number, label_rows(number - 1), folder="labels")
            take_labels(workspace, week(number))
    train(workspace, week(3))
    run_rollout_step(workspace, start_rollout(workspace, week(3)), 0, week(3))
    score_partition(workspace, week(4))


@pytest.mark.parametrize("masked", [False, True])
def test_one_line_of_an_order_is_forgotten_and_its_neighbours_stay(tmp_path: Path, *, masked: bool) -> None:
    workspace = labelled(tmp_path, declared=contract(order_id=MASKED) if masked else None)
    with_model(workspace)
    explained = explain_row(workspace, "1", "5000+2", week(4))
    assert (explained.row["line"], explained.row["x"]) == (2, pytest.approx(order_lines(4)["x"][1]))
    assert explained.logged is not None
    assert explained.logged["served_prediction"] == pytest.approx(explained.prediction)
    assert [contribution.feature for contribution in explained.contributions] == ["x"]
    keys = set(published(workspace, 4)[COLUMN])
    done = forget_subject(workspace, "5000+2")
    assert (done.snapshots, done.predictions, done.quarantine) == (1, 1, 0)
    left = set(workspace.predictions.read(week(4))["key"].to_pylist())
    assert set(published(workspace, 4)[COLUMN]) == left
    assert [key.split("+")[1] for key in keys - left] == ["2"]
    done = forget_subject(workspace, "2000+1")
    assert (done.snapshots, done.predictions, done.quarantine) == (0, 0, 1)
    done = forget_subject(workspace, "1000+3")
    assert (done.snapshots, len(done.partitions[week(1)].tables)) == (1, 1)
    labels = workspace.ports.table("labels").read(week(1))
    assert len(labels) == LINES - 1
    assert done.models == {"1"}
    assert take_snapshot(workspace, week(4)).erased == 1
    assert take_labels(workspace, week(1)).erased == 1


def test_a_key_with_too_few_parts_is_refused(tmp_path: Path) -> None:
    workspace = open_lines(tmp_path)
    put(workspace, 0)
    ingest(workspace, 0)
    records = workspace.ledger.head().sequence
    words = "'1000' has 1 parts, and the key is order_id, line"
    with pytest.raises(DataError, match=words):
        forget_subject(workspace, "1000")
    with pytest.raises(DataError, match=words):
        release_quarantine(workspace, week(0), GxValidator(), keys=["1000"])
    assert workspace.ledger.head().sequence == records


def test_a_subject_of_its_own_is_erased_with_all_of_its_keys(tmp_path: Path) -> None:
    declared = {**contract(person=MASKED), "subject": "person"}
    workspace = open_lines(tmp_path, declared)
    put(workspace, 0, order_lines(0).assign(person=[f"person-{at % 40}" for at in range(LINES)]))
    ingest(workspace, 0)
    assert forget_subject(workspace, "person-7").snapshots == len(np.arange(7, LINES, 40))
    left = json.dumps([pq.read_table(path).to_pylist() for path in (tmp_path / "home").rglob("*.parquet")], default=str)
    assert '"1002+2"' not in left
    assert '"1002+1"' in left


def test_rows_are_released_by_their_whole_key(tmp_path: Path) -> None:
    suite = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "max_value": 10}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"expectations": [suite]}))
    workspace, rows = open_lines(tmp_path, expectations="suite.yaml"), order_lines(0).astype({"line": object})
    rows.loc[[0, 1, 4], "x"] = 11.5
    rows.loc[8, "line"] = "+9"
    rows.loc[9, "line"] = None
    put(workspace, 0, rows)
    assert ingest(workspace, 0).rows == LINES - 4
    assert sorted(key or "" for key, _reasons in quarantined(workspace, 0)) == ["", "1000+1", "1000+2", "1001+2"]
    suite["kwargs"]["max_value"] = 100
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"expectations": [suite]}))
    again = open_lines(tmp_path, expectations="suite.yaml")
    released = release_quarantine(again, week(0), GxValidator(), keys=["1000+2"])
    assert (released.released, released.kept) == (1, 3)
    released = release_quarantine(again, week(0), GxValidator())
    assert (released.released, released.kept, released.reasons) == (2, 1, {"line: '' is no int": 1})
    keys = published(again, 0)[COLUMN]
    assert len(set(keys)) == LINES - 1
    assert {"1000+1", "1000+2", "1001+2", "1002+9"} < set(keys)


def test_a_row_stays_in_quarantine_while_its_key_is_in_the_partition(tmp_path: Path) -> None:
    workspace, rows = open_lines(tmp_path), order_lines(0)
    put(workspace, 0, pd.concat([rows, rows.iloc[[0]]]))
    ingest(workspace, 0)
    released = release_quarantine(workspace, week(0), GxValidator())
    assert (released.released, released.kept) == (0, 1)
    assert released.reasons == {f"{COLUMN}: is not unique: '1000+1' is in the partition already": 1}


def test_a_masked_part_that_is_missing_is_released_by_nobody_and_another_keeps_its_mask(tmp_path: Path) -> None:
    masked = {**MASKED, "type": "int"}
    declared = contract(order_id=masked)
    workspace, rows = open_lines(tmp_path, declared), order_lines(0).astype({"order_id": str, "line": str})
    rows.loc[0, "order_id"] = ""
    rows.loc[[4, 5], "order_id"] = "0001001"
    rows.loc[4, "x"] = float("inf")
    put(workspace, 0, rows)
    assert ingest(workspace, 0).rows == LINES - 2
    neighbour = workspace.snapshots.read(week(0)).filter(pc.field("line") == 3)[COLUMN].to_pylist()
    keys = [key for key, _reasons in quarantined(workspace, 0)]
    assert keys[0] is None
    assert str(keys[1]).replace("+2", "+3") in neighbour
    assert release_quarantine(workspace, week(0), GxValidator()).reasons["order_id: is null"] == 1
    assert forget_subject(workspace, "1001+2").quarantine == 1
