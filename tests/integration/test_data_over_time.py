"""Data over time: corrected partitions, contracts that grow, retention, and files that nothing needs any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_mlops.core.data.apply_retention import apply_retention
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DataError, PartitionRefusedError
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.training.window import read_window
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import toy_fields, toy_rows, train, week

CONTRACT = """
contract: toy
key: id
time: at
evolution: {evolution}
columns:
  id: {{type: text, nullable: false}}
  at: {{type: time, zone: none}}
  x: {{type: {x}}}
  kind: {{type: text}}
  y: {{type: float}}
{more}"""


def declare(root: Path, *, evolution: str = "none", x: str = "float", more: str = "") -> None:
    """Write the contract as a reviewed change would."""
    (root / "contract.yaml").write_text(CONTRACT.format(evolution=evolution, x=x, more=more))


def deliver(root: Path, number: int, rows: pd.DataFrame | None = None) -> None:
    """Put the file of a week where the source finds it."""
    (root / "toy").mkdir(exist_ok=True)
    (toy_rows(number) if rows is None else rows).to_parquet(root / "toy" / f"{week(number)[:10]}.parquet")


def opened(root: Path, **data: Any) -> Workspace:
    """Return the loop as a new process opens it."""
    fields = toy_fields()
    fields["data"] |= {"contract": "contract.yaml", **data}
    return open_workspace(Loop(**fields), Stores.embedded(root / "home"), root=root, actor="test")


def ingest(workspace: Workspace, number: int) -> SnapshotPublished:
    manifest = take_snapshot(workspace, week(number))
    return publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator())).details


def files(root: Path) -> int:
    """Return how many data files the snapshots have."""
    return len(list((root / "home" / "lake" / "toy" / "snapshots").rglob("*.parquet")))


def test_a_corrected_partition_names_the_versions_made_from_the_old_one(tmp_path: Path) -> None:
    declare(tmp_path)
    for number in range(3):
        deliver(tmp_path, number)
        ingest(opened(tmp_path), number)
    assert train(opened(tmp_path), week(2)) == "1"
    deliver(tmp_path, 1, toy_rows(1, rows=130))
    late = ingest(opened(tmp_path), 1)
    assert late.outdated == ("1",)
    deliver(tmp_path, 1, toy_rows(1, rows=140))
    assert ingest(opened(tmp_path), 1).outdated == ()


def test_a_column_added_by_review_is_null_in_the_partitions_before(tmp_path: Path) -> None:
    declare(tmp_path)
    deliver(tmp_path, 0)
    ingest(opened(tmp_path), 0)
    declare(tmp_path, evolution="additive", more="  wind: {type: float}\n")
    deliver(tmp_path, 1, toy_rows(1).assign(wind=7.0))
    ingest(opened(tmp_path), 1)
    workspace = opened(tmp_path)
    published = workspace.state().published
    pins = [PinnedPartition(key, details.version, details.digest) for key, details in sorted(published.items())]
    frame = read_window(workspace, pins).features
    assert frame["wind"].isna().sum() == 120
    assert (frame["wind"] == 7.0).sum() == 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": "  wind: {type: float}\n"}, r"\+ 'wind' \(double\) is new.*does not say evolution: additive"),
        (
            {"evolution": "additive", "more": "  wind: {type: float, nullable: false}\n"},
            r"\+ 'wind' \(double\) is new and not nullable",
        ),
        ({"evolution": "additive", "x": "text"}, "~ 'x' was double, is string"),
    ],
)
def test_any_other_change_of_the_contract_is_refused_with_a_diff(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    declare(tmp_path)
    deliver(tmp_path, 0)
    ingest(opened(tmp_path), 0)
    declare(tmp_path, **changes)
    deliver(tmp_path, 1, toy_rows(1).assign(wind=7.0) if "more" in changes else toy_rows(1).assign(x="a"))
    with pytest.raises(PartitionRefusedError, match=message):
        ingest(opened(tmp_path), 1)


def test_a_contract_that_says_the_same_of_the_rows_changes_nothing(tmp_path: Path) -> None:
    declare(tmp_path)
    deliver(tmp_path, 0)
    ingest(opened(tmp_path), 0)
    before = (list(opened(tmp_path).ledger.records()), files(tmp_path))
    contract = (tmp_path / "contract.yaml").read_text()
    (tmp_path / "contract.yaml").write_text(contract.replace("x: {type: float}", "x: {type: float, unit: metre}"))
    ingest(opened(tmp_path), 0)
    assert (list(opened(tmp_path).ledger.records()), files(tmp_path)) == before


def test_tidying_never_removes_what_a_registered_model_needs(tmp_path: Path) -> None:
    declare(tmp_path)
    for number in range(3):
        deliver(tmp_path, number)
        ingest(opened(tmp_path), number)
    train(opened(tmp_path), week(2))
    before = opened(tmp_path).state()
    pins = before.versions["1"].details.window
    for number in range(3):
        deliver(tmp_path, number, toy_rows(number, rows=130))
        ingest(opened(tmp_path), number)
    deliver(tmp_path, 3)
    ingest(opened(tmp_path), 3)
    deliver(tmp_path, 3, toy_rows(3, rows=130))
    ingest(opened(tmp_path), 3)
    assert files(tmp_path) == 8
    # Only the first delivery of week 3 went into no model.
    assert apply_retention(opened(tmp_path), after_hours=0).files["snapshots"] == 1
    assert files(tmp_path) == 7
    for pin in pins.pins:
        assert opened(tmp_path).snapshots.read(pin.partition, version=pin.version).num_rows == 120


def test_what_an_ingest_under_way_has_just_replaced_stays_for_the_next_night(tmp_path: Path) -> None:
    declare(tmp_path)
    for rows in (toy_rows(0), toy_rows(0, rows=130)):
        deliver(tmp_path, 0, rows)
        ingest(opened(tmp_path), 0)
    assert apply_retention(opened(tmp_path)).files["snapshots"] == 0
    assert files(tmp_path) == 2
    assert apply_retention(opened(tmp_path), after_hours=0).files["snapshots"] == 1


def test_retention_lets_go_of_old_partitions_and_keeps_those_of_a_model(tmp_path: Path) -> None:
    declare(tmp_path)
    for number in range(3):
        deliver(tmp_path, number)
        ingest(opened(tmp_path), number)
    train(opened(tmp_path), week(2))
    for number in range(3, 7):
        deliver(tmp_path, number)
        ingest(opened(tmp_path), number)
    done = apply_retention(opened(tmp_path, retention={"snapshots": 2}), after_hours=0)
    assert done.expired == {"snapshots": [week(number) for number in range(5)]}
    workspace = opened(tmp_path)
    assert sorted(workspace.state().published) == workspace.snapshots.partitions() == [week(5), week(6)]
    pin = workspace.state().versions["1"].details.window.fitted[0]
    assert workspace.snapshots.read(pin.partition, version=pin.version).num_rows == 120
    with pytest.raises(DataError):
        workspace.snapshots.read(week(4), version=5)
    assert apply_retention(opened(tmp_path, retention={"snapshots": 2}), after_hours=0).expired == {}


def test_what_a_crash_between_record_and_effect_left_is_let_go_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(tmp_path)
    for number in range(3):
        deliver(tmp_path, number)
        ingest(opened(tmp_path), number)
    monkeypatch.setenv("AIRFLOW_MLOPS_FAULT", "ledger.partitions_expired.after:raise")
    with pytest.raises(RuntimeError, match="fault injected"):
        apply_retention(opened(tmp_path, retention={"snapshots": 2}), after_hours=0)
    monkeypatch.delenv("AIRFLOW_MLOPS_FAULT")
    assert len(opened(tmp_path).snapshots.partitions()) == 3
    apply_retention(opened(tmp_path, retention={"snapshots": 2}), after_hours=0)
    assert opened(tmp_path).snapshots.partitions() == [week(1), week(2)]
