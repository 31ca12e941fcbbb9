"""A job that loses its spot instance goes on behind what was finished, and only with files of the same fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from airflow_mlops.core.errors import FitPlaceError
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.in_process_step import InProcessStep
from airflow_mlops.testing.sagemaker_double import SageMakerDouble
from tests.contracts.step_runner.fits import on_sagemaker

COUNTED = """
from pathlib import Path

from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.compose import make_column_transformer


class Counted(Ridge):
    def fit(self, X, y, sample_weight=None):
        with Path({path!r}).open("a") as file:
            file.write(f"{{len(y)}}\\n")
        return super().fit(X, y)


def candidates(seed):
    return {{"counted": make_pipeline(make_column_transformer(("passthrough", ["x"])), Counted())}}
"""
SPOT: dict[str, Any] = {"spot_wait_minutes": 30, "checkpoints": True}


@pytest.fixture
def counted(project: Path, tmp_path: Path, ask: Any) -> tuple[Callable[..., Any], Callable[[], list[int]]]:
    """Return a function that asks for a fit which is counted, and one that returns the rows of each fit."""
    name, path = f"counted_{tmp_path.name.replace('-', '_')}", tmp_path / "fits"
    (project / f"{name}.py").write_text(COUNTED.format(path=str(path)))
    types = {"function": f"{name}:candidates", "own_types": (f"{name}:Counted",)}

    def request(**changes: Any) -> Any:
        from airflow_mlops.core.declaration.own_types import own_code

        return ask("counted", **types, own_code=own_code(types["own_types"], project), **changes)

    return request, lambda: [int(line) for line in path.read_text().split()] if path.exists() else []


def finished(folder: Path) -> bool:
    return (folder / "fit.json").exists()


def test_a_fit_that_was_finished_before_its_machine_was_lost_is_not_made_again(
    sagemaker: SageMakerDouble, counted: Any, rows: FitRows, tmp_path: Path
) -> None:
    request, fits = counted
    sagemaker.interruptions.append(finished)
    resumed = on_sagemaker(**SPOT).fit(request(), rows)
    assert (fits(), len(sagemaker.jobs), sagemaker.interruptions) == ([600], 1, [])
    alone = InProcessStep().fit(request(file=str(tmp_path / "alone" / "model.skops")), rows)
    assert resumed.digest == alone.digest
    (job,) = sagemaker.jobs.values()
    assert job["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"


def test_the_job_after_one_that_found_no_instance_takes_up_what_that_one_has_finished(
    sagemaker: SageMakerDouble, counted: Any, rows: FitRows
) -> None:
    request, fits = counted

    def lost_for_good(folder: Path) -> bool:
        if finished(folder) and not sagemaker.faults:
            sagemaker.faults.append("MaxWaitTimeExceeded")
        return finished(folder)

    # The machine is lost, and SageMaker finds no other: the next number goes on in the same folder.
    sagemaker.interruptions.append(lost_for_good)
    with pytest.raises(FitPlaceError, match="no spot instance"):
        on_sagemaker(**SPOT).fit(request(), rows)
    on_sagemaker(**SPOT).fit(request(), rows)
    folders = {job["CheckpointConfig"]["S3Uri"] for job in sagemaker.jobs.values()}
    assert (fits(), len(sagemaker.jobs), len(folders)) == ([600], 2, 1)


def test_a_search_goes_on_behind_the_trials_that_were_finished_and_ends_in_the_same_model(
    sagemaker: SageMakerDouble, counted: Any, rows: FitRows, tmp_path: Path
) -> None:
    request, fits = counted
    spaces = {"counted": {"counted__alpha": {"kind": "float", "low": 1e-3, "high": 1e3, "log": True}}}
    optuna = {"sampler": "tpe", "trials": 8, "spaces": spaces}
    searched = request(search={"candidates": 9, "factor": 3, "validation": 20, "metric": "mae", "optuna": optuna})
    sagemaker.interruptions.append(
        lambda folder: (folder / "trials").exists() and len((folder / "trials").read_text().splitlines()) > 3
    )
    resumed = on_sagemaker(**SPOT).fit(searched, rows)
    disturbed = len(fits())
    alone = InProcessStep().fit(replace(searched, file=str(tmp_path / "alone" / "model.skops")), rows)
    assert resumed.digest == alone.digest
    assert resumed.search == alone.search
    undisturbed = len(fits()) - disturbed
    assert undisturbed == 9  # eight trials, and the model of all rows
    assert undisturbed <= disturbed <= undisturbed + 1  # the trial under way when the machine was lost


@pytest.mark.parametrize("damage", ["cut model", "cut result", "another fit", "another model"])
def test_a_checkpoint_that_was_cut_or_is_of_another_fit_is_refused_and_the_fit_is_made_again(
    sagemaker: SageMakerDouble, counted: Any, rows: FitRows, object_store: S3FileSystem, damage: str
) -> None:
    request, fits = counted
    first = on_sagemaker(**SPOT).fit(request(), rows)
    (job,) = sagemaker.jobs.values()
    folder = job["CheckpointConfig"]["S3Uri"].removeprefix("s3://").rstrip("/")
    names = {info.base_name for info in object_store.get_file_info(FileSelector(folder))}
    assert names == {"model.skops", "fit.json"}
    files = {name: read(object_store, f"{folder}/{name}") for name in names}
    kept = json.loads(files["fit.json"])
    files |= {
        "cut model": {"model.skops": files["model.skops"][:-40]},
        "cut result": {"fit.json": files["fit.json"][:-40]},
        "another fit": {"fit.json": json.dumps({**kept, "fit": {**kept["fit"], "seed": 4}}).encode()},
        "another model": {"model.skops": b"PK\x05\x06" + 18 * b"\0"},
    }[damage]
    for name in ("model.skops", "fit.json"):
        with object_store.open_output_stream(f"{folder}/{name}") as file:
            file.write(files[name])
    sagemaker.jobs.clear()  # the description of a job is kept for a while only
    again = on_sagemaker(**SPOT).fit(request(), rows)
    assert (again.digest, fits()) == (first.digest, [600, 600])


def test_no_two_fits_share_a_folder_and_without_a_word_there_is_none(
    sagemaker: SageMakerDouble, ask: Any, rows: FitRows
) -> None:
    on_sagemaker(**SPOT).fit(ask("line"), rows)
    on_sagemaker(**SPOT).fit(ask("line", attempt="another"), rows)
    on_sagemaker(**SPOT, image="step:2").fit(ask("line", operation="fedcba9876543210"), rows)
    folders = {job["CheckpointConfig"]["S3Uri"] for job in sagemaker.jobs.values()}
    assert len(folders) == 3
    assert all(folder.startswith("s3://company/models/checkpoints/toy/") for folder in folders)
    on_sagemaker(spot_wait_minutes=30).fit(ask("line", attempt="third"), rows)
    assert "CheckpointConfig" not in list(sagemaker.jobs.values())[-1]


def read(store: S3FileSystem, path: str) -> bytes:
    with store.open_input_stream(path) as file:
        return bytes(file.read())
