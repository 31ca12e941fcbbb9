"""Every place where a candidate can be fitted gives the same model file for the same request, and the same reasons."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from airflow_mlops.core.errors import FitStoppedError, TrainingError
from airflow_mlops.core.registry.model_file import file_digest, load_model
from airflow_mlops.core.training.child_process import session_of
from airflow_mlops.core.training.child_step import ChildStep
from airflow_mlops.core.training.declared_training import FitLimits, OnSageMaker
from airflow_mlops.core.training.fit_request import FitRequest
from airflow_mlops.core.training.fit_rows import FitRows
from airflow_mlops.core.training.in_process_step import InProcessStep
from airflow_mlops.core.training.port import StepRunner
from airflow_mlops.testing.sagemaker_double import SageMakerDouble

RUNNERS = ["in_process", "child", "interpreter", "sagemaker"]
OTHERS = RUNNERS[1:]
TRAINING = '''
import os, sys, time
from pathlib import Path

import numpy as np
from scipy.stats import loguniform
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def of(model, *columns):
    place = ("place", OneHotEncoder(), ["place"])
    return make_pipeline(ColumnTransformer([("numbers", "passthrough", list(columns) or ["x"]), place]), model)


class Hanging(Ridge):
    def fit(self, X, y, sample_weight=None):
        print("fitting for ever", flush=True)
        Path(os.environ.get("TMPDIR", "/tmp"), "started-" + Path(__file__).parent.name).write_text("x")
        while True:
            time.sleep(0.05)


class Greedy(Ridge):
    def fit(self, X, y, sample_weight=None):
        kept = []
        while True:
            kept.append(np.ones(2_000_000))
            time.sleep(0.01)


class Telling(Ridge):
    """Leaves what it sees of its surroundings beside this file."""
    def fit(self, X, y, sample_weight=None):
        seen = {"environ": dict(os.environ), "argv": sys.orig_argv, "modules": sorted(sys.modules)}
        __import__("json").dump(seen, open(Path(__file__).with_name("seen.json"), "w"))
        print("told", flush=True)
        return super().fit(X, y)


class Unfitted(Ridge):
    def fit(self, X, y, sample_weight=None):
        return Ridge()


def candidates(seed):
    return {
        "line": of(Ridge()),
        "unseeded": of(RandomForestRegressor(3)),
        "searched": (of(Ridge()), {"ridge__alpha": loguniform(1e-3, 1e3)}),
        "label": of(Ridge(), "x", "y"),
        "hanging": Hanging(),
        "greedy": Greedy(),
        "telling": of(Telling()),
        "unfitted": of(Unfitted()),
        "exits": of(Exits()),
    }


class Exits(Ridge):
    def fit(self, X, y, sample_weight=None):
        os._exit(7)
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project folder with a training function, in a package that no other test has."""
    root = tmp_path_factory.mktemp("project")
    package = root / f"train_{root.name.replace('-', '_')}_{os.getpid()}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "training.py").write_text(TRAINING)
    return root


@pytest.fixture
def ask(project: Path, tmp_path: Path) -> Callable[..., FitRequest]:
    """Return what makes a request for a candidate."""
    (package,) = [path.name for path in project.iterdir() if path.name.startswith("train_")]

    def request(candidate: str, **changes: Any) -> FitRequest:
        fields: dict[str, Any] = {
            "model": "toy", "operation": "0123456789abcdef", "candidate": candidate, "attempt": tmp_path.name,
            "function": f"{package}.training:candidates", "seed": 3, "classifies": False,
            "label": "y", "window": ({"partition": "p", "version": 0, "digest": "d"},),
            "search": {"candidates": 9, "factor": 3, "validation": 20, "metric": "mae"},
            "file": str(tmp_path / "out" / "model.skops"), "root": str(project),
        }  # fmt: skip
        return FitRequest(**{**fields, **changes})

    return request


