"""Every place where a candidate can be fitted gives the same model file for the same request, and the same reasons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.declaration.own_types import own_code
from airflow_mlops.core.declaration.train import FitLimits
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.ports.step_runner import StepRunner
from airflow_mlops.core.registry.model_file import file_digest, load_model
from airflow_mlops.core.registry.own_code import verified_own_types
from airflow_mlops.core.training.child_step import ChildStep
from airflow_mlops.core.training.in_process_step import InProcessStep
from tests.contracts.step_runner.fits import on_sagemaker

RUNNERS = ["in_process", "child", "interpreter", "sagemaker"]
OTHERS = RUNNERS[1:]


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
    remote = runner.fit(request, rows)
    assert remote.digest == here.digest == file_digest(Path(request.file))
    assert (remote.best_params, remote.search, remote.rows, remote.seed) == (here.best_params, here.search, 600, 3)
    assert remote.environment == here.environment
    assert load_model(Path(request.file), remote.digest).predict(rows.features).shape == (600,)
    # Of the rows nothing is left beside the model.
    assert [path.name for path in Path(request.file).parent.iterdir()] == ["model.skops"]


@pytest.mark.parametrize("runner", OTHERS, indirect=True)
@pytest.mark.parametrize("candidate", ["line", "searched"])
def test_rows_with_weights_give_the_same_model_everywhere_and_another_one_than_without(
    runner: StepRunner, ask: Any, rows: FitRows, candidate: str, tmp_path: Path
) -> None:
    weighted = replace(rows, weight=np.linspace(0.0, 3.0, 600))
    fits = {
        name: InProcessStep().fit(ask(candidate, file=str(tmp_path / name / "model.skops")), kept)
        for name, kept in (("with", weighted), ("without", rows))
    }
    remote = runner.fit(ask(candidate, weights={"column": "w"}), weighted)
    assert remote.digest == fits["with"].digest != fits["without"].digest
    assert remote.search == fits["with"].search


@pytest.mark.parametrize("runner", ["child"], indirect=True)
def test_an_estimator_without_a_seed_of_its_own_is_the_same_model_everywhere(
    runner: StepRunner, ask: Any, rows: FitRows, tmp_path: Path
) -> None:
    here = InProcessStep().fit(ask("unseeded", file=str(tmp_path / "here" / "model.skops")), rows)
    assert runner.fit(ask("unseeded"), rows).digest == here.digest


@pytest.mark.parametrize("runner", RUNNERS, indirect=True)
def test_own_types_are_fitted_everywhere_with_the_code_of_the_request_and_no_other(
    runner: StepRunner, ask: Any, rows: FitRows
) -> None:
    root, function = Path(ask("own").root), ask("own").function.replace(":", ":own_")
    (module,) = [file.stem for file in root.glob("steps_of_*.py")]
    types = (f"{module}:Column",)
    code = own_code(types, root)
    request = ask("own", function=function, own_types=types, own_code=code)
    digest = runner.fit(request, rows).digest
    trusted = verified_own_types(types, code, root, "the model")
    assert load_model(Path(request.file), digest, trusted).predict(rows.features).shape == (600,)
    refused = ask("own", function=function, own_types=types, own_code={module: "0" * 64}, attempt="other")
    with pytest.raises(
        TrainingError, match=f"candidate 'own' was fitted with the module '{module}' of the digest 0000"
    ):
        runner.fit(refused, rows)


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
