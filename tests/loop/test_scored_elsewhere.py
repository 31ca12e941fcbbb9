"""A loop whose partitions are scored by SageMaker closes like any other, with the predictions that a worker makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.rollout.score_partition import predict_versions
from airflow_mlops.core.rollout.serving_state import require_champion
from airflow_mlops.core.rollout.worker_predictor import WorkerPredictor
from airflow_mlops.core.training.window import read_partition
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.sagemaker_transforms import TransformsDouble
from tests.loop.aws_account import simulated_account
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, make_project, states, why

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

RUNS_ON = {
    "kind": "sagemaker",
    "image": "score:1",
    "role": "arn:aws:iam::123456789012:role/fits",
    "storage": "s3://company/fits/scores",
    "rows_per_file": 50,
    "connection": "aws_models",
}


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[TransformsDouble]:
    with simulated_account(monkeypatch) as double:
        yield double


def require_predictions_of_a_worker(workspace: Workspace, key: str) -> None:
    """Compare the recorded predictions of a partition with those that this process makes of the same records."""
    scored = workspace.state().scored[key]
    pin = PinnedPartition(key, scored.snapshot_version, scored.snapshot)
    rows = read_partition(workspace, pin, label=False)
    expected = predict_versions(workspace, require_champion(workspace, key), rows, pin, WorkerPredictor(workspace))
    recorded = workspace.predictions.read(key, version=scored.version).select(expected.column_names)
    assert expected.sort_by("key").to_pydict() == recorded.sort_by("key").to_pydict()


def test_a_loop_whose_partitions_are_scored_by_sagemaker_closes_without_a_waiting_worker(
    tmp_path: Path, start_scheduler: SchedulerFactory, sagemaker: TransformsDouble
) -> None:
    project = make_project(tmp_path, score={"runs_on": RUNS_ON})
    scheduler = start_scheduler(project.dags)
    project.first_champion(scheduler, KEYS[:2])
    assert sagemaker.transforms == {}  # nobody was there to predict

    # No machine: the task fails, nothing is recorded, and the run that is started again has another job.
    sagemaker.faults.append("CapacityError: Unable to provision requested ML compute capacity.")
    project.put(KEYS[2])
    project.ingest(scheduler, KEYS[2])
    while scheduler.run_triggers():
        scheduler.run_until_idle()
    assert "failed: CapacityError: Unable to provision" in why(scheduler, "score")
    assert KEYS[2] not in project.workspace.state().scored
    scheduler.trigger(project.dag("score"), partition_key=KEYS[2])
    scheduler.run_until_idle()
    deferred = 0
    while scheduler.run_triggers():
        deferred += 1
        scheduler.run_until_idle()
    assert project.workspace.state().scored[KEYS[2]].served == {"1": 120}

    for key in KEYS[3:5]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
        while scheduler.run_triggers():  # no worker waits for a job
            deferred += 1
            scheduler.run_until_idle()
    assert deferred >= 3
    workspace = project.workspace
    champion = workspace.state().champion
    assert champion is not None
    assert champion.number == "2", scheduler.failures()
    assert states(scheduler, project.dag("score"))["score"] == "success"
    for key in KEYS[2:5]:
        require_predictions_of_a_worker(workspace, key)
    ended = [job["TransformJobStatus"] for job in sagemaker.transforms.values()]
    assert ended.count("Failed") == 1
    assert ended.count("Completed") == len(ended) - 1 >= 3
    assert sagemaker.objects_below("s3://company/fits/scores/models") != []
    assert [name for name in sagemaker.objects_below("s3://company/fits/scores") if name.startswith("part-")] == []
    assert "hunter2" not in json.dumps([record.stored for record in project.records])
    assert_invariants(workspace)
