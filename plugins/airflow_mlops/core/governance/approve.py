"""The approval of a version by a person who had no hand in making it.

Who started a run stands in the actor of its records, as ``… for person:ann``. Of the people behind the decision,
the training and the rollout of a version, none can approve it: their approval is recorded as void.
"""

from __future__ import annotations

import re
from typing import Any

from airflow_mlops.core.errors import NotReadyError, PolicyError
from airflow_mlops.core.governance.reconcile import reconcile
from airflow_mlops.core.governance.record import Record
from airflow_mlops.core.governance.state import LoopState, Version
from airflow_mlops.core.workspace import Workspace

PERSON = re.compile(r"(?:^|\s)person:(\S.*)$")


def version_to_approve(workspace: Workspace, as_of: str) -> Version:
    """Return the version that waits for an approval.

    Raises
    ------
    NotReadyError
        If none waits as of a partition, or the one that waits was approved before.
    """
    state = workspace.state()
    waiting = state.rollout.version if state.rollout else state.candidate
    if waiting is None or waiting.partition > as_of:
        raise NotReadyError(f"no version from up to {as_of} waits for an approval")
    return waiting


def people_behind(workspace: Workspace, version: Version) -> list[str]:
    """Return who started the runs that decided on, trained, registered or rolled out a version."""
    decision = version.details["decision"]

    def is_about(record: Record) -> bool:
        own = record.sequence == decision or record.details.get("decision") == decision
        return own or record.details.get("version") == version.number

    made = ("retrain_decided", "training_started", "candidate_registered", "rollout_started", "reproduced")
    found = [
        PERSON.search(record.actor) for record in workspace.ledger.records() if record.kind in made and is_about(record)
    ]
    return sorted({match.group(1) for match in found if match})


def record_approval(workspace: Workspace, version: Version, by: tuple[str, ...], *, started_by: str | None) -> None:
    """Record that a person let a version be rolled out.

    Parameters
    ----------
    by : tuple of str
        The names the person goes by: user name and id.
    started_by : str, optional
        Who started the run in which they were asked.

    Raises
    ------
    PolicyError
        If the person started a run that made the version; that is recorded too, and the version still waits.
    """
    behind = {*people_behind(workspace, version), *([started_by] if started_by else [])}
    details: dict[str, Any] = {"version": version.number, "by": by[0]}
    state = workspace.state()
    own = sorted(behind & set(by))
    if own:
        reason = f"{own[0]} started a run that made version {version.number}; somebody else must approve it"
        _append(workspace, "approval_void", state, version, {**details, "reason": reason})
        raise PolicyError(reason)
    _append(workspace, "approved", state, version, {**details, "made_by": sorted(behind)})


def record_rejection(workspace: Workspace, version: Version, by: str, reason: str) -> None:
    """Record that a person refused a version: it is quarantined and never rolled out, unless that is lifted."""
    said = f"rejected by {by}" + (f": {reason}" if reason else "")
    _append(workspace, "rejected", workspace.state(), version, {"version": version.number, "by": by, "reason": said})
    reconcile(workspace)


def _append(workspace: Workspace, kind: str, state: LoopState, version: Version, details: dict[str, Any]) -> None:
    partition = max(max(state.published, default=version.partition), version.partition)
    operation = f"{kind}:{version.number}:{state.sequence}"
    workspace.record_fact(workspace.draft(kind, operation, partition, **details))
