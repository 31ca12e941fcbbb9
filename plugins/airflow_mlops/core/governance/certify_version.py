"""Gather the proof of a new version: its card always, and what its tier asks for besides."""

from __future__ import annotations

from airflow_mlops.core.errors import ReproductionError
from airflow_mlops.core.governance.model_card import write_model_card
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.rollout.promotion_policy import read_policy, unmet
from airflow_mlops.core.workspace import Workspace


def certify_version(workspace: Workspace, number: str) -> list[str]:
    """Write the card of a version, make the version again where the policy asks for it; return what is still missing.

    What has been proved before is not proved again. A version that cannot be made again is a thing that is
    missing, and no error: the policy is asked again at the promotion.
    """
    policy = read_policy(workspace.root)
    trouble = []
    if "reproduced" in policy.of(workspace.loop.tier) and number not in workspace.state().reproduced:
        try:
            reproduce_version(workspace, number, tolerance=policy.tolerance)
        except ReproductionError as error:
            trouble.append(str(error))
    write_model_card(workspace, number)
    state = workspace.state()
    return [*trouble, *unmet(workspace, state, state.versions[number])]
