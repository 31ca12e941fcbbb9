"""The order of a reference's windows, and the tails of their effects: how they move by themselves.

A threshold from the spread of a reference's windows takes them for draws of one distribution. Windows that trend or
follow a season are not, and eight draws do not say how far the hundredth goes. Both are tested here, on the differences
between the reference's own windows alone: whatever the judged window does has no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

from airflow_mlops.core.watch.drift.heavy_tails import Tails

Floats = npt.NDArray[np.float64]

SEED = 13
ORDERS = 999
ORDER_LEVEL, COLUMN_ORDER_LEVEL = 0.02, 0.002
"""How often exchangeable windows may be taken to follow an order: all columns together, and one by itself."""
DEGREES = (2.0, 3.0, 4.0, 6.0, 10.0, 30.0, np.inf)
"""Degrees of freedom of Student's t that weeks may have; without a bound they are normal."""
BELIEFS = (*[1 / 12] * 6, 1 / 2)
"""The weight of each before any week is seen: half for normal weeks, and the other half in equal parts."""
HEAVIEST: Tails = ((2.0, 1.0),)
"""What is assumed where the tails are not known and may be as heavy: a variance without a bound."""
HEAVY = 4.0
"""Largest degrees of freedom of tails that are heavy: their fourth moment has no bound."""
COUNTS = 0.03
"""Weight from which on tails count: with so much, heavy ones fill a column's rate where normal ones say new."""
NEGLIGIBLE = 1e-3
"""Weight of tails that are left out."""
CENTRES = np.linspace(-3.0, 3.0, 25)
SCALES = np.exp(np.linspace(np.log(0.15), np.log(8.0), 14))


def squared_distances(effects: Floats) -> Floats:
    """Return the squared distances between windows, shape (n_windows, n_windows), as shares of their mean.

    Parameters
    ----------
    effects : array of float, shape (n_windows, n_cells)
        The deviations of each window.
    """
    inner = effects @ effects.T
    distances: Floats = np.maximum(np.diag(inner)[:, None] + np.diag(inner) - 2 * inner, 0.0)
    mean = distances.mean()
    return distances / mean if mean > 0 else distances


def order_p_value(distances: Floats) -> float:
    """Return the chance that windows in random order keep as even or as uneven a distance at some lag.

    An exact permutation test, up to the number of orders that are drawn: the mean distance at each lag is compared with
    that of other orders, and the lag that differs most decides.

    Parameters
    ----------
    distances : array of float, shape (n_windows, n_windows)
        Squared distances between windows in their order.
    """
    windows = len(distances)
    if windows < 4:
        return 1.0
    orders, lags = _orders(windows)
    means = np.array([distances[orders[:, lag:], orders[:, :-lag]].mean(axis=1) for lag in lags])
    deviations = np.abs(means - means.mean(axis=1, keepdims=True)) / np.maximum(means.std(axis=1), 1e-12)[:, None]
    most = deviations.max(axis=0)
    return float((most >= most[0] * (1 - 1e-9)).mean())


@lru_cache(maxsize=64)
def _orders(windows: int) -> tuple[npt.NDArray[np.int64], range]:
    """Return orders of windows, shape (n_orders, n_windows), the first as they are, and the lags to compare."""
    random = np.random.default_rng([SEED, windows])
    drawn = random.permuted(np.tile(np.arange(windows), (ORDERS, 1)), axis=1)
    return np.vstack([np.arange(windows), drawn]), range(1, max(2, windows * 3 // 4))


def first_direction(effects: Floats) -> Floats:
    """Return the place of each window on the line along which they differ most, shape (n_windows,)."""
    centred = effects - effects.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    places: Floats = left[:, 0] * values[0]
    return places


def independent_columns(places: Floats) -> float:
    """Return among how many independent columns the windows' effects are, between 1 and their number.

    Parameters
    ----------
    places : array of float, shape (n_columns, n_windows)
        Where the windows of each column lie.
    """
    columns, windows = places.shape
    if columns < 2:
        return float(columns)
    correlations = np.corrcoef(places)
    squared = float((correlations**2).sum() - columns) / (columns * (columns - 1))
    chance = 1 / (windows - 1)  # of independent columns
    shared = min(max((squared - chance) / (1 - chance), 0.0), 1.0)
    return float(columns / (1 + (columns - 1) * shared))


def tail_of(places: Sequence[Floats] | Floats) -> Tails:
    """Return the tails that the windows' effects may have, each with its weight.

    The weight of some degrees of freedom of Student's t is their belief times their likelihood, whatever centre and
    scale each column has. Columns that move together count as the fewer.

    Parameters
    ----------
    places : sequence of array of float, each shape (n_windows,)
        Where the windows of each column lie; all of the same number of windows.
    """
    table = np.array(places)
    share = independent_columns(table) / len(table)
    logs = log_likelihoods(table).sum(axis=0) * share + np.log(BELIEFS)
    weights = np.exp(logs - logsumexp(logs))
    kept = weights >= NEGLIGIBLE
    weights = weights[kept] / weights[kept].sum()
    return tuple(zip(np.array(DEGREES)[kept].tolist(), weights.tolist(), strict=True))


def are_known(tails: Tails) -> bool:
    """Return whether windows tell if their tails are heavy.

    >>> are_known(((2.0, 0.2), (3.0, 0.78), (6.0, 0.02))), are_known(((3.0, 0.1), (10.0, 0.9)))
    (True, False)
    """
    heavy = sum(weight for degrees, weight in tails if degrees <= HEAVY)
    return not COUNTS < heavy < 1 - COUNTS


def careful_tails(tails: Tails) -> Tails:
    """Return the tails that are assumed where they are not known: the heaviest if they count, else all by their weight.

    >>> careful_tails(((2.0, 0.2), (10.0, 0.8)))
    ((2.0, 1.0),)
    """
    return HEAVIEST if dict(tails).get(DEGREES[0], 0.0) >= COUNTS else tails


def log_likelihoods(places: Floats) -> Floats:
    """Return the log likelihood of each number of degrees of freedom, shape (n_columns, n_degrees).

    Centre and scale are integrated out, over every centre and every logarithm of the scale.

    Parameters
    ----------
    places : array of float, shape (n_columns, n_windows)
    """
    centred = places - np.median(places, axis=1, keepdims=True)
    scales = np.maximum(np.quantile(np.abs(centred), 0.6, axis=1, keepdims=True), 1e-300)
    moved = (centred / scales)[:, None, :] - CENTRES[:, None]
    windows, logs = places.shape[1], []
    for degrees in DEGREES:
        parts = [log_density(moved / scale, degrees).sum(axis=2) - windows * np.log(scale) for scale in SCALES]
        logs.append(logsumexp(np.array(parts), axis=(0, 2)))
    return np.array(logs).T


def log_density(values: Floats, degrees: float) -> Floats:
    """Return the logarithm of the density of Student's t, or of the normal one for degrees without a bound."""
    if np.isinf(degrees):
        normal: Floats = -(np.log(2 * np.pi) + values**2) / 2
        return normal
    constant = gammaln((degrees + 1) / 2) - gammaln(degrees / 2) - np.log(degrees * np.pi) / 2
    students: Floats = constant - (degrees + 1) / 2 * np.log1p(values**2 / degrees)
    return students
