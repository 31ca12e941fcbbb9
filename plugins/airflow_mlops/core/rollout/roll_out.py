"""Roll out a challenger: enter a stage, look, and go on, hold, or roll back.

    waiting -> shadow -> canary, one share after another -> live (promoted)
    a failed look at any stage                           -> rolled back, and the version quarantined
    an inconclusive look, or too few rows                -> holds; it never goes on

Every move is decided on a ledger record that was read, and loses if another came first. The registry's
aliases follow the record; a crash between the two is repaired by the retry, or by ``reconcile``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.errors import NotReadyError, RolledBackError, RolloutError, StaleLedgerError
from airflow_mlops.core.governance.fault_point import fault_point
from airflow_mlops.core.governance.policy import require_policy
from airflow_mlops.core.governance.reconcile import reconcile
from airflow_mlops.core.governance.record import Record
from airflow_mlops.core.governance.state import LoopState, OpenRollout
from airflow_mlops.core.rollout.analyse_stage import analyse_stage
from airflow_mlops.core.workspace import Workspace

ATTEMPTS = 20


@dataclass(frozen=True)
class StageOutcome:
    """Where a rollout stands after a stage: the version, the stage's name and the verdict in words."""

    version: str
    stage: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return dict(vars(self))


def start_rollout(workspace: Workspace, as_of: str) -> str:
    """Start the rollout of the candidate, or go on with the one under way; return the version's number.

    Raises
    ------
    NotReadyError
        If there is no candidate from up to ``as_of``, or a newer champion serves already.
    """
    as_of = newest_partition(workspace, as_of)
    for _ in range(ATTEMPTS):
        state = workspace.state()
        if state.rollout is not None:
            return state.rollout.version.number
        candidate = state.candidate
        if candidate is None or candidate.partition > as_of:
            raise NotReadyError(f"there is no candidate from up to {as_of} to roll out")
        if state.champion is not None and state.champion.partition > candidate.partition:
            reason = (
                f"version {candidate.number} was made as of {candidate.partition}; "
                f"the champion {state.champion.number} is newer ({state.champion.partition})"
            )
            workspace.record_fact(
                workspace.draft(
                    "superseded",
                    f"superseded:{candidate.number}",
                    as_of,
                    version=candidate.number,
                    reason=reason,
                )
            )
            reconcile(workspace)
            raise NotReadyError(reason)
        if workspace.loop.rollout.approval == "human" and candidate.number not in state.approved:
            raise NotReadyError(f"version {candidate.number} waits for a person's approval")
        draft = workspace.draft(
            "rollout_started", f"rollout:{candidate.number}:{state.sequence}", as_of, version=candidate.number
        )
        try:
            workspace.ledger.append(draft, read=state.sequence)
        except StaleLedgerError:
            continue
        fault_point("rollout_started")
        reconcile(workspace)
        return candidate.number
    raise RolloutError(f"the rollout could not be started in {ATTEMPTS} attempts: other records keep coming first")


def run_stage(workspace: Workspace, version: str, index: int, as_of: str) -> StageOutcome:
    """Enter stage ``index`` of a version's rollout if it is due, and look at it.

    Running it again changes nothing more.

    Raises
    ------
    RolledBackError
        If the version was rolled back, now or before.
    NotReadyError
        If the look is inconclusive: the stage holds, and a later partition looks again.
    """
    stage, as_of = workspace.loop.rollout.stages[index], newest_partition(workspace, as_of)
    for _ in range(ATTEMPTS):
        state = workspace.state()
        rollout = state.rollout
        if rollout is None or rollout.version.number != version:
            return _ended(workspace, state, version, stage.name)
        if rollout.stage > index:
            return StageOutcome(version, stage.name, "passed before")
        if rollout.version.partition > as_of:
            raise NotReadyError(f"version {version} was made as of {rollout.version.partition}; {as_of} is older")
        if rollout.stage < index - 1 or not _has_passed(workspace, rollout, index - 1):
            raise NotReadyError(f"version {version} holds at stage {rollout.stage + 1}, before {stage.name}")
        try:
            if stage.kind == "live":
                return _promote(workspace, state, version, as_of)
            if rollout.stage == index - 1:
                _enter(workspace, state, index, as_of)
                continue
            return _look(workspace, state, index, as_of)
        except StaleLedgerError:
            continue
    raise RolloutError(f"{stage.name} could not be run in {ATTEMPTS} attempts: other records keep coming first")


