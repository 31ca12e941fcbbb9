"""A replay leaves out the candidates that the loop leaves out, with the same reasons."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC

from airflow_mlops.core.errors import GateError, TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.registry.model_file import file_digest, load_model
from airflow_mlops.core.replay.compare_policies import PolicyComparison
from airflow_mlops.core.replay.fit_history import FittedHistory, fit_history
from airflow_mlops.core.replay.past_holdout import PastHoldout
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.replay.replay_report import report_replay, unused_lines
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.contracts.onnx_network import RegressorNetwork
from tests.contracts.test_onnx_candidates import Dropped, Silent
from tests.unit.core.toy_loop import ingest, none_fitted, several, toy_loop, toy_rows, week

ROOT = Path(__file__).parents[2]  # the project folder of functions that stand here, for fits in other processes
OWN = """
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from tests.integration.test_replay_rules import numbers


class Declared(LinearRegression):
    pass


class Undeclared(LinearRegression):
    pass


class Unreadable(LinearRegression):
    def __setstate__(self, state):
        raise KeyError("of another release")


def candidates(seed):
    columns = ColumnTransformer([("x", "passthrough", ["x"])])
    models = {"own": Declared(), "undeclared": Undeclared(), "unreadable": Unreadable()}
    return {**numbers(seed), **{name: make_pipeline(columns, model) for name, model in models.items()}}
