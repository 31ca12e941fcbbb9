"""A batch transform job predicts what the worker would, for every row once, and nothing else is recorded."""

from __future__ import annotations

import asyncio
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from airflow.sdk._shared.module_loading import import_string
from pyarrow.fs import FileSelector, S3FileSystem

from airflow_mlops.core.errors import DeclarationError, TransformError, TransformPlaceError, TransformUnderWayError
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.rollout.roll_out import enter_stage, start_rollout
from airflow_mlops.core.rollout.score_partition import predict_versions, score_partition
from airflow_mlops.core.rollout.serving_state import require_champion
from airflow_mlops.core.rollout.worker_predictor import WorkerPredictor
from airflow_mlops.core.training.window import read_partition
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.sagemaker_transforms import TransformsDouble
from airflow_mlops.triggers.transform_jobs import TransformJobsTrigger
from tests.contracts.step_runner.fits import run_in_background, wait_for
from tests.contracts.transform.loops import KINDS, RUNS_ON, STORAGE, loop_of_kind, on_sagemaker
from tests.unit.core.toy_loop import go_live, ingest, train, week


def by_worker(workspace: Workspace, key: str) -> pa.Table:
    """Return the predictions of a partition as a worker makes them."""
    snapshot = workspace.state().published[key]
    pin = PinnedPartition(key, snapshot.version, snapshot.digest)
    rows = read_partition(workspace, pin, label=False)
    return predict_versions(workspace, require_champion(workspace, key), rows, pin, WorkerPredictor(workspace))


def recorded(workspace: Workspace, key: str) -> pa.Table:
    """Return the recorded predictions of a partition."""
    return workspace.predictions.read(key, version=workspace.state().scored[key].version)


