"""A loop whose label is text goes through every stage, with two classes and with three."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from airflow_mlops.core.check_declaration import check_declaration
from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.errors import DeclarationError, TrainingError
from airflow_mlops.core.governance.explain_row import explain_row
from airflow_mlops.core.governance.model_card import model_card
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ports.rollout_target import VersionTelemetry
from airflow_mlops.core.registry.load import copy_folder
from airflow_mlops.core.registry.recorded_classes import ClassesChangedError
from airflow_mlops.core.replay.fit_history import fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.analyse_rows import compare_rows
from airflow_mlops.core.rollout.analyse_stage import analyse_stage
from airflow_mlops.core.rollout.roll_out import enter_stage, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.search_parameters import class_scorer
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.watch.training_serving_skew import replay_rows
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from airflow_mlops.testing.in_memory_target import InMemoryTarget
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.toy_loop import FIELDS, go_live, ingest, toy_loop, toy_rows, train, week

WEEKS = 5
THREE, TWO = ["early", "on time", "late"], ["on time", "late"]
TRAINING = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def candidates(seed):
    return {"logistic": make_pipeline(make_column_transformer(("passthrough", ["x"])), LogisticRegression())}


def searched(seed):
    return {"searched": (candidates(seed)["logistic"], {"logisticregression__C": [1e-6, 1.0]})}
"""


