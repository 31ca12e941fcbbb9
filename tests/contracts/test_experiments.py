"""A training is shown in MLflow as people expect it, and a store that fails costs the training nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sqlalchemy import make_url

from airflow_mlops.core.declaration.train import FitLimits
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.operators.links import MlflowRunLink, MlflowVersionLink
from airflow_mlops.operators.stage import StageOperator
from tests.unit.core import toy_loop as toy
from tests.unit.core.toy_loop import go_live, ingest, toy_rows, train, week

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = {"pictures/residuals.svg", "pictures/predictions.svg", "pictures/importance.svg"}
CURVES = {"pictures/roc.svg", "pictures/precision_recall.svg", "pictures/calibration.svg", "pictures/importance.svg"}


def lines(seed: int) -> dict[str, Any]:
    """Return a line whose penalty is searched, and a candidate that cannot be kept."""
    return {"ridge": (numbers_of(Ridge(random_state=seed)), {"ridge__alpha": [0.1, 1.0, 10.0]}), **toy.strange(seed)}


def numbers_of(estimator: Any) -> Any:
    """Return a pipeline that gives an estimator the one number of the toy loop."""
    return make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), estimator)


def classes(seed: int) -> dict[str, Any]:
    """Return a classifier."""
    return {"logistic": numbers_of(LogisticRegression(random_state=seed))}


def logging_function(seed: int) -> dict[str, Any]:
    """Return a line, and log as data scientists do."""
    mlflow.log_param("rows_wanted", 12)
    mlflow.log_metric("own_metric", 0.25)
    mlflow.log_text("why", "notes.txt")
    return {"line": numbers_of(Ridge(random_state=seed)), "mean": numbers_of(DummyRegressor())}


def contradicting(seed: int) -> dict[str, Any]:
    """Log what MLflow refuses if a parameter of that name is in the run already."""
    mlflow.log_param("once", os.urandom(4).hex())
    if "sqlite" in mlflow.get_tracking_uri():
        mlflow.log_param("once", os.urandom(4).hex())
    return {"line": numbers_of(Ridge(random_state=seed))}


def automatic(seed: int) -> dict[str, Any]:
    """Return a line, with MLflow's automatic logging of its fit."""
    mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
    return {"line": numbers_of(Ridge(random_state=seed))}


def opened(folder: Path, function: str, *, uri: str | None = None, **changes: Any) -> Workspace:
    """Return a toy loop on the stores of one machine, with four weeks."""
    loop = toy.toy_loop(train={"function": f"{__name__}:{function}", "window": 2}, **changes)
    stores = Stores.embedded(folder / "home")
    stores = stores if uri is None else Stores(**{**vars(stores), "tracking_uri": uri, "artifact_location": None})
    workspace = open_workspace(loop, stores, root=folder, actor="tests")
    (folder / "toy").mkdir()
    for number in range(4):
        rows = toy_rows(number)
        if loop.classifies:
            rows["y"] = (rows["y"] > 0).astype("int64")
        rows.to_parquet(folder / "toy" / f"{week(number)[:10]}.parquet")
        ingest(workspace, week(number))
    return workspace


def runs_of(workspace: Workspace, folder: Path) -> tuple[MlflowClient, list[Run]]:
    """Return a client of the loop's store and all runs of its experiment."""
    client = MlflowClient(Stores.embedded(folder / "home").tracking_uri)
    return client, list(client.search_runs([client.get_experiment_by_name(workspace.loop.model).experiment_id]))


def named(runs: list[Run], name: str) -> Run:
    """Return the only run of a name."""
    (run,) = [run for run in runs if run.info.run_name == name]
    return run


def artifacts(client: MlflowClient, run: Run, folder: str = "pictures") -> set[str]:
    """Return the paths of the artifacts of a run below a folder."""
    return {artifact.path for artifact in client.list_artifacts(run.info.run_id, folder)}


