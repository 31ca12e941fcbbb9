"""Where a candidate is fitted follows from the declaration, and what the code was is kept with the request."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.data.input_schema import InputSchema
from airflow_mlops.core.errors import DeclarationError, TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult, environment
from airflow_mlops.core.ports.fit_rows import FitRows, RowsToFit
from airflow_mlops.core.registry.model_file import save_model
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.child_step import ChildStep
from airflow_mlops.core.training.code_state import code_state
from airflow_mlops.core.training.fit_candidate import candidate_file, fit_candidate, fit_request_of, run_fit, runner_of
from airflow_mlops.core.training.in_process_step import InProcessStep
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week

SAGEMAKER = {
    "kind": "sagemaker",
    "image": "step:1",
    "role": "arn:aws:iam::123456789012:role/fits",
    "storage": "s3://company/m",
}


def loop_of(tmp_path: Path, **train: Any) -> Workspace:
    declared = {"function": "tests.unit.core.toy_loop:candidates", "window": 2, **train}
    frames = {week(number): toy_rows(number) for number in range(4)}
    return in_memory_workspace(toy_loop(train=declared), frames, scratch=tmp_path / "scratch", root=tmp_path)


def decide(workspace: Workspace) -> Workspace:
    for number in range(4):
        ingest(workspace, week(number))
    decide_and_record(workspace, week(3), trigger="nightly")
    return workspace


def test_without_limits_a_fit_stays_in_the_process_and_writes_the_model_alone(tmp_path: Path) -> None:
    workspace = decide(loop_of(tmp_path))
    assert isinstance(runner_of(workspace), InProcessStep)
    request = assemble_training(workspace, week(3))
    fitted = fit_candidate(workspace, request, "line")
    files = [path for path in workspace.scratch.rglob("*") if path.is_file()]
    assert files == [candidate_file(workspace, request.operation, "line")]
    assert set(fitted) == {
        "candidate",
        "digest",
        "fit_seconds",
        "rows",
        "seed",
        "environment",
        "best_params",
        "search",
    }
    assert fitted["environment"]["python"] == sys.version.split()[0]


@pytest.mark.parametrize("limits", [{"minutes": 5.0}, {"memory_mb": 2000}])
def test_with_a_limit_a_fit_has_a_process_of_its_own(tmp_path: Path, limits: dict[str, float]) -> None:
    runner = runner_of(loop_of(tmp_path, limits=limits))
    assert isinstance(runner, ChildStep)
    assert runner.interpreter == sys.executable


def test_a_declared_interpreter_is_looked_for_below_the_project_folder(tmp_path: Path) -> None:
    for python, expected in (("envs/model/bin/python", tmp_path / "envs/model/bin/python"), ("/opt/p", Path("/opt/p"))):
        runner = runner_of(loop_of(tmp_path, runs_on={"kind": "interpreter", "python": python}))
        assert isinstance(runner, ChildStep)
        assert runner.python == expected


def test_sagemaker_is_reached_through_airflow_alone(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="reached through a connection of Airflow"):
        runner_of(loop_of(tmp_path, runs_on=SAGEMAKER))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"runs_on": SAGEMAKER, "limits": {"memory_mb": 900}}, "cannot be kept on SageMaker; choose an instance_type"),
        ({"runs_on": {**SAGEMAKER, "role": "admin"}}, "role"),
        ({"runs_on": {"kind": "interpreter"}}, "python: is required and missing"),
        ({"limits": {"minutes": 0.0}}, "limits.minutes"),
        ({"limits": {"memory_mb": 10}}, "limits.memory_mb"),
        ({"search": {"validation": 100}}, "search.validation"),
    ],
)
def test_a_place_or_a_limit_that_cannot_be_is_refused_by_its_key(tmp_path: Path, train: Any, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        loop_of(tmp_path, **train)


class Elsewhere:
    """A runner that says what a test wants."""

    def __init__(self, **changes: Any) -> None:
        self.changes, self.requests = changes, list[FitRequest]()

    def fit(self, request: FitRequest, rows: RowsToFit) -> FitResult:
        from sklearn.linear_model import LinearRegression

        self.requests.append(request)
        digest = save_model(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), Path(request.file))
        fields: dict[str, Any] = {"digest": digest, "environment": environment(), **self.changes}
        return FitResult(request.candidate, fit_seconds=1.0, rows=len(rows.load().label), seed=request.seed, **fields)

    def stop(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": "0" * 64}, r"the model file is [0-9a-f]{12}, and the fit said 000000000000"),
        (
            {"environment": {**environment(), "scikit-learn": "1.7.2"}},
            r"was fitted by scikit-learn 1\.7\.2, and the workers have .*install the same minor version",
        ),
    ],
)
def test_a_model_that_cannot_be_trusted_here_ends_the_decision(tmp_path: Path, changes: Any, reason: str) -> None:
    workspace = decide(loop_of(tmp_path))
    request = assemble_training(workspace, week(3))
    with pytest.raises(TrainingError, match=reason):
        fit_candidate(workspace, request, "line", Elsewhere(**changes))
    assert list(workspace.ledger.records())[-1].kind == "training_failed"
    assert workspace.state().open_decision is None


def test_a_fit_into_another_file_is_another_attempt_on_the_same_rows(tmp_path: Path) -> None:
    workspace = decide(loop_of(tmp_path))
    request = assemble_training(workspace, week(3))
    own = candidate_file(workspace, request.operation, "line")
    first, retry = (fit_request_of(workspace, request, "line", own) for _ in range(2))
    again = fit_request_of(workspace, request, "line", tmp_path / "again.skops")
    assert first == retry
    assert again.attempt != first.attempt
    assert run_fit(workspace, first).digest == run_fit(workspace, again).digest
    assert FitRequest.from_dict(first.to_dict()) == first


def test_a_feature_keeps_its_type_through_the_file_of_the_rows(tmp_path: Path) -> None:
    features = pd.DataFrame(
        {
            "text": ["a", "b", None],
            "thing": pd.Series(["a", "b", None], dtype=object),
            "nan": pd.Series(["a", np.nan, "b"], dtype=object),
            "kind": pd.Categorical(["x", "y", "x"]),
            "count": [1, 2, 3],
            "number": [1.0, np.nan, 3.0],
            "time": pd.to_datetime(["2013-01-01"] * 3, utc=True),
            "maybe": pd.array([1, None, 2], dtype="Int64"),
        }
    )
    rows = FitRows(features, np.array([1.0, 2.0, 3.0]), np.array([0, 1, 1]))
    rows.write(tmp_path / "rows.parquet")
    read = FitRows.read(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(read.features, features)
    assert (read.label.tolist(), read.label.dtype) == ([1.0, 2.0, 3.0], np.float64)
    assert (tmp_path / "rows.parquet").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("levels", [("b", "a", "never"), ("é", "A", "a", "a "), ()])
def test_another_process_reads_a_category_with_all_of_its_levels_in_their_order(
    tmp_path: Path, levels: tuple[str, ...]
) -> None:
    rows = pd.DataFrame({"shop": ["a", None, "b", "é"] * 300, "x": 1.0})
    features = InputSchema(levels={"shop": levels}).with_categories(rows)
    FitRows(features, np.zeros(len(rows))).write(tmp_path / "rows.parquet")
    read = FitRows.read(tmp_path / "rows.parquet").features
    assert list(read["shop"].cat.categories) == list(levels)
    pd.testing.assert_frame_equal(read, features)


def test_a_feature_that_takes_a_name_of_the_file_is_refused(tmp_path: Path) -> None:
    rows = FitRows(pd.DataFrame({"__label__": [1.0]}), np.array([1.0]))
    with pytest.raises(TrainingError, match="a feature is called '__label__'"):
        rows.write(tmp_path / "rows.parquet")


def test_the_commit_is_kept_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert code_state(tmp_path) is None

    def git(*arguments: str) -> str:
        author = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *author, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "training.py").write_text("x = 1\n")
    git("init")
    assert code_state(tmp_path) is None  # nothing is committed yet
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert code_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "training.py").write_text("x = 2\n")
    assert code_state(tmp_path) == {"commit": commit, "dirty": True}

    workspace = decide(loop_of(tmp_path))
    request = assemble_training(workspace, week(3))
    assert request.code == {"commit": commit, "dirty": True}
    assert replace(request, code=None).operation_fields() == request.operation_fields()


def test_a_features_function_that_reads_the_label_is_told_that_there_is_none(tmp_path: Path) -> None:
    name = f"features_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "def features(frame):\n    return frame.assign(double=2 * frame['y'])[['double']]\n"
    )
    data = toy_loop().data.model_dump(by_alias=True, exclude_none=True) | {"features": f"{name}:features"}
    frames = {week(number): toy_rows(number) for number in range(4)}
    workspace = in_memory_workspace(toy_loop(data=data), frames, scratch=tmp_path / "scratch", root=tmp_path)
    for number in range(4):
        ingest(workspace, week(number))
    decide_and_record(workspace, week(3), trigger="nightly")
    with pytest.raises(TrainingError, match=r"raised KeyError: 'y'; the label 'y' is not given to models or features"):
        assemble_training(workspace, week(3))
    assert "is not given to models" in list(workspace.ledger.records())[-1].details.reason


def test_a_function_that_hangs_itself_is_killed_at_the_limit_and_ends_the_decision(tmp_path: Path) -> None:
    name = f"hanging_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("import time\n\ndef candidates(seed):\n    time.sleep(600)\n")
    workspace = decide(loop_of(tmp_path, function=f"{name}:candidates", limits={"minutes": 0.1}))
    with pytest.raises(
        TrainingError, match=rf"{name}:candidates took longer than 0\.1 minutes \(train\.limits\.minutes\)"
    ):
        assemble_training(workspace, week(3))
    assert list(workspace.ledger.records())[-1].kind == "training_failed"
    assert workspace.state().open_decision is None