"""


def of_x(model: Any) -> Any:
    return make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), model)


def numbers(seed: int) -> dict[str, Any]:
    """Return candidates of every kind that is refused, fails, cannot be kept or cannot predict, beside a line."""
    encoded = make_pipeline(ColumnTransformer([("kind", OneHotEncoder(), ["kind"])]), LinearRegression())
    return {
        **several(seed),
        "encoded": encoded,
        "outliers": of_x(IsolationForest()),
        "network": of_x(RegressorNetwork(seed)),
        "dropped": of_x(Dropped(seed)),
        "silent": of_x(Silent(seed)),
    }


def of_classes(seed: int) -> dict[str, Any]:
    """Return a classifier beside one without probabilities and a regressor."""
    return {"logistic": of_x(LogisticRegression()), "svc": of_x(LinearSVC()), "line": of_x(LinearRegression())}


def of_counts(seed: int) -> dict[str, Any]:
    """Return a model of counts beside one that predicts less than 0, and one whose fit takes no weights."""
    return {
        "counts": of_x(PoissonRegressor()),
        "line": of_x(LinearRegression()),
        "neighbours": of_x(KNeighborsRegressor()),
    }


def exiting(seed: int) -> dict[str, Any]:
    """Return a line, and a candidate that ends the process of its fit."""
    ends = LinearRegression()
    ends.fit = end_process
    return {"ends": ends, "line": of_x(LinearRegression())}


def end_process(X: Any, y: Any) -> Any:
    """End the process of the fit."""
    os._exit(7)


def weeks_of(change: Any = lambda frame: frame, weeks: int = 4) -> dict[str, pd.DataFrame]:
    return {week(number): change(toy_rows(number)) for number in range(weeks)}


def published(
    tmp_path: Path, function: str, frames: dict[str, pd.DataFrame], *, root: Path = ROOT, **changes: Any
) -> Workspace:
    """Return a loop in memory of a function of candidates, with its weeks published."""
    train = {"function": function if ":" in function else f"{__name__}:{function}", "window": 2}
    loop = toy_loop(**{**changes, "train": {**train, **changes.get("train", {})}})
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path / "scratch", root=root)
    for key in frames:
        ingest(workspace, key)
    return workspace


def reasons_of_loop(workspace: Workspace, key: str) -> dict[str, str] | str:
    """Return the reasons of the candidates that a training leaves out, or the reason why it fails."""
    decide_and_record(workspace, key, trigger="person")
    try:
        request = assemble_training(workspace, key)
        fits = [fit_candidate(workspace, request, name) for name in request.candidates]
        return dict(evaluate_candidates(workspace, request, fits).get("left_out", {}))
    except (TrainingError, GateError):
        return str(list(workspace.ledger.records())[-1].details.reason)


def replayed(workspace: Workspace, position: int) -> FittedHistory:
    return fit_history(workspace, past_partitions(workspace), processes=1, as_of={position})


def reasons_of_replay(history: FittedHistory, position: int) -> dict[str, str] | str:
    """Return the same of a replay."""
    holdout = PastHoldout(history, history.loop, position)
    try:
        holdout.judge_all(None)
    except (TrainingError, GateError) as error:
        return str(error)
    return holdout.usable[1]


def test_every_kind_of_unusable_candidate_has_the_reason_that_the_loop_has(tmp_path: Path) -> None:
    (tmp_path / "replay_shop.py").write_text(OWN)
    frames = weeks_of()
    frames[week(3)].loc[5, "kind"] = "unseen"
    declared = {"own_types": ["replay_shop:Declared", "replay_shop:Unreadable"]}
    workspace = published(tmp_path, "replay_shop:candidates", frames, root=tmp_path, train=declared)
    history = replayed(workspace, 3)
    reasons = reasons_of_replay(history, 3)
    assert reasons == reasons_of_loop(workspace, week(3))
    assert isinstance(reasons, dict)
    words = {
        "breaking": "raised ZeroDivisionError in fit: 240 rows are too many",
        "deaf": "gives no usable predictions",
        "dropped": "the ONNX graph is up to",
        "encoded": "candidate 'encoded': the model raised ValueError in predict",
        "groups": "KMeans is a clusterer",
        "late": "the model holds types that are not trusted for loading",
        "outliers": "IsolationForest is an outlier detector",
        "silent": "to_onnx returned NoneType",
        "strange": "it holds types that are not trusted",
        "undeclared": "replay_shop.Undeclared",
        "unreadable": "candidate 'unreadable': model.skops cannot be loaded: KeyError: 'of another release'",
    }
    assert reasons.keys() == words.keys()
    assert all(text in reasons[name] for name, text in words.items())
    usable = {name for name, model in history.models[3].items() if model.holdout is not None}
    assert usable == {"line", "network", "own"}


@pytest.mark.parametrize(
    ("function", "change", "declared", "left_out"),
    [
        (
            "of_classes",
            lambda frame: frame.assign(y=np.where(frame["y"] > 0, 1, 0)),
            {"gates": [{"metric": "log_loss", "at_most": 9}]},
            {"line": "is a regressor", "svc": "gives decisions and no probabilities, which log_loss need"},
        ),
        (
            "of_counts",
            lambda frame: frame.assign(y=np.exp(frame["x"]), w=1.0),
            {"gates": [{"metric": "mean_poisson_deviance", "at_most": 9}], "train": {"weight": "w"}},
            {"line": "predictions, which are 0 or negative", "neighbours": "takes no weights of rows"},
        ),
        (
            "exiting",
            lambda frame: frame,
            {"train": {"limits": {"memory_mb": 8000}}},
            {"ends": "ended with exit code 7 and gave no model"},
        ),
    ],
)
def test_the_rules_of_the_declaration_hold_in_a_replay(
    tmp_path: Path, function: str, change: Any, declared: dict[str, Any], left_out: dict[str, str]
) -> None:
    workspace = published(tmp_path, function, weeks_of(change), **declared)
    reasons = reasons_of_replay(replayed(workspace, 3), 3)
    assert reasons == reasons_of_loop(workspace, week(3))
    assert isinstance(reasons, dict)
    assert reasons.keys() == left_out.keys()
    assert all(text in reasons[name] for name, text in left_out.items())


@pytest.mark.parametrize(
    ("function", "change", "words"),
    [
        (none_fitted, lambda frame: frame, "candidate 'breaking' raised ZeroDivisionError in fit"),
        (several, lambda frame: frame.assign(y=3.0), "are of one value: 3.0"),
    ],
)
def test_a_training_without_a_model_fails_for_the_reason_that_the_loop_has(
    tmp_path: Path, function: Any, change: Any, words: str
) -> None:
    workspace = published(tmp_path, f"{function.__module__}:{function.__name__}", weeks_of(change))
    reason = reasons_of_replay(replayed(workspace, 3), 3)
    assert reason == reasons_of_loop(workspace, week(3))
    assert words in reason


def stopped(seed: int) -> dict[str, Any]:
    """Return boosted trees that are stopped early, beside a line, which cannot be."""
    trees = LGBMRegressor(n_estimators=300, learning_rate=0.2, n_jobs=1, deterministic=True, verbose=-1)
    return {"trees": of_x(trees), "line": of_x(LinearRegression())}


def test_a_model_of_a_replay_is_that_of_the_training_with_its_weights_and_its_stop(tmp_path: Path) -> None:
    def over_time(frame: pd.DataFrame) -> pd.DataFrame:
        age = np.random.default_rng(0).permutation(len(frame))
        return frame.assign(at=frame["at"] - pd.to_timedelta(age, unit="h"), w=1.0 + age % 3)

    declared = {"weight": "w", "half_life_days": 5.0, "early_stopping": {"rounds": 5, "validation": 20}}
    workspace = published(tmp_path, "stopped", weeks_of(over_time), train=declared)
    history = replayed(workspace, 3)
    reasons = reasons_of_replay(history, 3)
    assert reasons == reasons_of_loop(workspace, week(3))
    assert set(reasons) == {"line"}
    (file,) = (tmp_path / "scratch" / "candidates").rglob("model.skops")
    model = load_model(file, file_digest(file))
    rows = over_time(toy_rows(3)).sort_values("id")
    assert history.models[3]["trees"].holdout == pytest.approx(model.predict(rows[["kind", "x"]]), rel=1e-12)


def meeting_a_new_kind(seed: int) -> dict[str, Any]:
    """Return the candidate that cannot predict a kind that it has not seen, and one that cannot be fitted."""
    return {name: model for name, model in numbers(seed).items() if name in ("encoded", "breaking")}


def test_the_report_has_who_was_left_out_and_what_no_champion_could_predict(tmp_path: Path) -> None:
    frames = weeks_of(weeks=8)
    frames[week(6)].loc[5, "kind"] = "unseen"
    frames[week(7)].loc[5, "kind"] = "unseen"
    workspace = published(tmp_path, "meeting_a_new_kind", frames, gates=[{"metric": "mae", "at_most": 99}])
    history = fit_history(workspace, past_partitions(workspace), processes=1)
    report = report_replay(PolicyComparison(history), ["nightly"], split=week(4))
    document = report.to_dict()
    by_name = {entry["candidate"]: entry for entry in document["left_out"]}
    assert by_name["breaking"]["partitions"] == [week(number) for number in range(2, 8)]
    assert by_name["encoded"]["partitions"] == [week(6)]  # the holdout; the window of the next week has seen it
    # The model of the fifth week serves the sixth, whose rows it cannot predict, and still the seventh.
    assert document["unserved"]["nightly"].keys() == {week(6), week(7)}
    lines = unused_lines(report)
    assert any(line.startswith("left out: candidate 'breaking' raised") or "'breaking'" in line for line in lines)
    assert any(line.startswith("not served under nightly: the model raised ValueError in predict") for line in lines)
    losses = PolicyComparison(history).replay("nightly").losses
    assert set(losses) == {3, 4, 5}
