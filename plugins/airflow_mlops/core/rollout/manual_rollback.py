"""Roll back by hand, in one step: the challenger under way, or the champion to an earlier one.

The record stands before the effect, and the registry is not needed: if it is down, the aliases follow with the next
``reconcile``. The version that is taken back is quarantined until a person lifts that.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_mlops.core.errors import RegistryError, RolloutError, StaleLedgerError
from airflow_mlops.core.ledger.rollout_details import QuarantineLifted
from airflow_mlops.core.ledger.rollout_details import RolledBack as Taken
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.registry.own_code import OwnCodeError
from airflow_mlops.core.rollout.rollback import apply_side_effects
from airflow_mlops.core.workspace import Workspace

ATTEMPTS = 20


@dataclass(frozen=True)
class RolledBack:
    """The result of a rollback: the version taken back, the champion that serves now, and notes on delayed effects."""

    version: str
    champion: str | None
    notes: tuple[str, ...]


def roll_back_now(
    workspace: Workspace, *, reason: str, to: str | None = None, only: str | None = None, attempt: str | None = None
) -> RolledBack:
    """Take back the challenger under way; where there is none, the champion.

    Of two concurrent rollbacks one writes the record, and the other adopts its result.

    Parameters
    ----------
    reason : str
        Why, for the ledger.
    to : str, optional
        Number of the version that shall serve; the champion before this one if not given. While a rollout is under
        way that is the champion, and no other can be named.
    only : str, optional
        Number of the version that may be taken back: if it is taken back already, no other one is.
    once : str, optional
        Name of the attempt, such as the run of a task: a retry finishes its rollback and takes nothing else back.

    Raises
    ------
    TargetError
        If the target has not followed; the record stands.
    RolloutError
        If there is nothing to go back from or to, the version to go back to may not serve or cannot be loaded, or
        somebody changed meanwhile what would be taken back.
    """
    expected = only
    for _ in range(ATTEMPTS):
        state = workspace.state()
        recorded = state.rollback_attempts.get(attempt) if attempt else None
        if recorded is not None:
            return _finish_rollback(workspace, state, recorded)
        if expected is not None and expected in state.quarantined:
            return _adopt_rollback(workspace, state, expected, to)
        version, champion, notes = _choose_versions(workspace, state, to)
        if expected not in (None, version):
            raise RolloutError(
                f"version {expected} was to be taken back, and meanwhile version {version} would be; look where the "
                f"loop stands and ask again: airflow-mlops status {workspace.loop.model}"
            )
        expected, as_of = version, state.published.newest()
        details = Taken(version=version, reason=reason, champion=champion or None, once=attempt or None)
        # Two who ask for the same on the same record are one rollback.
        operation = f"rolled_back:{version}:by_hand:{champion or 'stays'}:{state.sequence}"
        try:
            workspace.ledger.append(workspace.draft(details, operation, as_of), read=state.sequence)
        except StaleLedgerError:
            continue
        serves = champion or (state.champion.number if state.champion else None)
        return RolledBack(
            version, serves, (*notes, *apply_side_effects(workspace, f"version {version} was taken back"))
        )
    raise RolloutError(f"nothing was rolled back in {ATTEMPTS} attempts: other records keep coming first; try again")


def unquarantine_version(workspace: Workspace, version: str, *, reason: str) -> None:
    """Lift the quarantine of a version that was taken back, by a person's decision.

    One that was the champion can be rolled back to; one that never was waits for its rollout, and an approval, again.

    Raises
    ------
    RolloutError
        If the version is not in quarantine, or was never the champion and something else is under way.
    """
    for _ in range(ATTEMPTS):
        state = workspace.state()
        if version not in state.quarantined:
            listed = ", ".join(sorted(state.quarantined, key=int)) or "none"
            raise RolloutError(f"version {version} is not in quarantine; in quarantine: {listed}")
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
        apply_side_effects(workspace, f"version {version} is out of quarantine")
        return
    raise RolloutError(f"nothing was lifted in {ATTEMPTS} attempts: other records keep coming first; try again")


def _adopt_rollback(workspace: Workspace, state: LoopState, version: str, to: str | None) -> RolledBack:
    """Return the result of a rollback that somebody else recorded first; raise if its champion is not ``to``."""
    serves = state.champion.number if state.champion else None
    if to not in (None, serves):
        raise RolloutError(f"version {version} was taken back meanwhile, and version {serves} serves, not version {to}")
    finished = _finish_rollback(workspace, state, version)
    return RolledBack(version, serves, (f"somebody else was first: {state.quarantined[version]}", *finished.notes))


def _finish_rollback(workspace: Workspace, state: LoopState, version: str) -> RolledBack:
    """Return the result of a recorded rollback, after applying its side effects."""
    notes = apply_side_effects(workspace, f"version {version} was taken back")
    return RolledBack(version, state.champion.number if state.champion else None, notes)


def _choose_versions(workspace: Workspace, state: LoopState, to: str | None) -> tuple[str, str | None, tuple[str, ...]]:
    """Return the version to take back, the champion to restore, if any, and notes for the user."""
    if state.rollout is None:
        return _change_champion(workspace, state, to)
    challenger, champion = state.rollout.version.number, state.champion.number if state.champion else None
    if to not in (None, champion):
        raise RolloutError(f"version {challenger} is being rolled out; roll that back first, without saying to what")
    return challenger, None, ()


def _change_champion(workspace: Workspace, state: LoopState, to: str | None) -> tuple[str, str, tuple[str, ...]]:
    """Return the champion to take back, the version that shall serve, and notes on checks that could not be made."""
    if state.champion is None:
        raise RolloutError("there is no champion yet; nothing can be rolled back")
    current = state.champion.number
    target = to or _previous_champion(state)
    if target == current:
        raise RolloutError(f"version {current} is the champion already")
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
    except (RegistryError, OwnCodeError) as error:
        if not error.retryable:
            raise RolloutError(f"version {target} cannot serve: {error}") from error
        return current, target, (f"version {target} could not be loaded to make sure: {error}",)
    return current, target, ()


def _previous_champion(state: LoopState) -> str:
    """Return the newest earlier champion that is not in quarantine."""
    assert state.champion is not None
    usable = [number for number in state.champions_before if number not in state.quarantined]
    if not usable:
        others = ", ".join(f"{number} (in quarantine)" for number in state.champions_before)
        raise RolloutError(
            f"no other version to go back to from {state.champion.number}; champions before it: {others or 'none'}"
        )
    return usable[0]
