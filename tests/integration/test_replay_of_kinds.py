"""A replay of weights with a sample, quantiles, three classes or a threshold is what the loop lives through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, recall_score

from airflow_mlops.core.replay.compare_policies import PolicyComparison
from airflow_mlops.core.replay.fit_history import FittedHistory, fit_history
from airflow_mlops.core.replay.past_holdout import PastHoldout
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.replay.replay_report import report_replay
from airflow_mlops.core.training.row_losses import row_losses
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.integration.test_classes import THREE, class_rows, make_loop
from tests.integration.test_replay import assert_lived_as_replayed
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week
from tests.unit.core.training.test_weights import two_worlds
from tests.unit.core.watch.living_toy import live
from tests.unit.core.watch.test_quantiles import PINBALL, QUANTILES

WEEKS, CHANGED = 12, 4
RECALL = 0.9
RETRAIN = {"policy": {"regret": 0.1}, "cooldown": 0}


def changed(frame: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return the rows of a week, whose line is steeper from one week on."""
    return frame.assign(y=frame["y"] + (6 * frame["x"] if number >= CHANGED else 0))


def loop_of_numbers(folder: Path, rows: Any, metric: str, **train: Any) -> Workspace:
    """Return a loop in memory of a metric, nothing of which was taken in yet."""
    loop = toy_loop(
        train={"function": "tests.unit.core.toy_loop:candidates", "window": 2, **train},
        gates=[{"metric": metric, "at_most": 9}, {"metric": metric, "better_than": "dummy"}],
        watch={"performance": {"metric": metric, "worse_by": 0.3, "slices": ["kind"], "min_rows": 20}},
        retrain=RETRAIN,
    )
    frames = {week(number): changed(rows(number), number) for number in range(WEEKS)}
    return in_memory_workspace(loop, frames, scratch=folder / "scratch", root=folder)


def weighted(folder: Path) -> Workspace:
    """Return a loop whose rows have weights and an age, and whose fits take a sample of them."""
    sample = {"rows": 200, "by": "kind"}
    return loop_of_numbers(folder, two_worlds, "mae", weight="w", half_life_days=10.0, sample=sample)


def of_quantiles(folder: Path) -> Workspace:
    """Return a loop of three quantiles."""
    function = "tests.unit.core.watch.test_quantiles:lines"
    rows = lambda number: toy_rows(number, rows=300)  # noqa: E731
    return loop_of_numbers(folder, rows, PINBALL, function=function, quantiles=QUANTILES)


def of_classes(folder: Path) -> Workspace:
    """Return a loop of three classes of text, whose edges move from one week on."""
    workspace = make_loop(folder, THREE, retrain=RETRAIN)
    for number in range(WEEKS):
        moved = 2.0 if number >= CHANGED else 0.0
        workspace.source.frames[week(number)] = class_rows(number, THREE, moved=moved)  # type: ignore[attr-defined]
    return workspace


def deciding(folder: Path) -> Workspace:
    """Return a loop of two classes whose threshold follows from costs, and whose own gate refuses week 6."""
    (folder / "share_of_ones.py").write_text("def share(label, predicted):\n    return label.mean()\n")
    threshold = {"costs": {"false_positive": 1.0, "false_negative": 9.0}}
    own = {"name": "share_of_ones", "function": "share_of_ones:share", "unit": "share", "better": "less"}
    loop = toy_loop(
        train={"function": "tests.unit.core.toy_loop:deciding", "window": 2, "threshold": threshold},
        gates=[
            {"metric": "log_loss", "at_most": 9},
            {"metric": "recall", "at_least": RECALL},
            {"metric": "share_of_ones", "at_most": 0.6},
        ],
        evaluate={"metrics": [own]},
        watch={"performance": {"metric": "log_loss", "worse_by": 0.3, "min_rows": 20}},
        retrain=RETRAIN,
    )
    frames = {}
    for number in range(WEEKS):
        frame = toy_rows(number, rows=300)
        sign = -1 if number >= CHANGED else 1
        hours = pd.to_timedelta(np.arange(300), unit="min")
        ones = frame["y"] * sign + (2 if number == 6 else 0) > 0.5
        frames[week(number)] = frame.assign(y=ones.astype(int), at=frame["at"] + hours)
    return in_memory_workspace(loop, frames, scratch=folder / "scratch", root=folder)