def test_a_training_is_a_run_with_a_run_below_it_for_each_candidate_and_trial(tmp_path: Path) -> None:
    workspace = opened(tmp_path, "lines")
    go_live(workspace, week(2))
    client, runs = runs_of(workspace, tmp_path)
    training, ridge, left_out = named(runs, f"training {week(2)}"), named(runs, "ridge"), named(runs, "strange")
    assert {run.data.tags.get("mlflow.parentRunId") for run in (ridge, left_out)} == {training.info.run_id}
    assert (training.info.status, ridge.info.status, left_out.info.status) == ("FINISHED", "FINISHED", "FAILED")
    assert "Strange" in left_out.data.tags["airflow_mlops.left_out"]
    metrics = ridge.data.metrics
    assert metrics["holdout_mae_low"] < metrics["holdout_mae"] < metrics["holdout_mae_high"]
    assert float(ridge.data.params["ridge__alpha"]) in {0.1, 1.0, 10.0}
    assert ridge.data.params["candidate"] == training.data.params["best"] == "ridge"
    assert artifacts(client, ridge) == NUMBERS
    trials = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == ridge.info.run_id]
    assert {run.data.params["ridge__alpha"] for run in trials} == {"0.1", "1.0", "10.0"}
    assert all("validation_mae" in run.data.metrics for run in trials)
    inputs = {(pair.dataset.name, pair.dataset.digest, pair.tags[0].value) for pair in training.inputs.dataset_inputs}
    pins = {key: record.digest[:36] for key, record in workspace.state().published.items()}
    assert inputs == {
        (week(0), pins[week(0)], "training"),
        (week(1), pins[week(1)], "training"),
        (week(2), pins[week(2)], "evaluation"),
    }
    (version,) = client.search_model_versions("name = 'toy'")
    assert version.run_id == ridge.info.run_id


def test_a_repeated_task_logs_nothing_twice(tmp_path: Path) -> None:
    workspace = opened(tmp_path, "lines")
    decide_and_record(workspace, week(2), trigger="person")
    request = assemble_training(workspace, week(2))
    logged = []
    for _ in range(2):
        evaluated = evaluate_candidates(
            workspace, request, [fit_candidate(workspace, request, name) for name in request.candidates]
        )
        assert register_candidate(workspace, request, evaluated)["version"] == "1"
        client, runs = runs_of(workspace, tmp_path)
        pictures = Path(client.download_artifacts(named(runs, "ridge").info.run_id, "pictures", str(tmp_path)))
        logged.append(({run.info.run_id for run in runs}, {path: path.read_bytes() for path in pictures.iterdir()}))
    assert logged[0] == logged[1]


def test_two_classes_have_their_curves(tmp_path: Path) -> None:
    workspace = opened(
        tmp_path, "classes", gates=[{"metric": "log_loss", "at_most": 5}], watch={"performance": {"metric": "log_loss"}}
    )
    train(workspace, week(2))
    client, runs = runs_of(workspace, tmp_path)
    assert artifacts(client, named(runs, "logistic")) == CURVES


def test_what_the_training_function_logs_is_a_run_below_its_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = opened(tmp_path, "logging_function")
    train(workspace, week(2))
    client, runs = runs_of(workspace, tmp_path)
    own = [run for run in runs if "rows_wanted" in run.data.params]
    parents = {run.data.tags["mlflow.parentRunId"] for run in own}
    assert parents == {named(runs, "line").info.run_id, named(runs, "mean").info.run_id}
    assert len(own) == 2
    assert all(run.data.metrics == {"own_metric": 0.25} and run.info.status == "FINISHED" for run in own)
    assert artifacts(client, own[0], "") == {"notes.txt"}
    assert mlflow.active_run() is None
    assert not {path.name for path in tmp_path.iterdir()} & {"mlruns", "mlflow.db", "mlartifacts"}


