"""Certify a new version: write its model card, and reproduce it where the policy of its tier asks for that."""

from __future__ import annotations

from airflow_mlops.core.errors import ReproductionError
from airflow_mlops.core.governance.model_card import write_model_card
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.rollout.promotion_policy import read_policy, unmet_requirements
from airflow_mlops.core.workspace import Workspace


def certify_version(workspace: Workspace, number: str) -> list[str]:
    """Write the card of a version, reproduce the version if its tier asks for it, and return what is still missing.

    A version that was reproduced before is not reproduced again. One that cannot be reproduced is reported as
    missing evidence and raises nothing: the promotion checks the policy again.
    """
    note_version(number)
    policy = read_policy(workspace.root)
    failures = []
    if "reproduced" in policy.of(workspace.loop.tier) and number not in workspace.state().reproduced:
        try:
            reproduce_version(workspace, number, tolerance=policy.tolerance)
        except ReproductionError as error:
            failures.append(str(error))
    write_model_card(workspace, number)
    state = workspace.state()
    return [*failures, *unmet_requirements(workspace, state, state.versions[number])]