def lived_through(made: Workspace) -> tuple[Workspace, FittedHistory]:
    live(made, WEEKS)
    return made, fit_history(made, past_partitions(made), processes=1)


@pytest.mark.parametrize("kind", [weighted, of_quantiles, of_classes, deciding])
def test_the_loop_decides_as_its_replay_says(kind: Any, tmp_path: Path) -> None:
    workspace, history = lived_through(kind(tmp_path))
    assert_lived_as_replayed(workspace, history)
    comparison = PolicyComparison(history)
    nightly, never = (comparison.figures(name, CHANGED + 3, WEEKS) for name in ("nightly", "never"))
    assert nightly.loss < 0.8 * never.loss
    report = report_replay(comparison, ["declared"], split=week(CHANGED))
    assert report.metric == workspace.loop.metric
    assert (report.untrained, report.unserved) == ({}, {})
    assert [entry["candidate"] for entry in report.left_out] == (["svc"] if kind is deciding else [])
    expected = expected_loss(kind, workspace, history)
    assert comparison.replay("never").losses[3] == pytest.approx(expected)


def expected_loss(kind: Any, workspace: Workspace, history: FittedHistory) -> float:
    """Return the metric of the first model on the fourth week, from its rows alone."""
    frame = workspace.snapshots.read(week(3)).to_pandas().sort_values("id")
    (model,) = history.models[2].values()
    predicted = model.predictions[3]
    if kind is deciding:
        return float(log_loss(frame["y"], predicted))
    if kind is weighted:
        return float(mean_absolute_error(frame["y"], predicted, sample_weight=frame["w"]))
    if kind is of_quantiles:
        assert predicted.shape == (300, 3)
        return float(row_losses(PINBALL, frame["y"], predicted).mean())
    assert predicted.shape == (240, 3)
    codes = frame["y"].map(THREE.index).to_numpy()
    return float(-np.log(predicted[np.arange(len(codes)), codes]).mean())


def test_a_replay_decides_by_the_threshold_and_holds_gates_of_the_users_own(tmp_path: Path) -> None:
    workspace = deciding(tmp_path)
    for number in range(WEEKS):
        ingest(workspace, week(number))
    history = fit_history(workspace, past_partitions(workspace), processes=1)
    model, label = history.models[2]["logistic"], history.partitions[2].label
    assert model.holdout is not None
    assert model.threshold is not None
    assert recall_score(label, model.holdout >= 0.5) < RECALL <= recall_score(label, model.holdout >= model.threshold)
    assert 2 in PolicyComparison(history).replay("nightly").promoted
    log_loss_alone, _recall, own = workspace.loop.gates
    for gates, passes in (([log_loss_alone], True), ([log_loss_alone, own], False)):
        holdout = PastHoldout(history, workspace.loop.model_copy(update={"gates": gates}), 6)
        assert holdout.passes_gates(history.models[6]["logistic"], None) is passes


def test_a_week_whose_weights_cannot_be_used_trains_nothing_and_has_no_value(tmp_path: Path) -> None:
    workspace = weighted(tmp_path)
    bad = workspace.source.frames[week(3)]  # type: ignore[attr-defined]
    bad.loc[3, "w"] = -1.0
    workspace, history = lived_through(workspace)
    assert_lived_as_replayed(workspace, history)
    comparison = PolicyComparison(history)
    assert 3 not in comparison.replay("nightly").losses
    report = report_replay(comparison, ["nightly"], split=week(CHANGED))
    # It is the holdout of its own week, and in the windows of the two after it.
    assert report.untrained.keys() == {week(3), week(4), week(5)}
    assert all("of 300 rows is negative" in reason or "of 600 rows" in reason for reason in report.untrained.values())