def test_a_server_gets_the_training_and_what_its_function_logs(tmp_path: Path, mlflow_server: str) -> None:
    workspace = opened(tmp_path, "logging_function", uri=mlflow_server, model="logged_on_a_server")
    train(workspace, week(2))
    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name(workspace.loop.model)
    runs = list(client.search_runs([experiment.experiment_id]))
    own = [run for run in runs if "rows_wanted" in run.data.params]
    assert {run.data.tags["mlflow.parentRunId"] for run in own} == {
        named(runs, name).info.run_id for name in ("line", "mean")
    }
    assert artifacts(client, named(runs, "line")) == NUMBERS
    assert named(runs, f"training {week(2)}").info.status == "FINISHED"


def test_buttons_of_tasks_lead_to_the_run_and_the_version_on_the_server(
    tmp_path: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = opened(tmp_path, "logging_function", uri=mlflow_server, model="linked_on_a_server")
    decide_and_record(workspace, week(2), trigger="person")
    request = assemble_training(workspace, week(2))
    fits = [fit_candidate(workspace, request, name) for name in request.candidates]
    evaluated = evaluate_candidates(workspace, request, fits)
    registered = register_candidate(workspace, request, evaluated)

    address = make_url(mlflow_server)
    connection = {"conn_type": "http", "host": f"http://ann:secret@{address.host}", "port": address.port}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_REGISTRY", json.dumps(connection))
    task = StageOperator(task_id="register", loop=workspace.loop)
    task.note_mlflow_page(MlflowRunLink.name, evaluated["run"])
    task.note_mlflow_page(MlflowVersionLink.name, f"models/{workspace.loop.model}/versions/{registered['version']}")
    run, version = (link().get_link(task, ti_key=None) for link in (MlflowRunLink, MlflowVersionLink))
    assert run.startswith(f"{mlflow_server}/#/experiments/")
    assert version == f"{mlflow_server}/#/models/{workspace.loop.model}/versions/{registered['version']}"
    *_, experiment, _, run_id = run.split("/")
    logged = MlflowClient(mlflow_server).get_run(run_id)
    assert (logged.info.experiment_id, logged.info.run_name) == (experiment, f"training {week(2)}")


def test_in_a_child_process_it_is_the_same(tmp_path: Path) -> None:
    workspace = opened(tmp_path, "logging_function")
    train_in_child = workspace.loop.train.model_copy(update={"limits": FitLimits(minutes=5)})
    loop = workspace.loop.model_copy(update={"train": train_in_child})
    workspace = open_workspace(loop, Stores.embedded(tmp_path / "home"), root=ROOT, actor="tests")
    train(workspace, week(2))
    _, runs = runs_of(workspace, tmp_path)
    own = [run for run in runs if "rows_wanted" in run.data.params]
    assert {run.data.tags["mlflow.parentRunId"] for run in own} == {
        named(runs, name).info.run_id for name in ("line", "mean")
    }


def test_automatic_logging_lands_below_the_candidate_too(tmp_path: Path) -> None:
    workspace = opened(tmp_path, "automatic")
    try:
        train(workspace, week(2))
    finally:
        mlflow.sklearn.autolog(disable=True)
    _, runs = runs_of(workspace, tmp_path)
    (own,) = [run for run in runs if run.data.tags.get("mlflow.autologging")]
    assert own.data.tags["mlflow.parentRunId"] == named(runs, "line").info.run_id


@pytest.mark.parametrize("uri", [None, "http://127.0.0.1:9"], ids=["refused", "down"])
def test_what_mlflow_refuses_or_does_not_answer_does_not_fail_a_training(
    tmp_path: Path, uri: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = opened(tmp_path, "contradicting", uri=uri)
    decide_and_record(workspace, week(2), trigger="person")
    request = assemble_training(workspace, week(2))
    evaluated = evaluate_candidates(workspace, request, [fit_candidate(workspace, request, "line")])
    assert evaluated["passed"]
    words = "it is called again and logs to" if uri is None else "is not shown among the experiments"
    assert words in caplog.text


def test_the_variables_of_the_process_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = opened(tmp_path, "logging_function")
    train(workspace, week(2))
    assert os.environ["MLFLOW_EXPERIMENT_ID"] == "7"
    assert "MLFLOW_TRACKING_URI" not in os.environ
