"""Roll back in one step, by a person: the challenger under way, or the champion to one from before.

The record stands before the effect, and the registry is not needed: where it is down, the aliases follow
with the next ``reconcile``. The version that is taken back is quarantined until a person lifts that.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_mlops.core.errors import RegistryError, RolloutError, StaleLedgerError
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ledger.rollout_details import QuarantineLifted
from airflow_mlops.core.ledger.rollout_details import RolledBack as Taken
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.end_rollout import bring_effects
from airflow_mlops.core.workspace import Workspace

ATTEMPTS = 20


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did: which version was taken back, who serves now, and what could not be done at once."""

    version: str
    champion: str | None
    notes: tuple[str, ...]


def roll_back_now(
    workspace: Workspace, *, reason: str, to: str | None = None, only: str | None = None, once: str | None = None
) -> RolledBack:
    """Take back the challenger under way; where there is none, the champion.

    Of two who do it at once one writes the record, and the other is told.

    Parameters
    ----------
    reason : str
        Why, for the ledger.
    to : str, optional
        Number of the version that shall serve; the champion before this one if not given. While a rollout is under
        way that is the champion, and no other can be named.
    only : str, optional
        Number of the version that is meant: where somebody else has taken it back already, nothing else goes.
    once : str, optional
        Names the attempt, as the run of a task: tried again, it finishes what it began and takes nothing else back.

    Raises
    ------
    TargetError
        If who serves has not followed; the record stands.
    RolloutError
        If there is nothing to go back from or to, the version to go back to may not serve or cannot be loaded, or
        somebody changed meanwhile what would be taken back.
    """
    meant = only
    for _ in range(ATTEMPTS):
        state = workspace.state()
        begun = state.rollback_attempts.get(once) if once else None
        if begun is not None:
            return _finished(workspace, state, begun)
        if meant is not None and meant in state.quarantined:
            return _joined(workspace, state, meant, to)
        version, champion, notes = _what_goes(workspace, state, to)
        if meant not in (None, version):
            raise RolloutError(
                f"version {meant} was to be taken back, and meanwhile version {version} would be; look where the loop "
                f"stands and ask again: airflow-mlops status {workspace.loop.model}"
            )
        meant, as_of = version, state.published.newest()
        details = Taken(version=version, reason=reason, champion=champion or None, once=once or None)
        # Two who ask for the same on the same record are one rollback.
        operation = f"rolled_back:{version}:by_hand:{champion or 'stays'}:{state.sequence}"
        try:
            workspace.ledger.append(workspace.draft(details, operation, as_of), read=state.sequence)
        except StaleLedgerError:
            continue
        fault_point("rolled_back_by_hand")
        serves = champion or (state.champion.number if state.champion else None)
        return RolledBack(version, serves, (*notes, *bring_effects(workspace, f"version {version} was taken back")))
    raise RolloutError(f"nothing was rolled back in {ATTEMPTS} attempts: other records keep coming first; try again")


def unquarantine_version(workspace: Workspace, version: str, *, reason: str) -> None:
    """Let a version that was taken back serve again, as a person's decision.

    One that was the champion can be rolled back to; one that never was waits for its rollout, and an approval, again.

    Raises
    ------
    RolloutError
        If the version is not in quarantine, or was never the champion and something else is under way.
    """
    for _ in range(ATTEMPTS):
        state = workspace.state()
        if version not in state.quarantined:
            held = ", ".join(sorted(state.quarantined, key=int)) or "none"
            raise RolloutError(f"version {version} is not in quarantine; in quarantine: {held}")
        if state.in_flight is not None and not state.was_champion(version):
            raise RolloutError(
                f"version {version} was never the champion and would wait for its rollout again, and "
                f"{state.in_flight}; lift it when nothing is under way"
            )
        operation, as_of = f"lifted:{version}:{state.sequence}", state.published.newest()
        draft = workspace.draft(QuarantineLifted(version=version, reason=reason), operation, as_of)
        try:
            workspace.ledger.append(draft, read=state.sequence)
        except StaleLedgerError:
            continue
        bring_effects(workspace, f"version {version} is out of quarantine")
        return
    raise RolloutError(f"nothing was lifted in {ATTEMPTS} attempts: other records keep coming first; try again")


def _joined(workspace: Workspace, state: LoopState, version: str, to: str | None) -> RolledBack:
    """Say what a rollback did that somebody else recorded first, or that it is not the one that was asked for."""
    serves = state.champion.number if state.champion else None
    if to not in (None, serves):
        raise RolloutError(f"version {version} was taken back meanwhile, and version {serves} serves, not version {to}")
    done = _finished(workspace, state, version)
    return RolledBack(version, serves, (f"somebody else was first: {state.quarantined[version]}", *done.notes))


def _finished(workspace: Workspace, state: LoopState, version: str) -> RolledBack:
    """Return what a rollback that is recorded did, once who serves has followed."""
    notes = bring_effects(workspace, f"version {version} was taken back")
    return RolledBack(version, state.champion.number if state.champion else None, notes)


def _what_goes(workspace: Workspace, state: LoopState, to: str | None) -> tuple[str, str | None, tuple[str, ...]]:
    """Return the version that is taken back, the champion that comes back if one does, and what to tell."""
    if state.rollout is None:
        return _change_champion(workspace, state, to)
    challenger, champion = state.rollout.version.number, state.champion.number if state.champion else None
    if to not in (None, champion):
        raise RolloutError(f"version {challenger} is being rolled out; roll that back first, without saying to what")
    return challenger, None, ()


def _change_champion(workspace: Workspace, state: LoopState, to: str | None) -> tuple[str, str, tuple[str, ...]]:
    """Return the champion that goes, the version that shall serve, and what could not be made sure of it."""
    if state.champion is None:
        raise RolloutError("there is no champion yet; nothing can be rolled back")
    now = state.champion.number
    target = to or _champion_before(state)
    if target == now:
        raise RolloutError(f"version {now} is the champion already")
    if target not in state.versions:
        raise RolloutError(f"there is no version {target}; versions: {', '.join(sorted(state.versions, key=int))}")
    if target in state.quarantined:
        raise RolloutError(
            f"version {target} is in quarantine: {state.quarantined[target]}; "
            f"a person lifts that first: airflow-mlops unquarantine {workspace.loop.model} {target} --reason WHY"
        )
    if not state.was_champion(target):
        raise RolloutError(
            f"version {target} has never been the champion; a rollback goes to one that was: "
            f"{', '.join(state.champions_before) or 'there is none'}"
        )
    try:
        load_version(workspace, state.versions[target])
    except RegistryError as error:
        if not error.retryable:
            raise RolloutError(f"version {target} cannot serve: {error}") from error
        return now, target, (f"version {target} could not be loaded to make sure: {error}",)
    return now, target, ()


def _champion_before(state: LoopState) -> str:
    """Return the newest champion from before that is not in quarantine."""
    assert state.champion is not None
    usable = [number for number in state.champions_before if number not in state.quarantined]
    if not usable:
        others = ", ".join(f"{number} (in quarantine)" for number in state.champions_before)
        raise RolloutError(
            f"no other version to go back to from {state.champion.number}; champions before it: {others or 'none'}"
        )
    return usable[0]
