"""A loop whose candidates are fitted by another interpreter, and then by SageMaker, closes like any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.hooks.workspace import WorkspaceHook
from airflow_mlops.testing.sagemaker_double import SageMakerDouble
from tests.loop.aws_account import simulated_account
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, REGRESSION, Project, make_project, states, why

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

TRAINING = """
import sys

from scipy.stats import loguniform
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline


def of(model):
    return make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), model)


def candidates(seed):
    print("candidates are made by", sys.executable)
    return {"linear": of(LinearRegression()), "ridge": (of(Ridge()), {"ridge__alpha": loguniform(1e2, 1e6)})}
"""

HANGING = """
import time
from pathlib import Path

from sklearn.linear_model import LinearRegression


def hang(X, y):
    Path(__file__).with_name("started").write_text("x")
    while True:
        time.sleep(0.05)


def candidates(seed):
    model = LinearRegression()
    model.fit = hang
    return model
"""


@pytest.fixture
def environment_of_its_own(tmp_path: Path) -> str:
    """Return the path, in the project, of a Python that has the packages of this one."""
    folder = tmp_path / "envs" / "model"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    return "envs/model/bin/python"


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerDouble]:
    """A SageMaker, and an S3 with an empty bucket, which Airflow knows as ``aws_models``."""
    with simulated_account(monkeypatch) as double:
        yield double


def declare(project: Project, runs_on: dict[str, Any]) -> None:
    """Declare another place for the fits."""
    project.fields["train"] = project.fields["train"] | {"runs_on": runs_on, "search": {"candidates": 5}}
    (project.root / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))


def test_a_loop_closes_by_another_interpreter_and_then_by_sagemaker(
    tmp_path: Path,
    start_scheduler: SchedulerFactory,
    environment_of_its_own: str,
    sagemaker: SageMakerDouble,
    caplog: pytest.LogCaptureFixture,
) -> None:
    project = make_project(tmp_path, training=TRAINING)
    declare(project, {"kind": "interpreter", "python": environment_of_its_own})
    scheduler = start_scheduler(project.dags)
    caplog.set_level("INFO")
    project.first_champion(scheduler, KEYS[:2])
    # What the function prints in its own process is in the log of the task.
    assert f"candidates are made by {tmp_path / environment_of_its_own}" in caplog.text
    first = project.details_of("candidate_registered", KEYS[1])

    declare(
        project,
        {
            "kind": "sagemaker",
            "image": "step:1",
            "role": "arn:aws:iam::123456789012:role/fits",
            "storage": "s3://company/fits",
            "connection": "aws_models",
            "instance_type": ["ml.m5.xlarge", "ml.c5.2xlarge"],
        },
    )
    scheduler.sync()
    sagemaker.faults.append("CapacityError: Unable to provision requested ML compute capacity.")
    deferred = 0
    for key in KEYS[2:4]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
        while scheduler.run_triggers():  # no worker waits for a job
            deferred += 1
            scheduler.run_until_idle()
    champion = project.workspace.state().champion
    assert champion is not None
    assert champion.number == "2", scheduler.failures()
    assert deferred
    # One job for each candidate of each training but the first, and one more where there was no machine.
    ended = [(job["TrainingJobStatus"], job["ResourceConfig"]["InstanceType"]) for job in sagemaker.jobs.values()]
    fits = 2 * (len(scheduler.dag_runs(project.dag("train"))) - 1)
    assert Counter(ended) == {
        ("Failed", "ml.m5.xlarge"): 1,
        ("Completed", "ml.c5.2xlarge"): 1,
        ("Completed", "ml.m5.xlarge"): fits - 1,
    }
    assert set(states(scheduler, project.dag("train")).values()) == {"success"}

    # The evidence says what was tried, and by what; the ledger and the XComs hold no secret.
    second = project.details_of("candidate_registered", champion.partition)
    for registered in (first, second):
        report = project.workspace.evidence.get(registered.report)
        candidates = {candidate["candidate"]: candidate for candidate in report["candidates"]}
        assert candidates["ridge"]["search"]["tried"] == 5
        assert 1e2 <= candidates["ridge"]["best_params"]["ridge__alpha"] <= 1e6
        assert candidates["linear"]["environment"]["python"] == sys.version.split()[0]
    assert "hunter2" not in json.dumps([record.stored for record in project.records])
    assert_invariants(project.workspace)

    # Made again where it was made, by a job of its own, it is the same model.
    workspace = WorkspaceHook().workspace(project.workspace.loop, root=project.root, actor="test")
    jobs = len(sagemaker.jobs)
    assert reproduce_version(workspace, champion.number).verdict == "identical"
    assert len(sagemaker.jobs) == jobs + 1


def test_a_task_that_airflow_kills_takes_its_fit_along_and_leaves_the_decision_open(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    project.fields["train"] = project.fields["train"] | {"limits": {"minutes": 5.0}}
    (project.root / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    project.write_training(HANGING)
    project.put(KEYS[2], level=6.0)
    killing = threading.Thread(target=terminate_once_there_is, args=(tmp_path / f"train_{project.model}" / "started",))
    handler = signal.getsignal(signal.SIGTERM)
    processes = set(psutil.Process().children(recursive=True))  # those of other tests stay: a pool's resource tracker
    killing.start()
    try:
        project.ingest(scheduler, KEYS[2])  # the task runs in this process, and Airflow handles its SIGTERM
    finally:
        signal.signal(signal.SIGTERM, handler)
        killing.join()
    assert states(scheduler, project.dag("train"))["fit"] == "failed"
    assert "FitStoppedError: candidate 'model': the fit was stopped after" in why(scheduler, "fit")
    assert not set(psutil.Process().children(recursive=True)) - processes
    assert not list(project.workspace.scratch.rglob("rows*"))

    # That says nothing about the model: the decision stands, and the run that is started again takes it up.
    assert not project.of_kind("training_failed")
    assert project.workspace.state().open_decision is not None
    project.write_training(REGRESSION)
    scheduler.trigger(project.dag("train"), partition_key=KEYS[2])
    scheduler.run_until_idle()
    assert project.of_kind("candidate_refused", "candidate_registered")[-1].partition == KEYS[2]
    assert project.workspace.state().open_decision is None
    assert_invariants(project.workspace)


def terminate_once_there_is(file: Path) -> None:
    """Send SIGTERM to this process once a file is there."""
    until = time.monotonic() + 60
    while not file.exists():
        if time.monotonic() > until:
            return
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
