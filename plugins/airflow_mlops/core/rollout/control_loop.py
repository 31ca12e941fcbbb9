"""The actions of a person on a loop: on the rollout under way, on the champion, on a version, on rows in quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.rollout.control_rollout import ACTIONS as ROLLOUT_ACTIONS
from airflow_mlops.core.rollout.control_rollout import control_rollout
from airflow_mlops.core.rollout.manual_rollback import roll_back_now, unquarantine_version
from airflow_mlops.core.validation.release_quarantine import release_quarantine
from airflow_mlops.core.workspace import Workspace

if TYPE_CHECKING:
    from airflow_mlops.core.validation.suite import Validator

ACTIONS = (*ROLLOUT_ACTIONS, "rollback", "unquarantine", "release")
"""Names of the actions of :func:`control_loop`."""


def control_loop(
    workspace: Workspace,
    action: str,
    validator: Validator,
    *,
    reason: str,
    version: str | None = None,
    to: str | None = None,
    partition: str | None = None,
    attempt: str | None = None,
) -> str:
    """Carry out an action, one of ``ACTIONS``; return a message about its effect.

    Parameters
    ----------
    validator : Validator
        Judges the rows that are released.
    reason : str
        Why, for the ledger.
    version : str, optional
        Version that the action is about, as the person saw it: it is done to no other one.
    to : str, optional
        Version that shall serve after a rollback; the champion before this one if not given.
    partition : str, optional
        Partition whose rows are released.
    attempt : str, optional
        Name of the attempt, such as the run of a task: a retry of a rollback takes nothing else back.

    Raises
    ------
    RolloutError
        If there is no such action, or it cannot be done now.
    DataError
        If no rows of the partition can be released.
    """
    if action in ROLLOUT_ACTIONS:
        return control_rollout(workspace, action, reason=reason, only=version)
    if action == "rollback":
        result = roll_back_now(workspace, reason=reason, to=to, only=version, attempt=attempt)
        serves = f"version {result.champion} serves" if result.champion else "nothing serves"
        return "; ".join([f"version {result.version} was taken back, {serves}", *result.notes])
    if action == "unquarantine":
        unquarantine_version(workspace, _named(version, "version", action), reason=reason)
        return f"version {version} is out of quarantine"
    if action == "release":
        release = release_quarantine(workspace, _named(partition, "partition", action), validator)
        return f"partition {partition}: {release.released:,} rows released, {release.kept:,} stay in quarantine"
    raise RolloutError(f"{action!r} cannot be done to a loop; {', '.join(ACTIONS)} can")


def _named(value: str | None, name: str, action: str) -> str:
    if not value:
        raise RolloutError(f"{action} needs a {name}, and none was named; start it again and name one")
    return value
