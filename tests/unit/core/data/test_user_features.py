"""Features: one function, with the same history and the same columns in training, scoring and watching."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.data.apply_retention import apply_retention
from airflow_mlops.core.data.user_features import FeatureMaker, features_digest
from airflow_mlops.core.declaration.user_function import require_function
from airflow_mlops.core.errors import DeclarationError, TrainingError
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.window import pin_window, read_window
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import InMemorySource, in_memory_workspace
from tests.unit.core.toy_loop import FIELDS, ingest, toy_loop, toy_rows, train, week

SQUARED = """
def features(frame):
    assert "y" not in frame.columns
    return frame.assign(x2=frame["x"] ** 2)[["x2", "x", "id", "at"]]
"""

LEVEL = """
def features(frame, history):
    past = history.rows(partitions=2, columns=["kind", "y"])
    levels = past.groupby("kind")["y"].mean() if len(past) else {}
    return frame[["x"]].assign(level=frame["kind"].map(levels).astype(float).fillna(0.0))
"""

CONTRACT = """contract: toy
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: none}
  x: {type: float}
  kind: {type: text, feature: false}
  y: {type: float}
"""


def workspace_with_features(tmp_path: Path, source: str | None, *, weeks: int = 4, **data: Any) -> Workspace:
    """Return the toy loop with its own feature function and some published weeks."""
    if source is not None:
        name = f"features_of_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
        data["features"] = f"{name}:features"
    loop = toy_loop(data={**FIELDS["data"], **data}, watch={"drift": {"alarm_rate": 0.01}})
    rows = {week(number): toy_rows(number) for number in range(weeks)}
    workspace = in_memory_workspace(loop, rows, scratch=tmp_path, root=tmp_path)
    for key in rows:
        ingest(workspace, key)
    return workspace


def make_features(workspace: Workspace, number: int = 3) -> pd.DataFrame:
    key = week(number)
    return FeatureMaker(workspace).make(toy_rows(number), key, workspace.state().published[key].version)


def test_without_a_function_the_features_are_the_columns_by_name(tmp_path: Path) -> None:
    assert list(make_features(workspace_with_features(tmp_path, None)).columns) == ["kind", "x"]


def test_a_function_makes_the_features_and_key_and_time_are_left_out(tmp_path: Path) -> None:
    features = make_features(workspace_with_features(tmp_path, SQUARED))
    assert list(features.columns) == ["x2", "x"]
    assert (features["x2"] == toy_rows(3)["x"] ** 2).all()


@pytest.mark.parametrize("source", [None, "def features(frame):\n    return frame.drop(columns=['id', 'at'])\n"])
def test_what_the_contract_hides_is_seen_by_no_model_and_no_function(tmp_path: Path, source: str | None) -> None:
    (tmp_path / "toy.yaml").write_text(CONTRACT)
    workspace = workspace_with_features(tmp_path, source, weeks=0, contract="toy.yaml")
    assert list(FeatureMaker(workspace).make(toy_rows(3), week(3)).columns) == ["x"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return frame.iloc[1:]", "gave 119 rows for 120"),
        ("return frame.sort_values('x')", "changed the order or the index of the rows: row 0 has the index"),
        ("return frame.set_index('id')", "changed the order or the index"),
        ("return frame[['x', 'x']]", "gave the column 'x' more than once"),
        ("return frame.assign(y=1.0)", "gave the column 'y', which is the label"),
        ("return frame['x']", "gave a Series; it must give a pandas DataFrame"),
        ("return frame[['id']]", "gave no features"),
        ("return frame.rename(columns={'x': 3})", "gave a column called 3; names must be text"),
        ("return frame['nothing']", "raised KeyError: 'nothing'"),
    ],
)
def test_what_a_function_gives_wrongly_is_said_in_its_name(tmp_path: Path, body: str, words: str) -> None:
    workspace = workspace_with_features(tmp_path, f"def features(frame):\n    {body}\n", weeks=0)
    with pytest.raises(TrainingError) as refused:
        FeatureMaker(workspace).make(toy_rows(3), week(3))
    assert str(refused.value).startswith(str(workspace.loop.data.features))
    assert words in str(refused.value)


def test_a_function_that_writes_into_its_frame_changes_nothing_elsewhere(tmp_path: Path) -> None:
    workspace = workspace_with_features(
        tmp_path, "def features(frame):\n    frame['x'] = 0.0\n    return frame[['x']]\n", weeks=0
    )
    rows = toy_rows(3)
    FeatureMaker(workspace).make(rows, week(3))
    assert rows.equals(toy_rows(3))


def test_the_past_is_that_of_partitions_strictly_before(tmp_path: Path) -> None:
    workspace = workspace_with_features(tmp_path, LEVEL)
    past = pd.concat([toy_rows(1), toy_rows(2)]).groupby("kind")["y"].mean()
    assert np.allclose(make_features(workspace)["level"], toy_rows(3)["kind"].map(past))
    assert (make_features(workspace, 0)["level"] == 0.0).all()


def test_a_correction_that_came_later_does_not_change_the_past_of_a_row(tmp_path: Path) -> None:
    workspace = workspace_with_features(tmp_path, LEVEL)
    before = make_features(workspace)
    source = workspace.source
    assert isinstance(source, InMemorySource)
    source.frames = {**source.frames, week(2): toy_rows(2, slope=50.0), week(4): toy_rows(4)}
    ingest(workspace, week(2))
    assert make_features(workspace).equals(before)
    ingest(workspace, week(4))
    corrected = pd.concat([toy_rows(2, slope=50.0), toy_rows(3)]).groupby("kind")["y"].mean()
    assert np.allclose(make_features(workspace, 4)["level"], toy_rows(4)["kind"].map(corrected))


def test_history_reads_a_partition_once_and_hides_what_the_contract_hides(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(CONTRACT)
    asks = "def features(frame, history):\n    history.rows(columns=['kind'])\n    return frame[['x']]\n"
    with pytest.raises(TrainingError, match="'kind' is hidden from models by the contract"):
        FeatureMaker(workspace_with_features(tmp_path, asks, weeks=0, contract="toy.yaml")).make(toy_rows(3), week(3))
    workspace = workspace_with_features(tmp_path, LEVEL)
    reads: list[str] = []
    read = workspace.snapshots.read

    def count_reads(partition: str, **kwargs: Any) -> Any:
        if kwargs.get("columns"):  # asking for the schema alone reads no rows
            reads.append(partition)
        return read(partition, **kwargs)

    workspace.snapshots.read = count_reads  # type: ignore[method-assign]
    maker = FeatureMaker(workspace)
    for number in (2, 3):
        maker.make(toy_rows(number), week(number), workspace.state().published[week(number)].version)
    assert sorted(reads) == [week(0), week(1), week(2)]


def test_tidying_keeps_the_versions_that_features_look_back_on(tmp_path: Path) -> None:
    (tmp_path / "looks_back.py").write_text(LEVEL)
    sys.modules.pop("looks_back", None)
    loop = toy_loop(data={**FIELDS["data"], "features": "looks_back:features"})
    workspace = open_workspace(loop, Stores.embedded(tmp_path / "home"), root=tmp_path, actor="test")
    (tmp_path / "toy").mkdir()

    def deliver(number: int, slope: float) -> None:
        toy_rows(number, slope=slope).to_parquet(tmp_path / "toy" / f"{week(number)[:10]}.parquet")
        ingest(workspace, week(number))

    for number in range(3):
        deliver(number, 2.0)
    before = make_features(workspace, 2)
    for slope in (5.0, 6.0):
        deliver(1, slope)
    # The correction in between was nobody's past.
    assert apply_retention(workspace, after_hours=0).files["snapshots"] == 1
    assert make_features(workspace, 2).equals(before)


def test_a_column_that_is_nowhere_is_named(tmp_path: Path) -> None:
    asks = "def features(frame, history):\n    history.rows(columns=['wind'])\n    return frame[['x']]\n"
    with pytest.raises(TrainingError, match="there is no column 'wind' in the partition"):
        make_features(workspace_with_features(tmp_path, asks))


def test_a_column_that_the_contract_has_got_since_is_null_in_the_past(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(CONTRACT)
    asks = (
        "def features(frame, history):\n    past = history.rows(columns=['wind', 'x'])\n"
        "    return frame[['x']].assign(nulls=past['wind'].isna().sum(), columns=len(past.columns))\n"
    )
    workspace = workspace_with_features(tmp_path, asks, weeks=3, contract="toy.yaml")
    (tmp_path / "toy.yaml").write_text(CONTRACT.replace("  y:", "  wind: {type: float}\n  y:"))
    again = in_memory_workspace(workspace.loop, {}, scratch=tmp_path, root=tmp_path)
    vars(again).update(snapshots=workspace.snapshots, ledger=workspace.ledger)
    features = FeatureMaker(again).make(toy_rows(3), week(3))
    assert (features["nulls"].iloc[0], features["columns"].iloc[0]) == (360, 2)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_past_has_the_types_of_the_contract_whatever_was_published(tmp_path: Path, number: int) -> None:
    (tmp_path / "toy.yaml").write_text(CONTRACT)
    asks = (
        "def features(frame, history):\n    past = history.rows(columns=['gusts', 'storm', 'x'])\n"
        "    assert past.dtypes.astype(str).tolist() == ['Int64', 'boolean', 'float64'], past.dtypes\n"
        "    assert past['gusts'].isna().all()\n    return frame[['x']]\n"
    )
    workspace = workspace_with_features(tmp_path, asks, weeks=3, contract="toy.yaml")
    (tmp_path / "toy.yaml").write_text(CONTRACT.replace("  y:", "  gusts: {type: int}\n  storm: {type: bool}\n  y:"))
    again = in_memory_workspace(workspace.loop, {}, scratch=tmp_path, root=tmp_path)
    vars(again).update(snapshots=workspace.snapshots, ledger=workspace.ledger)
    assert len(FeatureMaker(again).make(toy_rows(number), week(number))) == 120


def test_training_scoring_and_watching_use_the_same_features(tmp_path: Path) -> None:
    workspace = workspace_with_features(tmp_path, LEVEL, weeks=5)
    assert train(workspace, week(3)) == "1"
    version = start_rollout(workspace, week(3))
    for index in range(len(workspace.loop.rollout.stages)):
        run_rollout_step(workspace, version, index, week(3))
    scored = score_partition(workspace, week(4))
    assert scored.rows == 120
    profile = workspace.evidence.get(workspace.state().versions["1"].details.profile)
    assert sorted(profile["bins"]) == ["level", "x"]
    drift = detect_drift(workspace, week(4))
    assert drift.missing == ()
    assert sorted(workspace.evidence.get(str(drift.report))["counts"]) == ["level", "x"]
    window = pin_window(workspace.state(as_of=week(3)), workspace.loop.train, week(3))
    fitted = read_window(workspace, window.fitted)
    assert list(fitted.features.columns) == ["x", "level"]
    assert fitted.features["x"].equals(fitted.rows["x"])


def test_another_features_function_is_another_version(tmp_path: Path) -> None:
    workspace = workspace_with_features(tmp_path, SQUARED)
    decide_and_record(workspace, week(3), trigger="person")
    request = assemble_training(workspace, week(3))
    assert request.source == features_digest(workspace, workspace.loop.train.function)
    file = tmp_path / f"{str(workspace.loop.data.features).partition(':')[0]}.py"
    before = features_digest(workspace, workspace.loop.train.function)
    file.write_text(SQUARED.replace("** 2", "** 3"))
    assert features_digest(workspace, workspace.loop.train.function) != before


def test_functions_that_give_other_columns_for_other_partitions_are_refused(tmp_path: Path) -> None:
    body = "    return frame[['x']] if frame['id'].iloc[0].startswith('1') else frame[['x', 'kind']]\n"
    workspace = workspace_with_features(tmp_path, f"def features(frame):\n{body}")
    decide_and_record(workspace, week(3), trigger="person")
    window = pin_window(workspace.state(), workspace.loop.train, week(3))
    with pytest.raises(TrainingError, match=r"gave other columns for .* 'kind' only for one of them"):
        read_window(workspace, window.fitted)


class Named:
    """A model that knows the names of its features and adds up their weights."""

    feature_names_in_ = np.array(["a", "b"], dtype=object)

    def predict(self, features: pd.DataFrame) -> Any:
        return features.to_numpy() @ np.array([1.0, 10.0])


def test_a_model_gets_the_features_it_was_fitted_on_by_name_and_in_its_order() -> None:
    features = pd.DataFrame({"b": [2.0], "new": [9.0], "a": [1.0]})
    assert predict(Named(), features, classifies=False).tolist() == [21.0]
    with pytest.raises(TrainingError, match="fitted on 2 features, and 'b' is missing; there are new, a"):
        predict(Named(), features.drop(columns="b"), classifies=False)


def test_a_features_function_that_is_not_there_is_named_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(SQUARED)
    with pytest.raises(DeclarationError, match=r"data\.features: made\.py has no function 'featurs'"):
        require_function("made:featurs", tmp_path, key="data.features")
