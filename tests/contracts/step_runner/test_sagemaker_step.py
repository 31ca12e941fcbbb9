"""A job of SageMaker is adopted and never started twice, stopped with its task, and sent no secret."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from pyarrow.fs import FileSelector, S3FileSystem

from airflow_mlops.core.declaration.train import FitLimits
from airflow_mlops.core.errors import FitPlaceError, FitStoppedError, FitUnderWayError, TrainingError
from airflow_mlops.core.ports.fit_rows import FitRows, UnreadRows
from airflow_mlops.testing.sagemaker_double import SageMakerDouble
from airflow_mlops.triggers.training_job import TrainingJobTrigger
from tests.contracts.step_runner.fits import on_sagemaker, place, run_in_background, wait_for


def test_a_second_try_adopts_the_job_of_the_first_while_it_runs_and_when_it_has_ended(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows, object_store: S3FileSystem
) -> None:
    sagemaker._may_run.clear()
    request = ask("line")
    tries = [run_in_background(lambda: on_sagemaker().fit(request, rows))]
    wait_for(lambda: sagemaker.count("CreateTrainingJob") == 1)
    tries.append(run_in_background(lambda: on_sagemaker().fit(request, rows)))
    wait_for(lambda: sagemaker.count("DescribeTrainingJob") > 4)
    sagemaker.release()
    for thread, _ in tries:
        thread.join()
    third = on_sagemaker().fit(request, rows)
    assert [out[0].digest for _, out in tries] == [third.digest] * 2
    assert sagemaker.count("CreateTrainingJob") == 1
    (name,) = sagemaker.jobs
    assert len(name) <= 63
    # Rows of people do not stay behind; what the job was asked and what it ran do.
    kept = object_store.get_file_info(FileSelector(f"company/models/{name}/input"))
    assert sorted(info.base_name for info in kept) == ["code.zip", "request.json"]


def test_a_failed_job_is_adopted_too_and_its_reason_is_told_again(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    for _ in range(2):
        with pytest.raises(
            TrainingError,
            match=r"SageMaker job mlops-toy-label-\w+ failed: AlgorithmError: .*the label 'y' is not given",
        ):
            on_sagemaker().fit(ask("label"), rows)
    assert sagemaker.count("CreateTrainingJob") == 1


@pytest.mark.parametrize(
    "reason",
    [
        "InternalServerError: We encountered an internal error.  Please try again.",
        "CapacityError: Unable to provision requested ML compute capacity.",
        "InsufficientCapacityError: there is no ml.m5.xlarge",
    ],
)
def test_a_job_that_sagemaker_itself_failed_is_no_answer_and_the_next_try_starts_another(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows, reason: str
) -> None:
    sagemaker.faults += [reason, reason]
    for _ in range(2):
        with pytest.raises(FitPlaceError, match=r"failed: .*; a retry starts another job") as raised:
            on_sagemaker().fit(ask("line"), rows)
        assert raised.value.retryable
    fitted = on_sagemaker().fit(ask("line"), rows)
    assert on_sagemaker().fit(ask("line"), rows).digest == fitted.digest
    assert sagemaker.count("CreateTrainingJob") == 3
    assert len({name for call, name in sagemaker.calls if call == "CreateTrainingJob"}) == 3


def test_a_start_that_is_refused_for_now_is_tried_again_under_the_same_name(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    sagemaker.refusals += ["ResourceLimitExceeded"]
    with pytest.raises(FitPlaceError, match="does not start job mlops-toy-line-"):
        on_sagemaker().fit(ask("line"), rows)
    on_sagemaker().fit(ask("line"), rows)
    assert len({name for call, name in sagemaker.calls if call == "CreateTrainingJob"}) == 1


TWO_TYPES = ("ml.m5.xlarge", "ml.c5.2xlarge")


def types_of(sagemaker: SageMakerDouble) -> list[str]:
    """Return the type of instance of each job, in the order of their starts."""
    return [job["ResourceConfig"]["InstanceType"] for job in sagemaker.jobs.values()]


def test_where_there_is_no_machine_the_next_declared_type_is_tried_and_after_all_of_them_the_task_fails(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows, object_store: S3FileSystem
) -> None:
    none = "CapacityError: Unable to provision requested ML compute capacity."
    sagemaker.faults += [none] * 3
    with pytest.raises(FitPlaceError, match=r"CapacityError.*; a retry starts another job"):
        on_sagemaker(instance_type=TWO_TYPES).fit(ask("line"), rows)
    assert types_of(sagemaker) == list(TWO_TYPES)
    # A retry begins with the first type again.
    on_sagemaker(instance_type=TWO_TYPES).fit(ask("line"), rows)
    assert types_of(sagemaker) == [*TWO_TYPES, *TWO_TYPES]
    kept = object_store.get_file_info(FileSelector("company/models", recursive=True))
    names = {info.path.split("/")[2] for info in kept} & sagemaker.jobs.keys()
    assert len(names) == 4
    assert "rows.parquet" not in {info.base_name for info in kept if info.path.split("/")[2] in names}


def test_a_type_that_the_account_may_not_start_is_passed_over_under_the_same_name(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    sagemaker.refusals += ["ResourceLimitExceeded"]
    on_sagemaker(instance_type=TWO_TYPES).fit(ask("line"), rows)
    assert types_of(sagemaker) == [TWO_TYPES[1]]
    assert len({name for call, name in sagemaker.calls if call == "CreateTrainingJob"}) == 1


THREE_TYPES = (*TWO_TYPES, "ml.c5.4xlarge")


def test_a_type_that_was_passed_over_at_a_start_is_not_asked_for_again_and_a_later_one_is(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    sagemaker.refusals += ["ResourceLimitExceeded"]
    sagemaker.faults += ["CapacityError: none"]
    on_sagemaker(instance_type=THREE_TYPES).fit(ask("line"), rows)
    assert types_of(sagemaker) == list(THREE_TYPES[1:])
    assert sagemaker.count("CreateTrainingJob") == 3


def test_a_task_that_goes_on_remembers_by_the_job_alone_which_types_were_passed_over(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows, object_store: S3FileSystem
) -> None:
    sagemaker.refusals += ["ResourceLimitExceeded"]
    sagemaker.faults += ["CapacityError: none"] * 2
    first = None
    for started in (1, 2):
        sagemaker._may_run.clear()
        with pytest.raises(FitUnderWayError) as under_way:
            on_sagemaker(wait=False, first=first, instance_type=THREE_TYPES).fit(ask("line"), rows)
        first = under_way.value.first
        assert len(sagemaker.jobs) == started
        sagemaker.release()
        wait_for(lambda: sagemaker.jobs[under_way.value.job]["TrainingJobStatus"] == "Failed")
    with pytest.raises(FitPlaceError, match=r"failed: CapacityError: none; a retry starts another job"):
        on_sagemaker(wait=False, first=first, instance_type=THREE_TYPES).fit(ask("line"), rows)
    assert types_of(sagemaker) == list(THREE_TYPES[1:])
    # The rows of a job that failed while nobody waited do not stay behind either.
    kept = {
        info.base_name
        for name in sagemaker.jobs
        for info in object_store.get_file_info(FileSelector(f"company/models/{name}/input"))
    }
    assert kept == {"code.zip", "request.json"}


def test_the_rows_are_read_for_the_start_of_a_job_and_not_again_to_adopt_it(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    reads = []

    def read() -> FitRows:
        reads.append("whole window")
        return rows

    sagemaker._may_run.clear()
    with pytest.raises(FitUnderWayError) as under_way:
        on_sagemaker(wait=False).fit(ask("line"), UnreadRows(read))
    sagemaker.release()
    wait_for(lambda: sagemaker.jobs[under_way.value.job]["TrainingJobStatus"] == "Completed")
    assert on_sagemaker(wait=False, first=under_way.value.first).fit(ask("line"), UnreadRows(read)).rows == 600
    assert reads == ["whole window"]


def test_another_type_does_not_help_against_a_refusal_of_another_kind(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    sagemaker.refusals += ["InternalFailure"]
    with pytest.raises(FitPlaceError, match="does not start job mlops-toy-line-"):
        on_sagemaker(instance_type=TWO_TYPES).fit(ask("line"), rows)
    assert sagemaker.jobs == {}


def test_a_spot_instance_is_waited_for_so_long_as_declared(sagemaker: SageMakerDouble, ask: Any, rows: FitRows) -> None:
    limits = FitLimits(minutes=60)
    on_sagemaker(limits, spot_wait_minutes=30).fit(ask("line"), rows)
    (job,) = sagemaker.jobs.values()
    assert job["EnableManagedSpotTraining"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 3_600, "MaxWaitTimeInSeconds": 5_400}
    sagemaker.faults += ["MaxWaitTimeExceeded"] * 2
    with pytest.raises(FitPlaceError, match=r"no spot instance for it.*spot_wait_minutes\); a retry"):
        on_sagemaker(limits, spot_wait_minutes=30).fit(ask("line", attempt="another"), rows)
    fitted = on_sagemaker(limits, spot_wait_minutes=30, instance_type=TWO_TYPES).fit(
        ask("line", attempt="another"), rows
    )
    assert fitted.digest
    assert types_of(sagemaker) == [TWO_TYPES[0], TWO_TYPES[0], *TWO_TYPES]


def test_a_runner_that_does_not_wait_says_which_job_and_goes_on_with_it(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    sagemaker._may_run.clear()
    sagemaker.faults += ["CapacityError: none"] * 2
    names = []
    first = None
    for _ in TWO_TYPES:
        sagemaker._may_run.clear()
        with pytest.raises(FitUnderWayError) as under_way:
            on_sagemaker(wait=False, first=first, instance_type=TWO_TYPES).fit(ask("line"), rows)
        names.append(under_way.value.job)
        first = under_way.value.first
        sagemaker.release()
        wait_for(lambda: sagemaker.jobs[names[-1]]["TrainingJobStatus"] == "Failed")
    assert (list(sagemaker.jobs), first) == (names, 1)
    with pytest.raises(FitPlaceError, match=f"{names[-1]} failed: CapacityError: none"):
        on_sagemaker(wait=False, first=first, instance_type=TWO_TYPES).fit(ask("line"), rows)
    assert len(sagemaker.jobs) == 2


def test_a_person_who_ends_the_waiting_task_stops_the_job_and_the_trigger_says_how_it_has_ended(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    sagemaker._may_run.clear()
    with pytest.raises(FitUnderWayError) as under_way:
        on_sagemaker(wait=False).fit(ask("line"), rows)
    declared = TrainingJobTrigger(job_name=under_way.value.job, poll_seconds=0.05, aws_conn_id="aws_here")
    path, arguments = declared.serialize()
    trigger = import_string(path)(**arguments)

    async def end_while_it_waits() -> Any:
        waiting = asyncio.create_task(anext(trigger.run()))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await trigger.on_kill()
        return await waiting

    event = asyncio.run(end_while_it_waits())
    assert event.payload == {"status": "Stopped, Stopped"}
    assert sagemaker.count("StopTrainingJob") == 1
    with pytest.raises(TrainingError, match="is stopped; it is not started again"):
        on_sagemaker(wait=False, first=under_way.value.first).fit(ask("line"), rows)


def test_a_task_that_is_killed_stops_the_job_and_the_next_try_says_that_it_was_stopped(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    runner = on_sagemaker()
    thread, out = run_in_background(lambda: runner.fit(ask("hanging"), rows))
    wait_for(lambda: sagemaker._processes)
    runner.stop()
    thread.join()
    assert isinstance(out[0], FitStoppedError)
    (process,) = sagemaker._processes.values()
    assert process.wait(timeout=10) == -9
    with pytest.raises(TrainingError, match="is stopped; it is not started again"):
        on_sagemaker().fit(ask("hanging"), rows)
    assert (sagemaker.count("CreateTrainingJob"), sagemaker.count("StopTrainingJob")) == (1, 1)


def test_the_limit_of_minutes_is_kept_by_sagemaker(sagemaker: SageMakerDouble, ask: Any, rows: FitRows) -> None:
    with pytest.raises(
        TrainingError, match=r"took longer than 0\.05 minutes \(train\.limits\.minutes\) and was stopped"
    ):
        on_sagemaker(FitLimits(minutes=0.05)).fit(ask("hanging"), rows)


def test_a_new_attempt_at_the_same_request_is_a_new_job(sagemaker: SageMakerDouble, ask: Any, rows: FitRows) -> None:
    digests = {on_sagemaker().fit(ask("line", attempt=attempt), rows).digest for attempt in ("12", "17")}
    assert (len(digests), len(sagemaker.jobs)) == (1, 2)


def test_nothing_that_sagemaker_is_sent_holds_a_secret_or_a_path_of_the_worker(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows, object_store: S3FileSystem, project: Path
) -> None:
    on_sagemaker().fit(ask("line"), rows)
    ((name, job),) = sagemaker.jobs.items()
    with object_store.open_input_stream(f"company/models/{name}/input/request.json") as file:
        text = json.dumps(job) + file.read().decode()
    assert "hunter2" not in text
    assert str(project) not in text
    assert job["EnableNetworkIsolation"] is True


def test_moto_takes_the_same_calls(
    object_store: S3FileSystem, object_store_url: str, connect: Callable[[str], None], ask: Any, rows: FitRows
) -> None:
    object_store.create_dir("company")
    connect(object_store_url)
    runner: Any = on_sagemaker()
    request = ask("line")
    # moto calls every job completed at once, and runs nothing: there is a job, and no model.
    with pytest.raises(Exception, match=r"404|Not Found|NoSuchKey"):
        runner.fit(request, rows)
    job = runner._find_job(runner._name)
    assert (job["TrainingJobStatus"], job["RoleArn"]) == ("Completed", place().role)
    assert runner._find_job("mlops-another") is None
