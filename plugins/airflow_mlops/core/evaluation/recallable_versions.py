"""The earlier champions that a training may recall: where a season comes back, one may beat every new fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version


def recallable_versions(
    state: LoopState, holdout: Collection[str], *, limit: int, now: LoopState | None = None
) -> list[Version]:
    """Return the earlier champions that may be judged on a holdout, the newest promotion first.

    A version that serves, was ever rolled back, is in quarantine, or was fitted on a partition of the holdout is none.

    Parameters
    ----------
    holdout : collection of str
        Keys of the partitions that they are judged on.
    limit : int
        Largest number of them.
    now : LoopState, optional
        The current state, which knows later rollbacks; ``state`` by default.
    """
    return list(islice(_earlier_champions(state, frozenset(holdout), now or state), limit))


def _earlier_champions(state: LoopState, holdout: frozenset[str], now: LoopState) -> Iterator[Version]:
    serving = {each.champion.number for each in (state, now) if each.champion is not None}
    seen = set(serving)
    for _, number in state.promotions.newest_first():
        if number in seen:
            continue
        seen.add(number)
        version = state.versions.get(number)
        taken_back = number in now.rolled_back or number in now.quarantined
        if version is not None and not taken_back and holdout.isdisjoint(_fitted(version)):
            yield version


def _fitted(version: Version) -> Iterator[str]:
    return (pin.partition for pin in version.details.trained_on.fitted)


def best_below(losses: Mapping[str, float], below: float) -> str | None:
    """Return the version with the least loss if that is less than ``below``; of equal ones the first.

    >>> best_below({"3": 0.5, "2": 0.4}, 0.6), best_below({"3": 0.5}, 0.5), best_below({}, 1.0)
    ('2', None, None)
    """
    best = min(losses, key=losses.__getitem__, default=None)
    return best if best is not None and losses[best] < below else None