def write_contract(folder: Path, **label: Any) -> None:
    """Write the contract; ``label`` are the fields of the label's column."""
    columns = {
        "id": {"type": "text", "nullable": False},
        "at": {"type": "time", "zone": "none", "nullable": False},
        "x": {"type": "float"},
        "kind": {"type": "category"},
        "y": label or {"type": "text"},
    }
    fields = {"contract": "rows", "key": "id", "time": "at", "columns": columns}
    (folder / "contract.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))


def class_rows(number: int, classes: list[Any], *, moved: float = 0.0) -> pa.Table:
    """Return the rows of a week, whose label is the part of the line that the noisy number falls into."""
    frame = toy_rows(number, rows=240)
    edges = [-1.0, 1.0] if len(classes) == 3 else [0.0]
    codes = np.digitize(frame["y"] + moved, edges)
    return pa.Table.from_pandas(frame.assign(y=[classes[code] for code in codes]), preserve_index=False)


def make_loop(folder: Path, classes: list[Any], **changed: Any) -> Workspace:
    """Return a loop with five delivered weeks."""
    (folder / "classify.py").write_text(TRAINING)
    write_contract(folder, type="int" if isinstance(classes[0], int) else "text")
    data = {**FIELDS["data"], "contract": "contract.yaml", "classes": classes, **changed.pop("data", {})}
    gates: list[dict[str, Any]] = [
        {"metric": "log_loss", "at_most": 0.9},
        {"metric": "log_loss", "better_than": "dummy"},
        {"metric": "accuracy", "slices": ["kind"], "at_least": 0.2, "min_rows": 9},
        {"metric": "log_loss", "no_worse_than_champion_by": 0.5},
        {"metric": "worse_by_noise", "at_most": 5},
    ]
    if len(classes) > 2:
        gates += [
            {"metric": "f1_macro", "at_least": 0.3},
            {"metric": "roc_auc_ovr", "better_than": "dummy"},
            {"metric": "demographic_parity_difference", "group": "kind", "at_most": 1, "min_rows": 9},
        ]
    fields: dict[str, Any] = {
        "data": data,
        "train": {"function": "classify:candidates", "window": 2},
        "rollout": {"stages": [{"shadow": 100}, {"live": 100}]},
        "evaluate": {"slices": ["kind"], "groups": ["kind"], "min_rows": 9, "shap": len(classes) > 2},
        "gates": gates,
        "watch": {
            "drift": {"alarm_rate": 0.01},
            "performance": {"metric": "log_loss", "worse_by": 0.5, "slices": ["kind"], "min_rows": 20},
            "checks": [
                "multivariate",
                "reconstruction",
                "predictions",
                "label_rate",
                "estimated_performance",
                "importance",
                "concept",
            ],
        },
        **changed,
    }
    rows = {week(number): class_rows(number, classes) for number in range(WEEKS)}
    workspace = in_memory_workspace(toy_loop(**fields), rows, scratch=folder, root=folder)
    check_declaration(workspace.loop, folder)
    return workspace


def live_loop(folder: Path, classes: list[Any], *, target: InMemoryTarget | None = None, **changed: Any) -> Workspace:
    """Return a loop with a champion of week 2 and two scored weeks."""
    made = make_loop(folder, classes, **changed)
    if target is not None:
        made = replace(made, ports=replace(made.ports, target=lambda _: target))
    for number in range(WEEKS):
        ingest(made, week(number))
    go_live(made, week(2))
    for number in (3, 4):
        score_partition(made, week(number))
    return made


def predictions(workspace: Workspace, number: int) -> pd.DataFrame:
    """Return the predictions of a week with the label of each row."""
    scored = workspace.state().scored[week(number)]
    table = workspace.predictions.read(week(number), version=scored.version).to_pandas()
    labels = workspace.snapshots.read(week(number)).to_pandas()[["id", "y"]]
    return table.merge(labels, left_on="key", right_on="id")


def report_of(workspace: Workspace) -> dict[str, Any]:
    """Return the evaluation of the champion."""
    report = workspace.evidence.get(str(workspace.state().versions["1"].details.report))
    candidate: dict[str, Any] = report["candidates"][0]
    return candidate


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return live_loop(tmp_path_factory.mktemp("three"), THREE)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return live_loop(tmp_path_factory.mktemp("two"), TWO, data={"positive": "on time"})


def test_a_version_records_its_classes_in_the_order_of_their_codes(three: Workspace, two: Workspace) -> None:
    for workspace, classes in ((three, THREE), (two, ["late", "on time"])):
        version = workspace.state().versions["1"]
        assert version.details.classes == tuple(classes)
        report = workspace.evidence.get(str(version.details.report))
        assert report["request"]["classes"] == classes
        copy_folder(workspace, version)
        assert (copy_folder(workspace, version) / "classes.json").is_file()


def test_predictions_are_the_class_as_it_is_written_and_a_probability_of_each(three: Workspace) -> None:
    rows = predictions(three, 3)
    chances = rows[[f"served_probability_{name}" for name in THREE]]
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert rows["served_prediction"].tolist() == [THREE[code] for code in chances.to_numpy().argmax(axis=1)]
    assert (rows["served_prediction"] == rows["y"]).mean() > 0.6


def test_two_classes_are_predicted_by_the_probability_of_the_positive_one(two: Workspace) -> None:
    rows = predictions(two, 3)
    assert rows["served_prediction"].dtype == float
    assert rows.loc[rows["y"] == "on time", "served_prediction"].mean() > 0.6
    assert rows.loc[rows["y"] == "late", "served_prediction"].mean() < 0.4
    assert "true_positives" in report_of(two)["confusion"]


def test_performance_is_the_loss_of_the_served_probabilities(three: Workspace) -> None:
    judged = measure_performance(three, week(3))
    rows = predictions(three, 3)
    chances = rows[[f"served_probability_{name}" for name in THREE]].to_numpy()
    codes = [THREE.index(name) for name in rows["y"]]
    assert judged.verdict == "no alarm"
    assert judged.value == pytest.approx(log_loss(codes, chances, labels=[0, 1, 2]))
    assert judged.rows == 240


def test_the_evaluation_has_the_metrics_and_the_matrix_of_all_classes(three: Workspace) -> None:
    candidate = report_of(three)
    assert {"f1_macro", "cohen_kappa", "roc_auc_ovr", "expected_calibration_error"} <= candidate["metrics"].keys()
    assert "precision" not in candidate["metrics"]
    assert candidate["confusion"]["classes"] == THREE
    assert np.sum(candidate["confusion"]["rows"]) == 240
    assert candidate["metric_reports"]["f1_macro"]["baselines"]["dummy"]["value"] < candidate["metrics"]["f1_macro"]


def test_what_reads_features_or_makes_a_version_again_goes_on(three: Workspace) -> None:
    assert not detect_drift(three, week(3)).failed
    assert reproduce_version(three, "1").verdict == "identical"


def test_the_rate_of_each_class_is_watched_in_labels_and_predictions(three: Workspace) -> None:
    results = run_checks(three, week(3))
    assert {name: result.verdict for name, result in results.items() if result.failed} == {}
    for name in ("predictions", "label_rate"):
        assert all(text in results[name].message for text in THREE), results[name].message


def test_the_loss_is_estimated_before_labels_and_its_confusion_adds_up_to_the_rows(three: Workspace) -> None:
    result = run_checks(three, week(3))["estimated_performance"]
    truth = measure_performance(three, week(3)).value
    assert result.numbers["estimate"] == pytest.approx(truth, rel=0.25)
    rows = predictions(three, 3)
    assert result.numbers["accuracy"] == pytest.approx((rows["served_prediction"] == rows["y"]).mean(), abs=0.1)
    confusion = three.evidence.get(str(result.report))["expected_confusion"]
    assert confusion["classes"] == THREE
    assert np.sum(confusion["rows"]) == pytest.approx(240)
    chosen = rows["served_prediction"].value_counts()
    np.testing.assert_allclose(np.sum(confusion["rows"], axis=0), [chosen[name] for name in THREE])


def test_the_feature_that_the_classes_follow_is_the_important_one(three: Workspace) -> None:
    report = three.evidence.get(str(run_checks(three, week(3))["importance"].report))
    importance = {name: each["window"] for name, each in report["importance"].items()}
    assert importance["x"] > 0.1 > abs(importance["kind"])


def test_errors_that_rise_for_no_reason_in_the_rows_are_found_by_concept_alone(tmp_path: Path) -> None:
    made = live_loop(tmp_path, THREE)
    for number in range(5, 9):
        moved = class_rows(number, THREE).to_pandas()
        labels = {"early": "late", "on time": "on time", "late": "early"}
        moved["y"] = moved["y"].map(labels)
        made.source.frames[week(number)] = moved  # type: ignore[attr-defined]
        ingest(made, week(number))
        score_partition(made, week(number))
    results = run_checks(made, week(8))
    assert results["concept"].verdict == "alarm", results["concept"].message
    assert results["estimated_performance"].verdict != "alarm"


def test_a_class_that_becomes_frequent_alarms_both_checks(tmp_path: Path) -> None:
    made = live_loop(tmp_path, THREE)
    rows = class_rows(5, THREE).to_pandas()
    often = rows[rows["y"] == "late"]
    moved = pd.concat([often] * 8).head(240).assign(id=[f"5-{row}" for row in range(240)])
    made.source.frames[week(5)] = pd.concat([moved, rows.head(60).assign(id=[f"6-{row}" for row in range(60)])])  # type: ignore[attr-defined]
    ingest(made, week(5))
    score_partition(made, week(5))
    results = run_checks(made, week(5))
    assert results["predictions"].verdict == results["label_rate"].verdict == "alarm"


def test_a_replay_predicts_what_the_loop_predicted(three: Workspace) -> None:
    history = fit_history(three, past_partitions(three), processes=1)
    model = history.models[2]["logistic"]
    rows = predictions(three, 3).set_index("key").loc[history.partitions[3].keys]
    np.testing.assert_allclose(
        model.predictions[3], rows[[f"served_probability_{name}" for name in THREE]].to_numpy(), rtol=1e-9
    )


def test_rows_alone_are_compared_in_every_class(tmp_path: Path) -> None:
    made = live_loop(tmp_path, THREE)
    report = replay_rows(made, week(3), rows=20)
    assert (report.rows, report.difference) == (20, None)
    table = made.predictions.read(week(3)).to_pandas()
    table.loc[7, "champion_probability_late"] += 0.01
    table.loc[7, "champion_probability_early"] -= 0.01
    version = made.predictions.write(week(3), pa.Table.from_pandas(table, preserve_index=False))
    scored = made.state().scored[week(3)]
    made.record_fact(made.draft(replace(scored, version=version), "predictions:moved", week(3)))
    difference = replay_rows(made, week(3), rows=20).difference
    assert difference is not None
    assert (difference.what, difference.key) == ("logged prediction", table.loc[7, "key"])
    assert difference.together.count(",") == 2


def test_a_row_is_explained_by_the_probability_of_the_class_that_is_predicted(three: Workspace) -> None:
    rows = predictions(three, 3).set_index("key")
    for key in ("3-0", "3-1", "3-2"):
        explained = explain_row(three, "1", key)
        assert explained.predicted_class == rows.loc[key, "served_prediction"]
        assert explained.prediction == pytest.approx(rows.loc[key, f"served_probability_{explained.predicted_class}"])
        added = {contribution.feature: contribution.added for contribution in explained.contributions}
        assert explained.base + sum(added.values()) == pytest.approx(explained.prediction)
        assert added["kind"] == pytest.approx(0)


def test_shap_values_say_what_moves_each_class(three: Workspace) -> None:
    shap = report_of(three)["shap"]
    assert (shap["explainer"], shap["reason"]) == ("linear", None)
    assert shap["by_class"].keys() == set(THREE)
    for values in shap["by_class"].values():
        assert values.keys() == shap["values"].keys()
    assert shap["values"]["x"] == pytest.approx(np.mean([values["x"] for values in shap["by_class"].values()]))
    assert shap["by_class"]["late"]["x"] > shap["by_class"]["on time"]["x"]


def test_challengers_are_compared_row_by_row_and_share_the_rows(tmp_path: Path) -> None:
    made = live_loop(tmp_path, THREE, rollout={"stages": [{"canary": 50}, {"live": 100}], "min_rows": 20})
    assert train(made, week(4)) == "2"
    start_rollout(made, week(4))
    made.record_fact(draft_of(made, "stage_entered", "s", week(4), version="2", stage=0, kind="canary", share=50))
    made.source.frames[week(5)] = class_rows(5, THREE)  # type: ignore[attr-defined]
    ingest(made, week(5))
    assert set(score_partition(made, week(5)).served) == {"1", "2"}
    rows = predictions(made, 5)
    by_challenger = rows["served_version"] == "2"
    for mask, model in ((by_challenger, "challenger"), (~by_challenger, "champion")):
        for name in ("prediction", *(f"probability_{name}" for name in THREE)):
            assert rows.loc[mask, f"served_{name}"].tolist() == rows.loc[mask, f"{model}_{name}"].tolist()
    state = made.state()
    compared = compare_rows(made, state, made.loop.rollout.stages[0], [week(5)])
    assert compared.challenger_losses.size == by_challenger.sum()
    assert not np.array_equal(compared.challenger_losses, compared.champion_losses)
    assert analyse_stage(made, state, made.loop.rollout.stages[0], week(5)).rows == by_challenger.sum()


def test_a_gateway_is_judged_by_labels_and_by_the_probabilities_of_each_class(tmp_path: Path) -> None:
    metrics = [{"metric": "label", "worse_by": 0.2}, {"metric": "predictions", "at_most": 0.4}]
    stages = [{"canary": 50}, {"live": 100}]
    rollout = {"target": "gateway", "stages": stages, "metrics": metrics, "min_rows": 20}
    target = InMemoryTarget()
    made = live_loop(tmp_path, THREE, target=target, rollout=rollout)
    assert train(made, week(4)) == "2"
    enter_stage(made, start_rollout(made, week(4)), 0, week(4))
    made.source.frames[week(5)] = class_rows(5, THREE)  # type: ignore[attr-defined]
    ingest(made, week(5))
    score_partition(made, week(5))
    served = predictions(made, 5)[[f"served_probability_{name}" for name in THREE]].to_numpy()
    for answers, verdict in ((served, "pass"), (np.full_like(served, 1 / 3), "fail")):
        champion, challenger = (
            VersionTelemetry(2_000, predictions=np.tile(each, (9, 1))) for each in (served, answers)
        )
        target.set_telemetry(champion=champion, challenger=challenger)
        judged = analyse_stage(made, made.state(), made.loop.rollout.stages[0], week(5))
        assert judged.verdict == verdict, judged.reason
        assert f"late: {'alike' if verdict == 'pass' else 'unlike'}" in judged.reason
        label, distances = judged.metrics
        assert label["verdict"] == "pass"
        assert {f"distance.{name}.distance" for name in THREE} <= distances["numbers"].keys()


def test_regret_is_that_of_the_paired_losses(tmp_path: Path) -> None:
    made = live_loop(tmp_path, THREE, retrain={"policy": {"regret": 1.0}})
    measured = measure_regret(made, week(4))
    assert measured.verdict == "measured", measured.message
    assert abs(measured.regret or 0.0) < 0.5


def test_a_label_that_is_no_class_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = live_loop(tmp_path, THREE)
    frame = class_rows(5, THREE).to_pandas()
    frame.loc[:6, "y"] = "lost"
    made.source.frames[week(5)] = frame  # type: ignore[attr-defined]
    ingest(made, week(5))
    score_partition(made, week(5))
    with caplog.at_level(logging.WARNING):
        judged = measure_performance(made, week(5))
    assert judged.rows == 233
    assert "7 rows are left out: their label is none of the declared classes" in judged.message
    assert "7 rows have a label 'y' that is none of the classes early, on time, late, such as 'lost'" in caplog.text
    assert train(made, week(5)) == "2"


def test_a_class_without_rows_is_refused_and_one_with_few_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_loop(tmp_path, [*THREE, "lost"], gates=[{"metric": "log_loss", "at_most": 2}])
    for number in range(3):
        rows = class_rows(number, THREE).to_pandas()
        made.source.frames[week(number)] = rows  # type: ignore[attr-defined]
        ingest(made, week(number))
    with pytest.raises(TrainingError, match="no row of the training window has the label 'lost'"):
        train(made, week(2))
    rows = class_rows(3, THREE).to_pandas()
    rows.loc[:4, "y"] = "lost"
    for number in (3, 4):
        made.source.frames[week(number)] = rows.assign(id=rows["id"] + str(number))  # type: ignore[attr-defined]
        ingest(made, week(number))
    with caplog.at_level(logging.WARNING):
        train(made, week(4))
    assert "fewer than 30 rows of the classes lost (5)" in caplog.text


def test_a_champion_of_other_classes_predicts_nothing(tmp_path: Path) -> None:
    made = live_loop(tmp_path, THREE)
    made.source.frames[week(5)] = class_rows(5, THREE)  # type: ignore[attr-defined]
    ingest(made, week(5))
    data = made.loop.data.model_copy(update={"classes": ("late", "on time", "early")})
    changed = replace(made, loop=made.loop.model_copy(update={"data": data}))
    with pytest.raises(ClassesChangedError, match="fitted on the classes early, on time, late, and data"):
        score_partition(changed, week(5))


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
def test_a_search_scores_the_probabilities_of_all_classes(tmp_path: Path, metric: str) -> None:
    made = make_loop(
        tmp_path,
        THREE,
        train={"function": "classify:searched", "window": 2},
        watch={"performance": {"metric": metric}},
        gates=[{"metric": "log_loss", "at_most": 0.9}],
    )
    for number in range(3):
        ingest(made, week(number))
    train(made, week(2))
    details = made.state().versions["1"].details
    assert details.best_params == {"logisticregression__C": 1.0}


def test_a_score_counts_rows_of_a_class_that_the_estimator_has_not_seen() -> None:
    features, label = np.arange(6.0)[:, None], np.array([0, 0, 0, 2, 2, 2])
    estimator = LogisticRegression().fit(features, label)
    assert class_scorer("accuracy", 3)(estimator, features, np.array([0, 0, 0, 2, 2, 1])) == pytest.approx(5 / 6)
    chances = np.insert(estimator.predict_proba(features), 1, 0.0, axis=1)
    expected = -log_loss(label, chances, labels=[0, 1, 2])
    assert class_scorer("log_loss", 3)(estimator, features, label) == pytest.approx(expected)


def test_integers_are_classes_too(tmp_path: Path) -> None:
    made = make_loop(tmp_path, [5, 1, 3])
    for number in range(4):
        ingest(made, week(number))
    go_live(made, week(2))
    score_partition(made, week(3))
    rows = predictions(made, 3)
    assert set(rows["served_prediction"]) <= {"1", "3", "5"}
    assert (rows["served_prediction"] == rows["y"].astype(str)).mean() > 0.6


def test_classes_are_delivered_later_and_kept_as_text(tmp_path: Path) -> None:
    source = {"kind": "parquet", "uri": "labels/{partition}.parquet"}
    made = make_loop(tmp_path, THREE, data={"labels": {"source": source, "delay": 1}, "tolerance": 0.1})
    (tmp_path / "labels").mkdir()
    for number in range(WEEKS):
        rows = class_rows(number, THREE).to_pandas()
        made.source.frames[week(number)] = rows.assign(y=pd.Series([None] * len(rows), dtype="str"))  # type: ignore[attr-defined]
        if number:
            delivered = class_rows(number - 1, THREE).to_pandas()[["id", "y"]]
            delivered.loc[:1, "y"] = "lost"
            delivered.to_parquet(tmp_path / "labels" / f"{partition_slug(week(number))}.parquet")
            arrived = take_labels(made, week(number))
            assert (arrived.rows, arrived.bad) == (238, {"none of the declared classes": 2})
        ingest(made, week(number))
    assert made.ports.table("labels").read(week(2)).schema.field("label").type == pa.string()
    go_live(made, week(3))
    score_partition(made, week(4))
    assert measure_performance(made, week(4)).rows == 0
    delivered = class_rows(4, THREE).to_pandas()[["id", "y"]]
    made.source.frames[week(5)] = class_rows(5, THREE)  # type: ignore[attr-defined]
    delivered.to_parquet(tmp_path / "labels" / f"{partition_slug(week(5))}.parquet")
    take_labels(made, week(5))
    judged = measure_performance(made, week(4), as_of=week(5))
    assert (judged.rows, judged.verdict) == (240, "no alarm")


def test_a_feature_that_is_the_class_is_a_leak(tmp_path: Path) -> None:
    made = make_loop(tmp_path, THREE, data={"checks": {"leakage": "critical"}})
    rows = class_rows(0, THREE).to_pandas()
    made.source.frames[week(0)] = rows.assign(x=[float(THREE.index(name)) for name in rows["y"]])  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="x tells the classes apart by itself"):
        ingest(made, week(0))


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "gates": ({"gates": [{"metric": "f1", "at_least": 0.5}]}, "gates[0].metric", "f1 is for two classes only"),
    "numbers": ({"gates": [{"metric": "mae", "at_most": 1}], "watch": {}}, "data.classes", "are for numbers"),
    "positive": ({"data": {"positive": "late"}}, "data", "one of two declared classes"),
    "twice": ({"data": {"classes": ["a", "a", "b"]}}, "data", "write each class once"),
    "bool": ({"data": {"classes": [True, False]}}, "data.classes", "True"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_for_two_classes_or_numbers_only_is_refused_by_its_key(tmp_path: Path, case: str) -> None:
    changed, key, words = REFUSED[case]
    with pytest.raises(DeclarationError, match=re.escape(words)) as refused:
        make_loop(tmp_path, THREE, **changed)
    assert str(refused.value.key).startswith(key)


def test_metrics_of_several_classes_are_refused_for_two(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="cohen_kappa is for three classes or more"):
        make_loop(tmp_path, TWO, gates=[{"metric": "cohen_kappa", "at_least": 0.1}])


@pytest.mark.parametrize(
    ("label", "words"),
    [({"type": "float"}, "declare its type as text, category or int"), ({"type": "int"}, "'early' is no value of 'y'")],
)
def test_classes_have_the_type_of_the_label(tmp_path: Path, label: dict[str, Any], words: str) -> None:
    made = make_loop(tmp_path, THREE)
    write_contract(tmp_path, **label)
    with pytest.raises(DeclarationError, match=words) as refused:
        check_declaration(made.loop, tmp_path)
    assert refused.value.key == "data.classes"


def test_a_label_of_text_without_classes_is_told_where_to_name_them(tmp_path: Path) -> None:
    made = make_loop(tmp_path, TWO)
    loop = made.loop.model_copy(update={"data": made.loop.data.model_copy(update={"classes": None})})
    with pytest.raises(DeclarationError, match=r"name its classes in data\.classes"):
        check_declaration(loop, tmp_path)


def test_the_request_of_a_loop_without_classes_has_the_digest_that_it_had(tmp_path: Path) -> None:
    made = in_memory_workspace(toy_loop(), {week(number): toy_rows(number) for number in range(3)}, scratch=tmp_path)
    for number in range(3):
        ingest(made, week(number))
    decide_and_record(made, week(2), trigger="person")
    assert "classes" not in assemble_training(made, week(2)).to_dict()


def test_fairness_is_that_of_the_class_on_which_the_groups_differ_most(three: Workspace, two: Workspace) -> None:
    fairness = report_of(three)["fairness"]["kind"]["demographic_parity_difference"]
    assert fairness["by_class"].keys() == {*THREE}
    assert fairness["value"] == max(fairness["by_class"].values()) == fairness["by_class"][fairness["of_class"]]
    (gate,) = (gate for gate in report_of(three)["gates"] if gate["metric"] == "demographic_parity_difference")
    assert (gate["verdict"], gate["value"]) == ("pass", fairness["value"])
    assert gate["reason"].endswith(f"for the class {fairness['of_class']}")
    assert f"demographic_parity_difference for the class {fairness['of_class']}" in str(model_card(three, "1"))
    assert "by_class" not in report_of(two)["fairness"]["kind"]["demographic_parity_difference"]


def test_the_card_names_the_classes_and_has_their_matrix(three: Workspace) -> None:
    card = model_card(three, "1")
    assert "the classes early, on time, late of 'y', one probability of each" in str(card)
    assert "predicted on time" in str(card)