@pytest.fixture(scope="module")
def rows() -> FitRows:
    source = np.random.default_rng(1)
    x = source.normal(size=600)
    place = source.choice(["a", "b", "c"], 600)
    return FitRows(pd.DataFrame({"x": x, "place": place}), 2 * x + source.normal(size=600), np.arange(600) // 10)


@pytest.fixture(scope="session")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment of its own, which finds the packages of this one, and no Airflow."""
    folder = tmp_path_factory.mktemp("model-env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    theirs = sysconfig.get_paths()["purelib"]
    (site / "borrowed.pth").write_text(f"{theirs}\n")
    # A module that is not found in the first folder is found in none.
    for name in ("airflow", "mlflow"):
        (site / f"{name}.py").write_text(f"raise ImportError('{name} is not for a fit')\n")
    return folder / "bin" / "python"


STORAGE = "s3://company/models"


def place(**changes: Any) -> OnSageMaker:
    fields = {
        "kind": "sagemaker", "image": "step:1", "role": "arn:aws:iam::123456789012:role/fits", "storage": STORAGE,
        "connection": "aws_here",
    }  # fmt: skip
    return OnSageMaker(**{**fields, **changes})


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, object_store_url: str) -> Callable[[str], None]:
    """Return what lets Airflow know a SageMaker at an address, with the S3 of this session."""

    def known(sagemaker: str) -> None:
        services = {"s3": {"endpoint_url": object_store_url}, "sagemaker": {"endpoint_url": sagemaker}}
        connection = {
            "conn_type": "aws", "login": "key", "password": "hunter2",
            "extra": {"region_name": "us-east-1", "service_config": services},
        }  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_AWS_HERE", json.dumps(connection))

    return known


@pytest.fixture
def sagemaker(
    object_store: S3FileSystem, object_store_url: str, connect: Callable[[str], None]
) -> Iterator[SageMakerDouble]:
    object_store.create_dir("company")
    with SageMakerDouble(s3_endpoint=object_store_url, secret="hunter2") as double:
        connect(double.url)
        yield double


def on_sagemaker(limits: FitLimits | None = None) -> StepRunner:
    from airflow_mlops.hooks.sagemaker_step import SageMakerStep

    return SageMakerStep(place(), limits or FitLimits(), poll_seconds=0.05)


@pytest.fixture
def runner(request: pytest.FixtureRequest) -> StepRunner:
    if request.param == "in_process":
        return InProcessStep()
    if request.param == "child":
        return ChildStep(limits=FitLimits(minutes=2.0, memory_mb=3000))
    if request.param == "interpreter":
        return ChildStep(python=request.getfixturevalue("other_python"))
    request.getfixturevalue("sagemaker")
    return on_sagemaker()


@pytest.mark.parametrize("runner", OTHERS, indirect=True)
@pytest.mark.parametrize("candidate", ["line", "searched"])
def test_the_same_request_gives_the_same_model_file_everywhere(
    runner: StepRunner, ask: Any, rows: FitRows, candidate: str, tmp_path: Path
) -> None:
    here = InProcessStep().fit(ask(candidate, file=str(tmp_path / "here" / "model.skops")), rows)
    request = ask(candidate)
    there = runner.fit(request, rows)
    assert there.digest == here.digest == file_digest(Path(request.file))
    assert (there.best_params, there.search, there.rows, there.seed) == (here.best_params, here.search, 600, 3)
    assert there.environment == here.environment
    assert load_model(Path(request.file), there.digest).predict(rows.features).shape == (600,)
    # Of the rows nothing is left beside the model.
    assert [path.name for path in Path(request.file).parent.iterdir()] == ["model.skops"]


@pytest.mark.parametrize("runner", ["child"], indirect=True)
def test_an_estimator_without_a_seed_of_its_own_is_the_same_model_everywhere(
    runner: StepRunner, ask: Any, rows: FitRows, tmp_path: Path
) -> None:
    here = InProcessStep().fit(ask("unseeded", file=str(tmp_path / "here" / "model.skops")), rows)
    assert runner.fit(ask("unseeded"), rows).digest == here.digest


@pytest.mark.parametrize("runner", RUNNERS, indirect=True)
@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        ("label", ["candidate 'label' raised ValueError in fit", "the label 'y' is not given to models"]),
        ("unfitted", ["candidate 'unfitted' is not fitted after fit"]),
        ("absent", ["gives no candidate 'absent'; it gives line, unseeded"]),
    ],
)
def test_the_reason_is_the_same_everywhere(
    runner: StepRunner, ask: Any, rows: FitRows, candidate: str, words: list[str]
) -> None:
    with pytest.raises(TrainingError) as caught:
        runner.fit(ask(candidate), rows)
    for word in words:
        assert word in str(caught.value)
    assert not Path(ask(candidate).file).exists()


# --- a process of its own ---------------------------------------------------------------------------------------


@pytest.fixture
def started(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that the candidate ``hanging`` writes when its fit has begun."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (package,) = [path.name for path in project.iterdir() if path.name.startswith("train_")]
    return tmp_path / f"started-{package}"


def wait_for(what: Callable[[], Any], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_a_fit_that_hangs_is_killed_at_its_limit_and_its_lines_are_in_the_log(
    ask: Any, rows: FitRows, started: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = ChildStep(limits=FitLimits(minutes=0.1))
    caplog.set_level("INFO")
    with pytest.raises(
        TrainingError,
        match=r"'hanging' took longer than 0\.1 minutes \(train\.limits\.minutes\); it was killed after 6\.\d s",
    ):
        runner.fit(ask("hanging"), rows)
    assert "fitting for ever" in caplog.messages
    assert list(Path(ask("hanging").file).parent.iterdir()) == []


def test_a_fit_that_takes_too_much_memory_is_killed_with_the_limit_and_the_value_seen(ask: Any, rows: FitRows) -> None:
    runner = ChildStep(limits=FitLimits(memory_mb=512))
    with pytest.raises(TrainingError) as caught:
        runner.fit(ask("greedy"), rows)
    said = str(caught.value)
    assert "candidate 'greedy' used more than 512 MB of memory (train.limits.memory_mb); it was killed at " in said
    assert 512 < float(said.rsplit(" ", 2)[1].replace(",", "")) < 1200


def test_one_allocation_far_beyond_the_limit_fails_before_anybody_looks(ask: Any, rows: FitRows, project: Path) -> None:
    name = f"huge_{os.getpid()}"
    (project / f"{name}.py").write_text(
        "import numpy as np\nfrom sklearn.linear_model import Ridge\n\n"
        "class Huge(Ridge):\n    def fit(self, X, y, sample_weight=None):\n        np.ones(8_000_000_000)\n\n"
        "def candidates(seed):\n    return Huge()\n"
    )
    runner = ChildStep(limits=FitLimits(memory_mb=512))
    with pytest.raises(TrainingError, match=r"used more than 512 MB of memory .*Unable to allocate"):
        runner.fit(ask("model", function=f"{name}:candidates"), rows)


def test_stopping_kills_the_fit_and_all_it_started_and_is_no_verdict_on_the_model(
    ask: Any, rows: FitRows, started: Path
) -> None:
    runner = ChildStep(limits=FitLimits(minutes=5.0))
    seen: list[int] = []

    def stop_it() -> None:
        wait_for(started.exists)
        assert runner._child is not None
        seen.extend(session_of(runner._child.process.pid))
        runner.stop()

    stopping = threading.Thread(target=stop_it)
    stopping.start()
    with pytest.raises(FitStoppedError, match="the fit was stopped after"):
        runner.fit(ask("hanging"), rows)
    stopping.join()
    assert seen
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_fit_whose_task_is_killed_ends_with_it(
    ask: Any, rows: FitRows, started: Path, tmp_path: Path, number: signal.Signals
) -> None:
    rows.write(tmp_path / "rows.parquet")
    # Airflow calls on_kill, which calls stop, out of the handler of SIGTERM; nothing is called before SIGKILL.
    code = (
        "import json, signal, sys\nfrom airflow_mlops.core.training.child_step import *\n"
        "request, runner = FitRequest.from_dict(json.loads(sys.argv[1])), ChildStep(limits=FitLimits(minutes=5.0))\n"
        "signal.signal(signal.SIGTERM, lambda *_: runner.stop())\n"
        "runner.fit(request, FitRows.read(Path(sys.argv[2])))\n"
    )
    asked = json.dumps(ask("hanging").to_dict())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    worker = subprocess.Popen(
        [sys.executable, "-c", code, asked, str(tmp_path / "rows.parquet")], env=environment, stderr=subprocess.PIPE
    )
    wait_for(started.exists)
    fits = [pid for pid, words in processes() if "step.py" in words and child_of(pid, worker.pid)]
    assert fits
    worker.send_signal(number)
    _, said = worker.communicate(timeout=30)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in fits))
    assert (b"FitStoppedError" in said) == (number == signal.SIGTERM)
    # The next try removes the rows that a killed worker could not.
    folder = Path(ask("line").file).parent
    assert bool(list(folder.glob("rows-*"))) == (number == signal.SIGKILL)
    ChildStep(limits=FitLimits(minutes=1.0)).fit(ask("line"), rows)
    assert [path.name for path in folder.iterdir()] == ["model.skops"]


def test_a_step_can_be_run_by_hand_with_the_request_on_standard_input(ask: Any, rows: FitRows, tmp_path: Path) -> None:
    rows.write(tmp_path / "rows.parquet")
    request = ask("line", rows=str(tmp_path / "rows.parquet"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-m", "airflow_mlops.step", "fit"], input=json.dumps(request.to_dict()).encode(),
        env=environment, capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(ended.stdout)["result"]["digest"] == file_digest(Path(request.file))


def processes() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / "cmdline").read_text()
        except OSError:
            continue


def child_of(pid: int, parent: int) -> bool:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == parent


def test_a_fit_sees_no_secret_and_neither_airflow_nor_mlflow(
    ask: Any, rows: FitRows, project: Path, other_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AIRFLOW_CONN_MLOPS_LEDGER",
        "AIRFLOW__CORE__FERNET_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_TRACKING_PASSWORD",
    ):
        monkeypatch.setenv(name, "hunter2")
    with pytest.raises(TrainingError, match="types that are not trusted"):
        ChildStep(python=other_python).fit(ask("telling"), rows)
    (file,) = project.glob("train_*/seen.json")
    seen = json.loads(file.read_text())
    assert "hunter2" not in json.dumps([seen["environ"], seen["argv"]])
    assert not [name for name in seen["environ"] if name.startswith(("AIRFLOW", "AWS", "MLFLOW"))]
    assert not {"airflow", "mlflow"} & set(seen["modules"])
    assert seen["argv"][-2:] == ["fit", "--attended"]


def test_a_process_that_dies_without_an_answer_is_told_by_its_exit(ask: Any, rows: FitRows) -> None:
    with pytest.raises(TrainingError, match=r"'exits': .* ended with exit code 7 and gave no model"):
        ChildStep(limits=FitLimits(minutes=1.0)).fit(ask("exits"), rows)


# --- another interpreter ----------------------------------------------------------------------------------------


def test_an_interpreter_that_is_not_there_is_named(ask: Any, rows: FitRows, tmp_path: Path) -> None:
    missing = tmp_path / "envs" / "model" / "bin" / "python"
    with pytest.raises(TrainingError, match=rf"interpreter {missing} cannot be started: No such file"):
        ChildStep(python=missing).fit(ask("line"), rows)


def test_an_interpreter_without_the_packages_says_which_is_missing(
    ask: Any, rows: FitRows, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("empty-env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    with pytest.raises(
        TrainingError, match=r"cannot fit: package '\w+' is missing there; install requirements-step\.lock"
    ):
        ChildStep(python=folder / "bin" / "python").fit(ask("line"), rows)


def test_an_interpreter_that_is_too_old_is_refused_with_its_version(ask: Any, rows: FitRows, tmp_path: Path) -> None:
    old = tmp_path / "python"
    code = (
        "import sys, runpy; sys.version_info = (3, 9, 18); sys.argv[:] = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    old.chmod(0o755)
    with pytest.raises(TrainingError, match=r"cannot fit: it is Python 3\.9, and 3\.11 or newer is needed"):
        ChildStep(python=old).fit(ask("line"), rows)


# --- SageMaker --------------------------------------------------------------------------------------------------


def in_background(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run something in a thread; what it returns or raises is in the list afterwards."""
    out: list[Any] = []

    def run() -> None:
        try:
            out.append(work())
        except Exception as error:
            out.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, out


def test_a_second_try_adopts_the_job_of_the_first_while_it_runs_and_when_it_has_ended(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows, object_store: S3FileSystem
) -> None:
    sagemaker._may_run.clear()
    request = ask("line")
    tries = [in_background(lambda: on_sagemaker().fit(request, rows))]
    wait_for(lambda: sagemaker.count("CreateTrainingJob") == 1)
    tries.append(in_background(lambda: on_sagemaker().fit(request, rows)))
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


def test_a_task_that_is_killed_stops_the_job_and_the_next_try_says_that_it_was_stopped(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    runner = on_sagemaker()
    thread, out = in_background(lambda: runner.fit(ask("hanging"), rows))
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
        said = json.dumps(job) + file.read().decode()
    assert "hunter2" not in said
    assert str(project) not in said
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
    job = runner._described(runner._name)
    assert (job["TrainingJobStatus"], job["RoleArn"]) == ("Completed", place().role)
    assert runner._described("mlops-another") is None
