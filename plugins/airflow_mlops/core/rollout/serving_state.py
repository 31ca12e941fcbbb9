"""Who serves a partition: the versions that were in their place before it, without those that were taken back since.

Nothing heavy is imported here: before there is a champion this is all that a run of the score Dag needs.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import StateMachine
from airflow_mlops.core.workspace import Workspace


def require_champion(workspace: Workspace, partition: str) -> StateMachine:
    """Return who serves a partition: a champion from before it, and a challenger under way.

    Raises
    ------
    NotReadyError
        If there is no champion from before the partition.
    """
    newest = workspace.state()
    then = serving_state(workspace.state(before=partition), newest)
    if then.champion is None:
        raise NotReadyError(
            f"partition {partition} is not predicted, and nothing follows from it: there is no champion from before "
            f"it; {_first_champion(newest)}"
        )
    return then


def _first_champion(state: LoopState) -> str:
    """Return since when there is a champion, in words, or what it waits for."""
    first = next(iter(state.promotions.keys()), None)
    if first is not None:
        return f"the first version became the champion as of {first.partition('|')[0]}"
    return f"no version became the champion yet: {state.in_flight or 'no training is under way'}"


def serving_state(then: LoopState, newest: LoopState) -> StateMachine:
    """Return the state before a partition, with versions that were taken back since removed or replaced.

    A rollback is recorded for the newest partition. Older ones that wait to be scored were published before it, and
    are predicted after it.
    """
    rollout, champion = then.rollout, then.champion
    if rollout is not None and rollout.version.number in newest.quarantined:
        rollout = None
    visited: set[str] = set()
    while champion is not None and champion.number in newest.quarantined and champion.number not in visited:
        visited.add(champion.number)
        rollback = newest.rolled_back.get(champion.number)
        if rollback is None or rollback.champion is None:
            break  # quarantined otherwise: the ledger names no version in its place
        champion = newest.versions[rollback.champion]
    return replace(then.machine, rollout=rollout, champion=champion)
