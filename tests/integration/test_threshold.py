"""The threshold of two classes is chosen by the costs of mistakes, held by the version, and decides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.svm import LinearSVC

from airflow_mlops.core.errors import DeclarationError, MlopsError, TrainingError
from airflow_mlops.core.governance.explain_row import explain_row
from airflow_mlops.core.governance.model_card import model_card
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.roll_out import start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.decision_threshold import cheapest_threshold, fit_threshold, threshold_of
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.toy_loop import FIELDS, go_live, ingest, toy_loop, toy_rows, train, week

ROOT = Path(__file__).parents[2]
COSTS = {"costs": {"false_positive": 1.0, "false_negative": 9.0}}
GATES = [
    {"metric": "log_loss", "at_most": 1},
    {"metric": "recall", "at_least": 0.9},
    {"metric": "precision", "slices": ["kind"], "at_least": 0.2, "min_rows": 20},
    {"metric": "demographic_parity_difference", "group": "kind", "at_most": 0.9, "min_rows": 20},
    {"metric": "f1", "no_worse_than_champion_by": 0.5},
]


def class_frames(weeks: int = 4) -> dict[str, pd.DataFrame]:
    """Return weeks of rows whose hour of the day says which are newer, and whose class is 0 or 1."""
    frames = {}
    for number in range(weeks):
        frame = toy_rows(number, rows=400)
        hours = pd.to_timedelta(np.arange(400), unit="min")
        frames[week(number)] = frame.assign(y=(frame["y"] > 0.5).astype(int), at=frame["at"] + hours)
    return frames


def make_loop(folder: Path, *, gates: list[dict[str, Any]] = GATES, **changed: Any) -> Workspace:
    """Return a loop of four ingested weeks, which decides by costs."""
    function = FIELDS["train"]["function"].replace(":candidates", ":deciding")
    fields: dict[str, Any] = {
        "train": {"function": function, "window": 2, "threshold": COSTS, **changed.pop("train", {})},
        "gates": gates,
        "evaluate": {"slices": ["kind"], "groups": ["kind"], "min_rows": 20},
        "rollout": {"stages": [{"shadow": 100}, {"live": 100}], "min_rows": 20},
        "watch": {"performance": {"metric": "log_loss", "worse_by": 0.5}},
        **changed,
    }
    workspace = in_memory_workspace(toy_loop(**fields), class_frames(), scratch=folder, root=ROOT)
    for number in range(4):
        ingest(workspace, week(number))
    return workspace


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = make_loop(tmp_path_factory.mktemp("threshold"))
    go_live(made, week(2))
    score_partition(made, week(3))
    return made


def scored(workspace: Workspace, number: int = 3) -> pd.DataFrame:
    """Return the predictions of a week with their labels."""
    labels = workspace.snapshots.read(week(number)).to_pandas()[["id", "y", "x", "kind"]]
    return workspace.predictions.read(week(number)).to_pandas().merge(labels, left_on="key", right_on="id")


def report_of(workspace: Workspace, number: str = "1") -> dict[str, Any]:
    """Return the report of the candidate that became a version."""
    details = workspace.state().versions[number].details
    document = workspace.evidence.get(str(details.report))
    return next(entry for entry in document["candidates"] if entry["candidate"] == details.candidate)


def test_a_missed_row_that_costs_more_lowers_the_threshold_which_the_version_holds(loop: Workspace) -> None:
    version = loop.state().versions["1"]
    threshold = version.details.best_params["threshold"]
    assert 0.02 < threshold < 0.35
    model = load_version(loop, version)
    assert threshold_of(model) == threshold
    rows = scored(loop)
    features = rows[["x", "kind"]]
    chances = model.predict_proba(features)[:, 1]
    np.testing.assert_allclose(chances, rows["served_prediction"])
    np.testing.assert_array_equal(model.predict(features), (chances >= threshold).astype(int))


def test_the_threshold_is_chosen_on_rows_of_the_window_and_not_on_the_holdout(tmp_path: Path, loop: Workspace) -> None:
    other = make_loop(tmp_path, train={"limits": {"minutes": 5}})  # in a process of its own
    frame = class_frames()[week(2)]  # the holdout of the training
    other.source.frames[week(2)] = frame.assign(y=1 - frame["y"])  # type: ignore[attr-defined]
    ingest(other, week(2))
    with pytest.raises(MlopsError, match="does not pass"):
        train(other, week(2))
    details = [each.details for each in other.ledger.records() if each.kind == "candidate_refused"]
    (candidate,) = [
        entry for entry in other.evidence.get(str(details[0].report))["candidates"] if entry["candidate"] == "logistic"
    ]
    assert candidate["best_params"] == loop.state().versions["1"].details.best_params


def test_metrics_of_decisions_gates_slices_and_fairness_are_those_of_the_threshold(loop: Workspace) -> None:
    report = report_of(loop)
    threshold = loop.state().versions["1"].details.best_params["threshold"]
    holdout = loop.snapshots.read(week(2)).to_pandas()
    chances = load_version(loop, loop.state().versions["1"]).predict_proba(holdout[["x", "kind"]])[:, 1]
    label, decided = holdout["y"].to_numpy(), (chances >= threshold).astype(int)
    for name, score in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
        assert report["metrics"][name] == pytest.approx(score(label, decided))
        assert report["metrics"][name] != pytest.approx(score(label, (chances >= 0.5).astype(int)))
    assert report["confusion"]["threshold"] == threshold
    assert report["confusion"]["false_negatives"] == ((label == 1) & (decided == 0)).sum()
    for entry in report["slices"]["kind"]["slices"]:
        mask = (holdout["kind"] == entry["value"]).to_numpy()
        assert entry["metrics"]["precision"] == pytest.approx(precision_score(label[mask], decided[mask]))
        gate = next(each for each in report["gates"] if f"precision where kind is {entry['value']}" in each["gate"])
        assert gate["value"] == pytest.approx(entry["metrics"]["precision"])
        assert "log_loss" in entry["metrics"]
    rates = [decided[(holdout["kind"] == kind).to_numpy()].mean() for kind in "abc"]
    parity = report["fairness"]["kind"]["demographic_parity_difference"]["value"]
    assert parity == pytest.approx(max(rates) - min(rates))
    gate = next(each for each in report["gates"] if "demographic_parity_difference" in each["gate"])
    assert gate["value"] == pytest.approx(parity)


def test_scoring_writes_the_class_beside_the_probability(loop: Workspace) -> None:
    rows, threshold = scored(loop), loop.state().versions["1"].details.best_params["threshold"]
    expected = np.where(rows["served_prediction"] >= threshold, "1", "0")
    assert rows["served_class"].tolist() == rows["champion_class"].tolist() == expected.tolist()
    assert rows["challenger_class"].isna().all()
    assert (rows["served_class"] != np.where(rows["served_prediction"] >= 0.5, "1", "0")).any()
    assert measure_performance(loop, week(3)).verdict == "no alarm"


def test_it_is_made_again_bit_for_bit_and_the_card_says_at_which_threshold(loop: Workspace) -> None:
    assert reproduce_version(loop, "1").verdict == "identical"
    explained = explain_row(loop, "1", "3-0")
    assert explained.prediction == pytest.approx(scored(loop).set_index("key").loc["3-0", "served_prediction"])
    assert "At its threshold" in json.dumps(model_card(loop, "1"), default=str)


def test_a_model_without_probabilities_has_no_threshold() -> None:
    frame = class_frames()[week(0)]
    rows = FitRows(frame[["x"]], frame["y"].to_numpy(), np.arange(len(frame)))
    model = LinearSVC().fit(rows.features, rows.label)
    with pytest.raises(TrainingError, match=r"LinearSVC has no probabilities, which train\.threshold needs"):
        fit_threshold(model, {**COSTS, "validation": 20}, rows)


def test_a_challenger_decides_by_its_own_threshold(tmp_path: Path) -> None:
    workspace = make_loop(tmp_path, rollout={"stages": [{"canary": 50}, {"live": 100}], "min_rows": 20})
    go_live(workspace, week(2))
    fields = workspace.loop.to_dict()
    costs = {"costs": {"false_positive": 1.0, "false_negative": 30.0}}
    dearer = replace(workspace, loop=toy_loop(**{**fields, "train": {**fields["train"], "threshold": costs}}))
    assert train(dearer, week(3)) == "2"
    start_rollout(dearer, week(3))
    dearer.record_fact(draft_of(dearer, "stage_entered", "s", week(3), version="2", stage=0, kind="canary", share=50))
    dearer.source.frames[week(4)] = class_frames(5)[week(4)]  # type: ignore[attr-defined]
    ingest(dearer, week(4))
    score_partition(dearer, week(4))
    holdout = dearer.snapshots.read(week(3)).to_pandas()
    champion = load_version(dearer, dearer.state().versions["1"])
    expected = f1_score(holdout["y"], champion.predict(holdout[["x", "kind"]]))
    report = report_of(dearer, "2")
    assert report["metric_reports"]["f1"]["champion"]["value"] == pytest.approx(expected)
    assert report["champion_metrics"]["f1"] == pytest.approx(expected)
    rows, versions = scored(dearer, 4), dearer.state().versions
    assert versions["2"].details.best_params["threshold"] < versions["1"].details.best_params["threshold"]
    for model, number in (("champion", "1"), ("challenger", "2")):
        threshold = versions[number].details.best_params["threshold"]
        assert rows[f"{model}_class"].tolist() == np.where(rows[f"{model}_prediction"] >= threshold, "1", "0").tolist()
    by_challenger = rows["served_version"] == "2"
    assert by_challenger.any()
    assert rows.loc[by_challenger, "served_class"].tolist() == rows.loc[by_challenger, "challenger_class"].tolist()
    assert rows.loc[~by_challenger, "served_class"].tolist() == rows.loc[~by_challenger, "champion_class"].tolist()


def test_a_declared_threshold_is_held_by_the_version_and_needs_no_rows_to_be_chosen_on(tmp_path: Path) -> None:
    workspace = make_loop(tmp_path, train={"threshold": {"value": 0.15}, "half_life_days": 30})
    go_live(workspace, week(2))
    version = workspace.state().versions["1"]
    assert threshold_of(load_version(workspace, version)) == version.details.best_params["threshold"] == 0.15
    assert reproduce_version(workspace, "1").verdict == "identical"
    score_partition(workspace, week(3))
    rows = scored(workspace)
    assert rows["served_class"].tolist() == np.where(rows["served_prediction"] >= 0.15, "1", "0").tolist()


@pytest.mark.parametrize("costs", [(1.0, 1.0), (1.0, 7.0), (5.0, 1.0)])
@pytest.mark.parametrize("digits", [1, 9])
def test_no_other_threshold_costs_less(costs: tuple[float, float], digits: int) -> None:
    source = np.random.default_rng(3)
    chances = source.uniform(size=300).round(digits)
    label = (source.uniform(size=300) < chances**2).astype(float)

    def cost(threshold: float) -> float:
        decided = chances >= threshold
        return float((decided & (label == 0)).sum() * costs[0] + (~decided & (label == 1)).sum() * costs[1])

    chosen = cheapest_threshold(label, chances, *costs)
    assert cost(chosen) == min(cost(threshold) for threshold in [*np.unique(chances), 0.0, 1.5])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"train": {"threshold": {}}}, "needs value, the probability itself, or costs"),
        ({"train": {"threshold": {"value": 0.5, **COSTS}}}, "needs value, the probability itself, or costs"),
        ({"train": {"threshold": {"value": 1}}}, "train.threshold.value"),
        ({"gates": [{"metric": "mae", "at_most": 1}]}, "train.threshold: a threshold decides between two classes"),
        ({"rollout": {"target": "gateway"}}, "rollout.target: gateway answers with the probability"),
        (
            {"watch": {"performance": {"metric": "accuracy"}}},
            "watch.performance.metric: accuracy compares models row by row at 0.5",
        ),
        ({"gates": [{"metric": "accuracy", "at_least": 0.5}]}, "gates: accuracy compares models"),
        ({"train": {"half_life_days": 3.0}}, "threshold counts every row once, and half_life_days is declared"),
        ({"train": {"early_stopping": {}}}, "threshold and early_stopping each hold out the newest rows"),
        ({"train": {"threshold": {"costs": {"false_positive": 1.0}}}}, "false_negative"),
        ({"train": {"threshold": {"costs": {"false_positive": 0.0, "false_negative": 1.0}}}}, "greater than 0"),
    ],
)
def test_what_a_threshold_cannot_go_with_is_refused_by_its_key(changes: dict[str, Any], why: str) -> None:
    base: dict[str, Any] = {
        "train": {**FIELDS["train"], "threshold": COSTS},
        "gates": [{"metric": "log_loss", "at_most": 1}],
    }
    train_fields = {**base["train"], **changes.get("train", {})}
    with pytest.raises(DeclarationError, match=why):
        toy_loop(**{**base, **changes, "train": train_fields})


def test_newest_rows_of_one_class_choose_no_threshold_and_say_so(tmp_path: Path) -> None:
    workspace = make_loop(tmp_path, train={"function": FIELDS["train"]["function"].replace(":candidates", ":deciding")})
    for number in range(3):
        frame = class_frames()[week(number)]
        newest = np.arange(len(frame)) >= 200
        workspace.source.frames[week(number)] = frame.assign(y=np.where(newest, 0, frame["y"]))  # type: ignore[attr-defined]
        ingest(workspace, week(number))
    with pytest.raises(MlopsError, match="the newest rows of the window are all of one class"):
        train(workspace, week(2))
