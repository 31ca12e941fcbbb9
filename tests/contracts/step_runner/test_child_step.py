"""A fit in a process of its own keeps its limits, ends with its task, and sees no secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.train import FitLimits
from airflow_mlops.core.errors import FitStoppedError, TrainingError
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.registry.model_file import file_digest
from airflow_mlops.core.training.child_process import session_of
from airflow_mlops.core.training.child_step import ChildStep
from tests.contracts.step_runner.fits import wait_for


def test_a_fit_that_hangs_is_killed_at_its_limit_and_its_lines_are_in_the_log(
    ask: Any, rows: FitRows, started: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = ChildStep(limits=FitLimits(minutes=0.25))
    caplog.set_level("INFO")
    with pytest.raises(
        TrainingError,
        match=r"'hanging' took longer than 0\.25 minutes \(train\.limits\.minutes\); it was killed after 15\.\d s",
    ):
        runner.fit(ask("hanging"), rows)
    assert "fitting for ever" in caplog.messages
    assert list(Path(ask("hanging").file).parent.iterdir()) == []


def test_a_fit_that_takes_too_much_memory_is_killed_with_the_limit_and_the_value_seen(ask: Any, rows: FitRows) -> None:
    runner = ChildStep(limits=FitLimits(memory_mb=512))
    with pytest.raises(TrainingError) as caught:
        runner.fit(ask("greedy"), rows)
    text = str(caught.value)
    assert "candidate 'greedy' used more than 512 MB of memory (train.limits.memory_mb); it was killed at " in text
    assert 512 < float(text.rsplit(" ", 2)[1].replace(",", "")) < 1200


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
        "from airflow_mlops.core.ports.fit_rows import FitRows\n"
        "request, runner = FitRequest.from_dict(json.loads(sys.argv[1])), ChildStep(limits=FitLimits(minutes=5.0))\n"
        "signal.signal(signal.SIGTERM, lambda *_: runner.stop())\n"
        "runner.fit(request, FitRows.read(Path(sys.argv[2])))\n"
    )
    payload = json.dumps(ask("hanging").to_dict())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    worker = subprocess.Popen(
        [sys.executable, "-c", code, payload, str(tmp_path / "rows.parquet")], env=environment, stderr=subprocess.PIPE
    )
    wait_for(started.exists)
    fits = [pid for pid, words in processes() if "step.py" in words and child_of(pid, worker.pid)]
    assert fits
    worker.send_signal(number)
    _, text = worker.communicate(timeout=30)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in fits))
    assert (b"FitStoppedError" in text) == (number == signal.SIGTERM)
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
        [sys.executable, "-m", "airflow_mlops.step", "fit"],
        input=json.dumps(request.to_dict()).encode(),
        env=environment,
        capture_output=True,
        check=True,
    )
    assert json.loads(ended.stdout)["result"]["digest"] == file_digest(Path(request.file))


def processes() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / "cmdline").read_text()
        except OSError:
            continue


def child_of(pid: int, parent: int) -> bool:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == parent


def test_a_fit_sees_what_arithmetic_needs_but_no_secret_and_neither_airflow_nor_mlflow(
    ask: Any, rows: FitRows, project: Path, other_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AIRFLOW_CONN_MLOPS_LEDGER",
        "AIRFLOW__CORE__FERNET_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_TRACKING_PASSWORD",
    ):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("OPENBLAS_LIKE_THE_WORKER", "1")
    with pytest.raises(TrainingError, match="types that are not trusted"):
        ChildStep(python=other_python).fit(ask("telling"), rows)
    (file,) = project.glob("train_*/seen.json")
    seen = json.loads(file.read_text())
    assert "hunter2" not in json.dumps([seen["environ"], seen["argv"]])
    assert not [name for name in seen["environ"] if name.startswith(("AIRFLOW", "AWS", "MLFLOW"))]
    assert seen["environ"]["OPENBLAS_LIKE_THE_WORKER"] == "1"
    assert not {"airflow", "mlflow"} & set(seen["modules"])
    assert seen["argv"][-2:] == ["fit", "--attended"]


def test_a_process_that_dies_without_an_answer_is_told_by_its_exit(ask: Any, rows: FitRows) -> None:
    with pytest.raises(TrainingError, match=r"'exits': .* ended with exit code 7 and gave no model"):
        ChildStep(limits=FitLimits(minutes=1.0)).fit(ask("exits"), rows)


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
