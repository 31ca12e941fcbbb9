"""The loop of three classes lives through its first weeks: one champion takes over from another, and is proved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score, log_loss

from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.training.prediction_columns import stored_predictions
from airflow_mlops.core.watch.performance.measure_performance import labelled_predictions
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.factories.build_dags import loops_in
from include.demo.loops import DEFAULT, MODELS, demo_loops
from include.demo.report import print_table
from include.demo.summary import summarise_loop
from include.flights.prepare import ARRIVAL, data_folder, partitions, read_flights, write_partition
from tests.loop.by_core import live_through

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["early", "on time", "late"]
WEEKS = 15


@pytest.fixture(scope="module")
def arrivals(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return the workspace after every sixth flight of fifteen weeks."""
    folder = tmp_path_factory.mktemp("arrivals")
    (loop,) = loops_in(ROOT / "dags" / "flight_arrival.py")
    source = {"kind": "parquet", "uri": str(folder / "{partition}.parquet")}
    loop = type(loop)(**{**loop.to_dict(), "data": {**loop.to_dict()["data"], "source": source}})
    workspace = open_workspace(loop, Stores.embedded(folder / "mlops"), root=ROOT, actor="test")
    for slug, rows in list(partitions(read_flights(data_folder())))[:WEEKS]:
        write_partition(rows.iloc[::6], ARRIVAL, folder / f"{slug}.parquet")
        assert pq.read_schema(folder / f"{slug}.parquet").names[-1] == "arrival"
        live_through(workspace, f"{slug}T00:00:00")
    return workspace


def test_a_second_champion_takes_over_through_shadow_and_canary(arrivals: Workspace) -> None:
    summary = summarise_loop(arrivals, [])["numbers"]
    assert [retrain["cause"] for retrain in summary["retrains"]][:2] == ["first model", "clock"]
    assert summary["promotions"] >= 2
    assert summary["promotions_through_shadow_and_canary"] >= 1
    assert summary["predicted_before_labels_were_read"] is True
    version = arrivals.state().champion
    assert version is not None
    assert version.details.classes == tuple(CLASSES)
    assert reproduce_version(arrivals, version.number).verdict == "identical"


def test_lightgbm_was_judged_beside_scikit_learn(arrivals: Workspace) -> None:
    report = arrivals.evidence.get(str(arrivals.state().versions["1"].details.report))
    losses = {entry["candidate"]: entry["metrics"]["log_loss"] for entry in report["candidates"]}
    assert losses.keys() == {"boosting", "leaves"}
    assert max(losses.values()) < 1.1


def test_the_figures_of_the_demo_are_those_of_scikit_learn(
    arrivals: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, state = summarise_loop(arrivals, []), arrivals.state()
    labels, chances = [], []
    for partition, scored in state.scored.items():
        served = labelled_predictions(arrivals, partition, scored)
        labels.append(served["label"].to_numpy(int))
        chances.append(stored_predictions(served, "served", arrivals.loop.class_names))
    label, predicted = np.concatenate(labels), np.concatenate(chances)
    comparison = summary["comparison"]
    assert comparison["loop"] == pytest.approx(log_loss(label, predicted, labels=[0, 1, 2]))
    assert comparison["f1_macro"]["loop"] == pytest.approx(f1_score(label, predicted.argmax(axis=1), average="macro"))
    assert comparison["loop"] < -np.log(1 / 3)
    print_table(
        {
            "loops": {"flight_arrival": comparison},
            "flight_arrival": summary["numbers"],
            "failed_tasks": 0,
            "refused_candidates": 0,
            "tasks": 0,
            "ledger_verified": True,
            "minutes": 0.0,
        }
    )
    printed = capsys.readouterr().out
    assert f"{comparison['f1_macro']['never_retrained']:.4f}" in printed
    assert "f1_macro" in printed


def test_the_demo_replays_the_first_two_loops_unless_one_is_named() -> None:
    assert [loop.model for loop in demo_loops(ROOT)] == list(DEFAULT) == ["flight_air_time", "flight_delay"]
    assert [loop.model for loop in demo_loops(ROOT, MODELS)] == [*DEFAULT, "flight_arrival"]
    assert [loop.several_classes for loop in demo_loops(ROOT, MODELS)] == [False, False, True]
