"""The policy of the Terraform module suffices for training jobs, and allows nothing that a fit never asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.testing.sagemaker_double import SageMakerDouble
from tests.contracts.aws_calls import recorded_calls
from tests.contracts.step_runner.fits import on_sagemaker, place, run_in_background, wait_for
from tests.terraform_module import allows, policy, references


def test_a_fit_may_do_all_that_it_asks_for_and_the_policy_allows_nothing_more(
    sagemaker: SageMakerDouble, object_store_url: str, ask: Callable[..., Any], rows: FitRows
) -> None:
    serving = "arn:aws:iam::123456789012:role/serving"
    document = policy("loops", references("company", fits=place().role, serving=serving))
    with recorded_calls(at="http://127.0.0.1") as calls:
        on_sagemaker().fit(ask("line"), rows)
        sagemaker._may_run.clear()
        killed = on_sagemaker()
        thread, _ = run_in_background(lambda: killed.fit(ask("line", attempt="killed"), rows))
        wait_for(lambda: sagemaker.count("CreateTrainingJob") == 2)
        killed.stop()
        sagemaker.release()
        thread.join()
    assert ("iam:PassRole", place().role) in calls
    assert sorted(call for call in calls if not allows(document, *call)) == []
    (jobs,) = [statement for statement in document["Statement"] if statement.get("Sid") == "TrainingJobs"]
    assert set(jobs["Action"]) <= {action for action, _ in calls}
