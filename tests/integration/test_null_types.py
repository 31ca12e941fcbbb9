"""A loop whose whole numbers and truth values have nulls goes through every stage, and its ids keep their digits."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.watch import CheckName
from airflow_mlops.core.governance.explain_row import explain_row
from airflow_mlops.core.replay.fit_history import fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.report.evidently_report import evidently_report
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.window import pin_published, read_partition
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.watch.training_serving_skew import replay_rows
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import FIELDS, go_live, ingest, toy_loop, toy_rows, week

BIG = 2**60
WEEKS = 5
TRAINING = """
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def encoded(seed):
    accounts = OneHotEncoder(handle_unknown="ignore")
    columns = [("accounts", accounts, ["account", "member"]), ("x", "passthrough", ["x"])]
    return {"encoded": make_pipeline(ColumnTransformer(columns), Ridge())}


def boosted(seed):
    columns = [("all", "passthrough", ["digit", "member", "x"])]
    return {"boosted": make_pipeline(ColumnTransformer(columns), HistGradientBoostingRegressor(max_iter=60))}


def digits(frame, history):
    past = history.rows(partitions=1, columns=["account"]) if history.partitions else frame.head(0)
    assert str(frame["account"].dtype) == str(past["account"].dtype) == "Int64"
    return frame[["member", "x"]].assign(digit=frame["account"] % 4)
"""
WAYS = {"one-hot": {"function": "null_types:encoded"}, "function": {"function": "null_types:boosted"}}


def null_rows(number: int, *, missing: bool = True) -> pa.Table:
    """Return the rows of a week, whose label depends on the last digits of an id; some ids are missing."""
    frame = toy_rows(number, rows=240)
    digit = np.random.default_rng(number).integers(0, 4, len(frame))
    lacks = np.arange(len(frame)) % 60 == 7 if missing and number != 1 else np.zeros(len(frame), bool)
    frame["y"] += 10 * digit
    accounts = [None if null else BIG + int(value) for value, null in zip(digit, lacks, strict=True)]
    members = [None if place % 40 == 3 and missing else place % 2 == 0 for place in range(len(frame))]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return table.append_column("account", pa.array(accounts, pa.int64())).append_column(
        "member", pa.array(members, pa.bool_())
    )


@pytest.fixture(scope="module", params=WAYS)
def workspace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a loop with a champion and two scored weeks."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "null_types.py").write_text(TRAINING)
    features: dict[str, Any] = {"features": "null_types:digits"} if request.param == "function" else {}
    slices = ["account", "member"]
    loop = toy_loop(
        data={**FIELDS["data"], **features},
        train={**WAYS[request.param], "window": 2},
        rollout={"stages": [{"shadow": 100}, {"live": 100}]},
        evaluate={"slices": slices},
        gates=[{"metric": "mae", "at_most": 5}, {"metric": "mae", "slices": ["account"], "at_most": 50, "min_rows": 9}],
        watch={
            "drift": {"alarm_rate": 0.01},
            "performance": {"metric": "mae", "worse_by": 1.0, "slices": slices, "min_rows": 20},
            "checks": list(get_args(CheckName)),
        },
    )
    rows = {week(number): null_rows(number) for number in range(WEEKS)}
    made = in_memory_workspace(loop, rows, scratch=folder, root=folder)
    for number in range(WEEKS - 1):
        ingest(made, week(number))
    go_live(made, week(2))
    ingest(made, week(4))
    for number in (3, 4):
        score_partition(made, week(number))
    return made


def documents(workspace: Workspace) -> str:
    """Return all evidence of a loop as text."""
    contents: dict[str, bytes] = workspace.evidence.contents  # type: ignore[attr-defined]
    return json.dumps([json.loads(content) for content in contents.values()])


def test_ids_keep_their_digits_and_nulls_stay_nulls(workspace: Workspace) -> None:
    assert workspace.state().versions["1"].details.metrics["mae"] < 2.5
    assert measure_performance(workspace, week(4)).verdict == "no alarm"


def test_features_are_of_the_same_types_in_every_week(workspace: Workspace) -> None:
    maker = FeatureMaker(workspace)
    types = set()
    for number in range(WEEKS):
        pin = pin_published(workspace.state(), week(number))
        features = maker.make(read_partition(workspace, pin, label=False), pin.partition, pin.version)
        types.add(tuple((name, str(kind)) for name, kind in sorted(features.dtypes.items())))
    assert len(types) == 1
    assert ("member", "boolean") in next(iter(types))


def test_a_slice_is_called_by_its_whole_number(workspace: Workspace) -> None:
    measure_performance(workspace, week(4))
    evidence = documents(workspace)
    assert f'"{BIG + 1}"' in evidence
    assert f'"{float(BIG)}"' not in evidence
    assert '"(missing)"' in evidence


def test_a_row_alone_is_predicted_as_in_its_batch(workspace: Workspace) -> None:
    assert replay_rows(workspace, week(4)).difference is None


def test_every_check_of_the_watch_reads_such_columns(workspace: Workspace) -> None:
    assert not detect_drift(workspace, week(4)).failed
    results = run_checks(workspace, week(4))
    assert results.keys() == set(get_args(CheckName))
    assert not [judged.message for judged in results.values() if judged.failed]


def test_the_page_of_evidently_compares_such_columns(workspace: Workspace) -> None:
    assert "member" in evidently_report(workspace, week(4))


def test_an_explained_row_shows_the_id_to_its_last_digit(workspace: Workspace) -> None:
    row = null_rows(4).to_pylist()[0]
    explained = explain_row(workspace, "1", row["id"])
    assert explained.row["account"] == row["account"]
    assert explained.row["member"] is row["member"]


def test_a_replay_predicts_what_the_loop_predicted(workspace: Workspace) -> None:
    history = fit_history(workspace, past_partitions(workspace), processes=1)
    fitted = [model for models in history.models.values() for model in models.values()]
    assert [model.failed for model in fitted] == [None] * len(fitted)
    (as_of_training,) = history.models[2].values()
    scored = workspace.predictions.read(week(4), version=workspace.state().scored[week(4)].version)
    np.testing.assert_allclose(as_of_training.predictions[4], scored["champion_prediction"].to_numpy(), rtol=1e-12)
