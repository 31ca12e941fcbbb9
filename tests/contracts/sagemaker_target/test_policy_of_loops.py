"""The policy of the Terraform module suffices for a loop on an endpoint, and allows nothing that it never asks for."""

from __future__ import annotations

import pytest

from airflow_mlops.core.rollout.reconcile_target import reconcile_target
from airflow_mlops.core.rollout.roll_out import enter_stage, run_rollout_step, start_rollout
from airflow_mlops.core.workspace import Workspace
from tests.contracts.aws_calls import Call, recorded_calls
from tests.contracts.sagemaker_target.place import BUCKET, CONNECTION, SERVING, Place
from tests.contracts.sagemaker_target.test_a_loop import loop, passed, week
from tests.terraform_module import allows, policy, references

__all__ = ["loop"]
VALUES = references(BUCKET, fits="arn:aws:iam::123456789012:role/fits", serving=SERVING["role"])
OF_ENDPOINTS = {"Models", "EndpointConfigs", "Endpoints", "EndpointsWithConfigs", "Alarms", "WithoutResource"}
"""Statements for what the loop does with its endpoint."""


@pytest.fixture
def recorded(place: Place, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> set[Call]:
    """The calls of a loop to AWS, from its first version on the endpoint until the second one answers everything."""
    monkeypatch.setenv(CONNECTION, place.aws.connection(serving={**SERVING, "alarms": ["too-slow"]}))
    with recorded_calls(at=place.aws.url) as calls:
        workspace: Workspace = request.getfixturevalue("loop")
        version = start_rollout(workspace, week(3))
        for index in (0, 1):
            enter_stage(workspace, version, index, week(3))
            passed(place, workspace, version, index)
        run_rollout_step(workspace, version, 2, week(3))
        assert reconcile_target(workspace) == []
    # Requests are sent by the callers of the endpoint, and no loop sends any.
    return {call for call in calls if not call[0].startswith("sagemaker-runtime:")}


def test_a_loop_may_do_all_that_it_asks_for_and_the_policy_allows_nothing_more(recorded: set[Call]) -> None:
    document = policy("loops", VALUES)
    assert len(recorded) > 20
    assert sorted(call for call in recorded if not allows(document, *call)) == []
    actions = {action for action, _ in recorded}
    unused = {
        action
        for statement in document["Statement"]
        if statement.get("Sid") in OF_ENDPOINTS
        for action in statement["Action"]
        if action not in actions
    }
    assert unused == set()


def test_what_is_called_otherwise_than_by_a_loop_is_refused(recorded: set[Call]) -> None:
    document = policy("loops", VALUES)
    foreign = {(action, resource.replace("/mlops-", "/shop-")) for action, resource in recorded}
    named = {call for call in foreign if "/shop-" in call[1]}
    assert len({action for action, _ in named}) > 10
    assert [call for call in named if allows(document, *call)] == []
