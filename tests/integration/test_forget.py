"""Forgetting: a subject's rows are gone from every table, in every version, and nothing brings them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.data.forget_subject import forget_subject
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DataError, DeclarationError
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import toy_fields, toy_rows, train, week

CONTRACT = """
contract: toy
key: id
time: at
subject: person
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: none}
  person: {type: text, privacy: personal, mask: true}
  x: {type: float}
  kind: {type: text}
  y: {type: float}
"""
SECRET = "a secret of its own, long enough"
PERSON = "erika.mustermann"


def rows_of(number: int) -> pd.DataFrame:
    """Return the rows of a week; the person has three good ones in each, and a bad one in week 1."""
    rows = toy_rows(number, rows=200)
    rows["person"] = [f"person-{at % 40}" for at in range(200)]
    rows.loc[[5, 50, 150], "person"] = PERSON
    if number == 1:
        rows.loc[150, "x"] = float("inf")
    return rows


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    fields = toy_fields(watch={"performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}})
    fields["data"] |= {"contract": "contract.yaml", "tolerance": 0.05}
    fields |= {"rollout": {"stages": [{"live": 100}]}, "retrain": {"confidence": "none"}}
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    (tmp_path / "toy").mkdir()
    for number in range(5):
        rows_of(number).to_parquet(tmp_path / "toy" / f"{week(number)[:10]}.parquet")
    return opened(Loop(**fields), tmp_path)


def opened(loop: Loop, root: Path, secret: str | None = SECRET) -> Workspace:
    stores = Stores.embedded(root / "home")
    return open_workspace(loop, Stores(**{**vars(stores), "secret": secret}), root=root, actor="test")


def ingest(workspace: Workspace, number: int) -> SnapshotPublished:
    manifest = take_snapshot(workspace, week(number))
    return publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator())).details


def with_model(workspace: Workspace) -> None:
    """Ingest four weeks, bring version 1 live as of week 2, score and judge week 3."""
    for number in range(4):
        ingest(workspace, number)
    train(workspace, week(2))
    run_rollout_step(workspace, start_rollout(workspace, week(2)), 0, week(2))
    score_partition(workspace, week(3))
    measure_performance(workspace, week(3))


def everything_on_disk(root: Path) -> str:
    """Return the text of every Parquet file and every other file below the stores."""
    places = []
    for path in sorted((root / "home").rglob("*")):
        if path.suffix == ".parquet":
            places.append(json.dumps(pq.read_table(path).to_pylist(), default=str))
        elif path.is_file():
            places.append(path.read_bytes().decode("latin-1"))
    return "\n".join(places)


def test_a_masked_value_is_nowhere_on_disk(workspace: Workspace, tmp_path: Path) -> None:
    with_model(workspace)
    text = everything_on_disk(tmp_path)
    assert PERSON not in text
    assert "person-7" not in text
    assert SECRET not in text


def test_a_forgotten_subject_is_gone_from_every_table_in_every_version(workspace: Workspace, tmp_path: Path) -> None:
    with_model(workspace)
    before = dict(workspace.state().published.items())
    done = forget_subject(workspace, PERSON)
    assert (done.snapshots, done.predictions, done.quarantine) == (11, 3, 1)
    assert done.models == {"1"}
    state = workspace.state()
    for number in range(4):
        key = week(number)
        rows = workspace.snapshots.read(key, version=state.published[key].version)
        assert rows.num_rows == state.published[key].rows == before[key].rows - (2 if number == 1 else 3)
        with pytest.raises(DataError):
            workspace.snapshots.read(key, version=before[key].version)
    gone = {f"{number}-{at}" for number in range(4) for at in (5, 50, 150)}
    left = json.dumps([pq.read_table(path).to_pylist() for path in (tmp_path / "home").rglob("*.parquet")], default=str)
    assert not [key for key in gone if f'"{key}"' in left]
    assert verify_chain(list(workspace.ledger.records()))


def test_the_loop_goes_on_after_a_subject_was_forgotten(workspace: Workspace) -> None:
    with_model(workspace)
    forget_subject(workspace, PERSON)
    records = workspace.ledger.head().sequence
    score_partition(workspace, week(3))
    measure_performance(workspace, week(3))
    assert workspace.ledger.head().sequence == records
    assert ingest(workspace, 4).rows == 197
    assert train(workspace, week(4)) == "2"


def test_a_source_that_still_holds_the_subject_does_not_bring_them_back(workspace: Workspace) -> None:
    with_model(workspace)
    forget_subject(workspace, PERSON)
    manifest = take_snapshot(workspace, week(0))
    assert (manifest.rows, manifest.erased) == (197, 3)
    assert (manifest.rows + manifest.rejected + manifest.erased) == 200


def test_a_partition_is_read_again_after_a_subject_left_its_quarantine_alone(workspace: Workspace) -> None:
    ingest(workspace, 1)
    forget_subject(workspace, "person-7")
    published = ingest(workspace, 1)
    assert published.rows + published.quarantined + published.erased == 200
    records = workspace.ledger.head().sequence
    assert ingest(workspace, 1) == published
    assert workspace.ledger.head().sequence == records


def test_forgetting_twice_changes_nothing_more(workspace: Workspace) -> None:
    with_model(workspace)
    forget_subject(workspace, PERSON)
    records = list(workspace.ledger.records())
    done = forget_subject(workspace, PERSON)
    assert (done.snapshots, done.predictions, done.quarantine, done.files) == (0, 0, 0, 0)
    assert list(workspace.ledger.records()) == records


def test_a_subject_that_is_not_there_yet_is_left_out_when_it_comes(workspace: Workspace) -> None:
    for number in range(4):
        ingest(workspace, number)
    assert forget_subject(workspace, "person-7").snapshots == 20
    assert forget_subject(workspace, "somebody who never came").snapshots == 0
    assert ingest(workspace, 4).erased == 5


def test_what_a_crash_left_is_erased_by_the_next_attempt(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with_model(workspace)
    version = workspace.state().published[week(0)].version
    monkeypatch.setenv("AIRFLOW_MLOPS_FAULT", "ledger.subject_forgotten.after:raise")
    with pytest.raises(RuntimeError, match="fault injected"):
        forget_subject(workspace, PERSON)
    monkeypatch.delenv("AIRFLOW_MLOPS_FAULT")
    assert workspace.snapshots.read(week(0), version=version).num_rows == 200
    assert forget_subject(workspace, PERSON).files > 0
    with pytest.raises(DataError):
        workspace.snapshots.read(week(0), version=version)


def test_without_a_key_nothing_is_masked_and_nothing_forgotten_in_clear(workspace: Workspace, tmp_path: Path) -> None:
    poor = opened(workspace.loop, tmp_path, None)
    with pytest.raises(DeclarationError, match=r"'person' is to be masked, and there is no key.*mlops_privacy"):
        ingest(poor, 0)
    with pytest.raises(DeclarationError, match="mlops_privacy"):
        forget_subject(poor, PERSON)


def test_another_key_is_refused_before_it_brings_the_forgotten_back(workspace: Workspace, tmp_path: Path) -> None:
    with_model(workspace)
    forget_subject(workspace, PERSON)
    other = opened(workspace.loop, tmp_path, "another secret, which is long enough")
    for action in (lambda: take_snapshot(other, week(4)), lambda: forget_subject(other, PERSON)):
        with pytest.raises(DeclarationError, match="is not the one that this loop was masked with"):
            action()
    assert take_snapshot(opened(workspace.loop, tmp_path), week(4)).erased == 3


def test_a_subject_who_is_only_in_what_a_model_was_made_from_is_forgotten_there_too(
    workspace: Workspace, tmp_path: Path
) -> None:
    with_model(workspace)
    pins = workspace.state().versions["1"].details.window.fitted
    (old,) = [pin for pin in pins if pin.partition == week(0)]
    rows = rows_of(0)
    rows[rows["person"] != PERSON].reset_index(drop=True).to_parquet(tmp_path / "toy" / f"{week(0)[:10]}.parquet")
    ingest(workspace, 0)
    assert workspace.snapshots.read(week(0), version=old.version).num_rows == 200
    done = forget_subject(workspace, PERSON)
    assert done.models == {"1"}
    with pytest.raises(DataError):
        workspace.snapshots.read(week(0), version=old.version)
    assert forget_subject(workspace, PERSON).files == 0


def test_a_subject_whose_column_arrives_under_another_name_does_not_come_back(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "contract.yaml").write_text(
        CONTRACT.replace("person: {type: text,", "person: {type: text, from: holder,")
    )
    for number in range(2):
        rows = rows_of(number).rename(columns={"person": "holder"})
        rows.to_parquet(tmp_path / "toy" / f"{week(number)[:10]}.parquet")
    renamed = opened(workspace.loop, tmp_path)
    ingest(renamed, 0)
    assert forget_subject(renamed, PERSON).snapshots == 3
    assert take_snapshot(renamed, week(0)).erased == 3
    assert take_snapshot(renamed, week(1)).erased == 3