def require_equal(one: pa.Table, other: pa.Table) -> None:
    columns = one.column_names
    assert one.sort_by("key").equals(other.select(columns).sort_by("key"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_predicts_every_kind_of_loop_bit_for_bit_as_the_worker(
    sagemaker: TransformsDouble, tmp_path: Path, kind: str
) -> None:
    workspace = loop_of_kind(kind, tmp_path)
    for number in range(4):
        ingest(workspace, week(number))
    go_live(workspace, week(2))
    scored = score_partition(workspace, week(3), on_sagemaker(workspace, rows_per_file=50))
    assert scored.rows == 120
    require_equal(by_worker(workspace, week(3)), recorded(workspace, week(3)))
    (job,) = sagemaker.transforms.values()
    assert job["TransformJobStatus"] == "Completed"
    # Neither features nor predictions stay behind; the model does, for the next partition.
    assert sagemaker.objects_below(f"{STORAGE}/{job['TransformJobName']}") == []
    ingest(workspace, week(4))
    score_partition(workspace, week(4), on_sagemaker(workspace))
    assert (len(sagemaker.transforms), len(sagemaker.models)) == (2, 1)


def test_champion_and_challenger_are_predicted_at_the_same_time_and_each_by_its_version(
    sagemaker: TransformsDouble, workspace: Workspace
) -> None:
    train(workspace, week(3))
    start_rollout(workspace, week(3))
    enter_stage(workspace, "2", 0, week(3))
    ingest(workspace, week(4))
    sagemaker._may_run.clear()
    with pytest.raises(TransformUnderWayError) as under_way:
        score_partition(workspace, week(4), on_sagemaker(workspace, wait=False))
    assert under_way.value.jobs == tuple(sagemaker.transforms)
    assert len(sagemaker.transforms) == 2
    sagemaker.release()
    wait_for(lambda: {job["TransformJobStatus"] for job in sagemaker.transforms.values()} == {"Completed"}, 60)
    jobs = under_way.value.jobs
    scored = score_partition(workspace, week(4), on_sagemaker(workspace, wait=False, waited=jobs))
    assert set(scored.served) == {"1", "2"}
    require_equal(by_worker(workspace, week(4)), recorded(workspace, week(4)))
    assert sagemaker.count("CreateTransformJob") == 2


def test_a_second_try_adopts_the_job_of_the_first_while_it_runs_and_when_it_has_completed(
    sagemaker: TransformsDouble, workspace: Workspace
) -> None:
    sagemaker._may_run.clear()
    for _ in range(2):
        with pytest.raises(TransformUnderWayError):
            score_partition(workspace, week(3), on_sagemaker(workspace, wait=False))
    sagemaker.release()
    (name,) = sagemaker.transforms
    wait_for(lambda: sagemaker.transforms[name]["TransformJobStatus"] == "Completed", 60)
    first = score_partition(workspace, week(3), on_sagemaker(workspace))
    assert score_partition(workspace, week(3), on_sagemaker(workspace)) == first
    assert sagemaker.count("CreateTransformJob") == 1
    assert len(name) <= 63


def test_a_job_that_failed_is_refused_with_its_reason_and_a_new_task_starts_another(
    sagemaker: TransformsDouble, workspace: Workspace
) -> None:
    sagemaker._may_run.clear()
    sagemaker.faults.append("ClientError: See job logs for more information")
    with pytest.raises(TransformUnderWayError) as under_way:
        score_partition(workspace, week(3), on_sagemaker(workspace, wait=False))
    jobs = under_way.value.jobs
    sagemaker.release()
    wait_for(lambda: sagemaker.transforms[jobs[0]]["TransformJobStatus"] == "Failed")
    with pytest.raises(
        TransformError,
        match=rf"version 1 on partition {week(3)}: SageMaker job {jobs[0]} is failed: ClientError: See job logs for "
        "more information; clear the task to start another job",
    ):
        score_partition(workspace, week(3), on_sagemaker(workspace, wait=False, waited=jobs))
    assert week(3) not in workspace.state().scored
    score_partition(workspace, week(3), on_sagemaker(workspace))
    assert len(sagemaker.transforms) == 2
    assert workspace.state().scored[week(3)].rows == 120


@pytest.mark.parametrize(
    ("refusals", "faults", "words"),
    [
        (["ResourceLimitExceeded"], [], "SageMaker does not start job mlops-score-toy-v1-.* now"),
        ([], ["CapacityError: Unable to provision requested ML compute capacity."], "failed: CapacityError.*a retry"),
        ([], ["InternalServerError: We encountered an internal error."], "failed: InternalServerError.*a retry"),
    ],
)
def test_a_fault_of_sagemaker_says_nothing_about_the_version_and_the_task_is_tried_again(
    sagemaker: TransformsDouble, workspace: Workspace, refusals: list[str], faults: list[str], words: str
) -> None:
    sagemaker.refusals, sagemaker.faults = refusals, faults
    with pytest.raises(TransformPlaceError, match=words) as caught:
        score_partition(workspace, week(3), on_sagemaker(workspace))
    assert caught.value.retryable
    assert score_partition(workspace, week(3), on_sagemaker(workspace)).rows == 120


def unknown_row(table: pa.Table) -> pa.Table:
    """Return the first row of a table under a key that no partition has, another one in each file."""
    key = f"z-{table['__key__'][0]}"
    return table.slice(0, 1).set_column(0, "__key__", pa.array([key]))


Damage = Callable[[pa.Table], pa.Table]
NAMED = r"version 1 on partition .*: SageMaker job mlops-score-toy-v1-\w+"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "too few rows": (
        lambda table: table.slice(1),
        "gave predictions for 118 of 120 rows; the first without one is '3-0'",
    ),
    "a row twice": (
        lambda table: pa.concat_tables([table, table.slice(0, 1)]),
        "gave 2 rows more than once, the first of them '3-0'",
    ),
    "a row of another partition": (
        lambda table: pa.concat_tables([table, unknown_row(table)]),
        "gave 122 rows for 120; 'z-3-0' is none of them",
    ),
    "NaN": (
        lambda table: table.set_column(1, "p0", pa.array([math.nan, *table["p0"].to_pylist()[1:]])),
        "gave 2 NaN or infinite predictions for 120 rows",
    ),
    "null": (
        lambda table: table.set_column(1, "p0", pa.array([None, *table["p0"].to_pylist()[1:]], pa.float64())),
        "file 1 of 2 has 1 nulls among 60 rows",
    ),
    "text": (
        lambda table: table.set_column(1, "p0", pc.cast(table["p0"], pa.string())),
        "file 1 of 2 has the columns __key__: string, p0: string; a version of this loop gives __key__: string, "
        "p0: double",
    ),
    "several numbers": (
        lambda table: table.append_column("p1", table["p0"]),
        "file 1 of 2 has the columns __key__: string, p0: double, p1: double; a version",
    ),
}


def damaged(damage: Damage) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """Return a change of the files of predictions by a change of their tables."""

    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        changed = {}
        for name, content in files.items():
            sink = io.BytesIO()
            pq.write_table(damage(pq.read_table(io.BytesIO(content))), sink)
            changed[name] = sink.getvalue()
        return changed

    return change


@pytest.mark.parametrize("damage", DAMAGES)
def test_predictions_that_are_not_whole_are_refused_in_words_and_the_next_task_starts_another_job(
    sagemaker: TransformsDouble, workspace: Workspace, damage: str
) -> None:
    change, words = DAMAGES[damage]
    sagemaker.change_output = damaged(change)
    with pytest.raises(TransformError, match=NAMED) as caught:
        score_partition(workspace, week(3), on_sagemaker(workspace, rows_per_file=60))
    assert words in str(caught.value)
    assert week(3) not in workspace.state().scored
    sagemaker.change_output = dict
    assert score_partition(workspace, week(3), on_sagemaker(workspace, rows_per_file=60)).rows == 120
    assert len(sagemaker.transforms) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda files: dict(list(files.items())[1:]),
            "has completed without predictions of file 1 of 2: there is no s3",
        ),
        (lambda files: {name: content[:-30] for name, content in files.items()}, "is no Parquet file of predictions"),
    ],
    ids=["missing", "cut"],
)
def test_a_file_of_predictions_that_is_missing_or_cut_is_refused(
    sagemaker: TransformsDouble, workspace: Workspace, change: Any, words: str
) -> None:
    sagemaker.change_output = change
    with pytest.raises(TransformError, match=words):
        score_partition(workspace, week(3), on_sagemaker(workspace, rows_per_file=60))
    assert week(3) not in workspace.state().scored