def newest_partition(workspace: Workspace, as_of: str) -> str:
    """Return the newest published partition at or before ``as_of``, which is what a rollout's records are about."""
    state = workspace.state()
    return state.newest(state.published, as_of) or as_of


def _enter(workspace: Workspace, state: LoopState, index: int, as_of: str) -> None:
    rollout, stage = state.rollout, workspace.loop.rollout.stages[index]
    assert rollout is not None
    operation = f"stage:{rollout.record}:{index}"
    draft = workspace.draft(
        "stage_entered",
        operation,
        as_of,
        version=rollout.version.number,
        stage=index,
        kind=stage.kind,
        share=stage.share,
    )
    workspace.ledger.append(draft, read=state.sequence)
    fault_point("stage_entered")


def _look(workspace: Workspace, state: LoopState, index: int, as_of: str) -> StageOutcome:
    rollout, stage = state.rollout, workspace.loop.rollout.stages[index]
    assert rollout is not None
    looks = _looks(workspace.ledger.records(), rollout.record, index)
    # What was concluded stands, even if the process died before acting on it.
    found = next(
        (look for look in looks if look.details["verdict"] != "inconclusive" or look.partition == as_of), None
    )  # fmt: skip
    if found is None:
        verdict = analyse_stage(workspace, state, stage, as_of)
        draft = workspace.draft(
            "stage_analysed", f"look:{rollout.record}:{index}:{as_of}", as_of, version=rollout.version.number,
            rollout=rollout.record, stage=index, name=stage.name, **verdict.to_dict(),
        )  # fmt: skip
        found = workspace.ledger.append(draft, read=state.sequence)
        fault_point("stage_analysed")
    said, reason = found.details["verdict"], str(found.details["reason"])
    if said == "fail":
        roll_back(workspace, rollout, f"{stage.name}: {reason}", as_of)
    if said == "inconclusive":
        raise NotReadyError(f"version {rollout.version.number} holds at {stage.name}: {reason}")
    return StageOutcome(rollout.version.number, stage.name, reason)


def _has_passed(workspace: Workspace, rollout: OpenRollout, index: int) -> bool:
    """Whether a look at stage ``index`` has passed; before the first stage there is nothing to pass."""
    looks = _looks(workspace.ledger.records(), rollout.record, index)
    return index < 0 or any(look.details["verdict"] == "pass" for look in looks)


def _looks(records: list[Record], rollout: int, index: int) -> list[Record]:
    return [
        record
        for record in records
        if record.kind == "stage_analysed" and record.details["rollout"] == rollout and record.details["stage"] == index
    ]


def roll_back(workspace: Workspace, rollout: OpenRollout, reason: str, as_of: str) -> None:
    """Take a challenger back, quarantine its version, and say why.

    Needs neither the challenger nor the registry to decide; the aliases are repaired by the next
    ``reconcile`` if the registry is down.

    Raises
    ------
    RolledBackError
        Always, once the record stands: a rolled-back rollout is a failure that says why.
    """
    version = rollout.version.number
    operation = f"rolled_back:{version}:{rollout.record}"
    workspace.record_fact(workspace.draft("rolled_back", operation, as_of, version=version, reason=reason))
    fault_point("rolled_back")
    reconcile(workspace)
    raise RolledBackError(f"version {version} was rolled back at {reason}; the champion serves all keys")


def _promote(workspace: Workspace, state: LoopState, version: str, as_of: str) -> StageOutcome:
    require_policy(workspace, state, state.versions[version])
    previous = state.champion.number if state.champion else None
    draft = workspace.draft(
        "promoted",
        f"promoted:{version}:{state.rollout.record if state.rollout else 0}",
        as_of,
        version=version,
        previous=previous,
    )
    fault_point("before_promoted")
    workspace.ledger.append(draft, read=state.sequence)
    fault_point("promoted")
    reconcile(workspace)
    fault_point("aliases_set")
    return StageOutcome(version, "live_100", f"version {version} is the champion; before it {previous or 'none'}")


def _ended(workspace: Workspace, state: LoopState, version: str, name: str) -> StageOutcome:
    """Say how a rollout that is no longer open ended."""
    if any(str(record.details["version"]) == version for record in state.promotions):
        reconcile(workspace)
        return StageOutcome(version, name, "promoted before")
    if version in state.quarantined:
        raise RolledBackError(f"version {version} was rolled back: {state.quarantined[version]}")
    raise NotReadyError(f"version {version} is not being rolled out")
