"""The earlier champions that a training may recall: where a season comes back, one may beat every new fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from statistics import NormalDist

import numpy as np

from airflow_mlops.core.declaration.evaluate import confidence_of_several
from airflow_mlops.core.declaration.retrain import Retrain
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.training.row_losses import Floats, standard_error

MIN_ROWS = 100
"""Labelled rows of a holdout from which one may be recalled: few partitions decide, and several are tried on them."""


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


def evident_recall(
    earlier: Mapping[str, Floats],
    beside: Mapping[str, Floats],
    champion: str,
    declared: Retrain,
    *,
    weight: Floats | None = None,
) -> str | None:
    """Return the version that a training would have recalled by its losses on a holdout; None for a fit.

    It is better than all models beside it, and than the champion with the confidence that is asked of the best of as
    many as may be tried.

    Parameters
    ----------
    earlier : mapping of str to ndarray of float, shape (n_rows,)
        Losses of the earlier champions on the labelled rows of the holdout, by version.
    beside : mapping of str to ndarray of float, shape (n_rows,)
        Losses of the champion and of the fits, by name.
    champion : str
        Name of the champion among those beside.
    declared : Retrain
        The section with ``confidence`` and ``recall``.
    weight : ndarray of float, shape (n_rows,), optional
        The weights of the rows.
    """
    if champion not in beside or beside[champion].size < MIN_ROWS:
        return None
    means, others = mean_losses(earlier, weight), mean_losses(beside, weight)
    best = best_below(means, min(others.values()))
    if best is None or declared.confidence == "none":
        return None
    quantile = NormalDist().inv_cdf(confidence_of_several(declared.confidence, declared.recall))
    error = standard_error(earlier[best] - beside[champion], weight)
    return best if means[best] + quantile * error < others[champion] else None


def mean_losses(losses: Mapping[str, Floats], weight: Floats | None) -> dict[str, float]:
    """Return the mean loss of each model by the weights of the rows, by name."""
    return {name: float(np.average(rows, weights=weight)) for name, rows in losses.items()}