def test_a_person_who_ends_the_waiting_task_stops_its_jobs_and_the_partition_stays_without_predictions(
    sagemaker: TransformsDouble, workspace: Workspace
) -> None:
    sagemaker._may_run.clear()
    with pytest.raises(TransformUnderWayError) as under_way:
        score_partition(workspace, week(3), on_sagemaker(workspace, wait=False))
    jobs = under_way.value.jobs
    declared = TransformJobsTrigger(job_names=list(jobs), poll_seconds=0.05, aws_conn_id="aws_here")
    path, arguments = declared.serialize()
    trigger = import_string(path)(**arguments)

    async def end_while_it_waits() -> Any:
        waiting = asyncio.create_task(anext(trigger.run()))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await trigger.on_kill()
        await trigger.on_kill()  # what has ended is not stopped again
        return await waiting

    assert asyncio.run(end_while_it_waits()).payload == {"statuses": ["Stopped"]}
    assert sagemaker.count("StopTransformJob") == 1
    with pytest.raises(TransformError, match="is stopped: SageMaker gives no reason; clear the task"):
        score_partition(workspace, week(3), on_sagemaker(workspace, wait=False, waited=jobs))
    sagemaker.release()
    assert score_partition(workspace, week(3), on_sagemaker(workspace)).rows == 120


def test_a_task_that_is_killed_stops_its_job(sagemaker: TransformsDouble, workspace: Workspace) -> None:
    sagemaker._may_run.clear()
    runner = on_sagemaker(workspace)
    thread, out = run_in_background(lambda: score_partition(workspace, week(3), runner))
    wait_for(lambda: sagemaker.transforms)
    wait_for(lambda: sagemaker.count("DescribeTransformJob") > 2)
    runner.stop()
    thread.join()
    assert isinstance(out[0], TransformPlaceError)
    assert [job["TransformJobStatus"] for job in sagemaker.transforms.values()] == ["Stopped"]


def test_neither_a_label_nor_a_secret_nor_a_path_of_the_worker_is_sent(
    sagemaker: TransformsDouble, workspace: Workspace, object_store: S3FileSystem
) -> None:
    sagemaker._may_run.clear()
    with pytest.raises(TransformUnderWayError):
        score_partition(workspace, week(3), on_sagemaker(workspace, wait=False))
    (name,) = sagemaker.transforms
    (info,) = object_store.get_file_info(FileSelector(f"company/fits/scores/{name}/input"))
    with object_store.open_input_file(info.path) as file:
        sent = pq.read_table(file)
    assert set(sent.column_names) == {"x", "kind", "__key__"}
    text = json.dumps([sagemaker.transforms, sagemaker.models])
    assert "hunter2" not in text
    assert str(workspace.root) not in text
    (model,) = sagemaker.models.values()
    assert model["EnableNetworkIsolation"] is True


def test_a_file_that_sagemaker_would_not_send_is_refused_before_the_job(
    sagemaker: TransformsDouble, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mlops.hooks.sagemaker_transform.LARGEST_FILE_MB", 0)
    with pytest.raises(TransformError, match=r"sends at most 0 MB at once; lower score\.runs_on\.rows_per_file"):
        score_partition(workspace, week(3), on_sagemaker(workspace))
    assert sagemaker.transforms == {}


def test_without_airflow_the_declared_jobs_cannot_be_reached(workspace: Workspace) -> None:
    with pytest.raises(DeclarationError, match=r"score\.runs_on\.kind.*reached through a connection of Airflow"):
        score_partition(workspace, week(3))


def test_moto_takes_the_same_calls(
    object_store: S3FileSystem, object_store_url: str, connect: Callable[[str], None], workspace: Workspace
) -> None:
    object_store.create_dir("company")
    connect(object_store_url)
    runner = on_sagemaker(workspace)
    # moto calls every job completed at once, and runs nothing: there is a job, and no prediction.
    with pytest.raises(TransformError, match="has completed without predictions of file 1 of 1"):
        score_partition(workspace, week(3), runner)
    (name,) = runner._names.values()
    job: Any = runner._find_job(name)
    assert (job["TransformJobStatus"], job["MaxPayloadInMB"]) == ("Completed", 100)
    assert runner.jobs.describe_model(ModelName=job["ModelName"])["ExecutionRoleArn"] == RUNS_ON["role"]
    assert runner._find_job("mlops-another") is None
