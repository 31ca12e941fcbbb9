"""The policy of the Terraform module suffices for transform jobs, and allows nothing that a scoring never asks for."""

from __future__ import annotations

import pytest

from airflow_mlops.core.errors import TransformUnderWayError
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.sagemaker_transforms import TransformsDouble
from tests.contracts.aws_calls import recorded_calls
from tests.contracts.transform.loops import RUNS_ON, on_sagemaker
from tests.terraform_module import allows, policy, references
from tests.unit.core.toy_loop import ingest, week


def test_a_scoring_may_do_all_that_it_asks_for_and_the_policy_allows_nothing_more(
    sagemaker: TransformsDouble, workspace: Workspace
) -> None:
    serving = "arn:aws:iam::123456789012:role/serving"
    document = policy("loops", references("company", fits=str(RUNS_ON["role"]), serving=serving))
    with recorded_calls(at="http://127.0.0.1") as calls:
        score_partition(workspace, week(3), on_sagemaker(workspace))
        ingest(workspace, week(4))
        sagemaker._may_run.clear()
        killed = on_sagemaker(workspace, wait=False)
        with pytest.raises(TransformUnderWayError):
            score_partition(workspace, week(4), killed)
        killed.stop()
    assert ("iam:PassRole", RUNS_ON["role"]) in calls
    assert sorted(call for call in calls if not allows(document, *call)) == []
    (jobs,) = [statement for statement in document["Statement"] if statement.get("Sid") == "TransformJobs"]
    assert set(jobs["Action"]) <= {action for action, _ in calls}
