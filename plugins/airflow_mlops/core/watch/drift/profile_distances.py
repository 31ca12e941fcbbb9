"""Distances of two samples from their counts: no rows are needed, and none are kept.

The counts of both are on the same bins. Distances of shares take any bins; KS and Wasserstein need bins in the order
of their values, Wasserstein the sums of the bins too. Logarithms are natural.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.errors import ProfileMismatchError

Shares = npt.NDArray[np.float64]

PSEUDO_COUNT = 0.5


def population_stability_index(
    reference: npt.ArrayLike, current: npt.ArrayLike, *, pseudo_count: float = PSEUDO_COUNT
) -> float:
    """Return the population stability index (PSI) less its expectation without drift, in nats.

    PSI = sum_b (q_b - p_b) ln(q_b / p_b): the symmetric divergence of Jeffreys [1]_. Without drift it is not 0 but
    close to (B - 1) (1 / n + 1 / m) for samples of n and m rows in B bins, which is taken off. What is left lies
    around 0, on either side of it, where nothing has moved.

    Parameters
    ----------
    reference, current : array_like of int, shape (n_bins,)
        Rows in each bin; about ten bins are usual.
    pseudo_count : float, default 0.5
        Rows added to every bin that is not empty in both, so that a bin empty in one gives a large number, not an
        infinite one.

    Raises
    ------
    ProfileMismatchError
        If the two have not the same number of bins, or one of them has no rows.

    References
    ----------
    .. [1] H. Jeffreys, Proc. R. Soc. Lond. A 186 (1946) 453-461.
    """
    first, second = checked_counts(reference, current)
    p, q = shares(first + pseudo_count), shares(second + pseudo_count)
    null = (len(first) - 1) * (1 / first.sum() + 1 / second.sum())
    return float(((q - p) * np.log(q / p)).sum() - null)


def jensen_shannon(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """Return the Jensen-Shannon distance, the root of the divergence in bits: from 0 to 1."""
    p, q = (shares(counts) for counts in checked_counts(reference, current))
    middle = (p + q) / 2
    divergence = sum(
        (part * np.log2(np.divide(part, middle, out=np.ones_like(part), where=part > 0))).sum() / 2 for part in (p, q)
    )
    return float(np.sqrt(np.clip(divergence, 0.0, 1.0)))


def kolmogorov_smirnov(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """Return the Kolmogorov-Smirnov distance at the edges of the bins: from 0 to 1.

    The greatest difference of the samples themselves lies between two edges and is larger by a little: with 64 bins of
    equal shares, by 0.0002 to 0.0005 at shifts that matter.
    """
    p, q = (shares(counts) for counts in checked_counts(reference, current, keep_empty=True))
    return float(np.clip(np.abs(np.cumsum(p - q)).max(), 0.0, 1.0))


def wasserstein(
    reference: npt.ArrayLike, reference_sums: npt.ArrayLike, current: npt.ArrayLike, current_sums: npt.ArrayLike
) -> float:
    """Return the Wasserstein (earth mover's) distance: how far values moved on average, in the unit of the values.

    The rows of a bin are taken to lie at their mean, in either sample. A shift of all values by one amount is then
    exact, whatever the bins.

    Parameters
    ----------
    reference, current : array_like of int, shape (n_bins,)
        Finite values in each bin.
    reference_sums, current_sums : array_like of float, shape (n_bins,)
        Their sums.
    """
    counts = checked_counts(reference, current, keep_empty=True)
    sums = [np.asarray(side, np.float64) for side in (reference_sums, current_sums)]
    filled = [count > 0 for count in counts]
    positions = np.concatenate(
        [total[mask] / count[mask] for total, count, mask in zip(sums, counts, filled, strict=True)]
    )
    masses = np.concatenate([shares(counts[0])[filled[0]], -shares(counts[1])[filled[1]]])
    order = np.argsort(positions, kind="stable")
    cumulative = np.cumsum(masses[order])[:-1]
    with np.errstate(over="ignore"):
        moved = (np.abs(cumulative) * np.diff(positions[order])).sum()
    return float(min(moved, np.finfo(np.float64).max))


def checked_counts(
    reference: npt.ArrayLike, current: npt.ArrayLike, *, keep_empty: bool = False
) -> tuple[Shares, Shares]:
    """Return both counts as floats, without bins that are empty in both.

    Parameters
    ----------
    reference, current : array_like of int, shape (n_bins,)
    keep_empty : bool, default False
        Whether bins that are empty in both stay.

    Raises
    ------
    ProfileMismatchError
        If the two have not the same number of bins, or one of them has no rows.
    """
    first, second = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ProfileMismatchError(f"{first.size} bins cannot be compared with {second.size}; count both on one")
    if not first.sum() > 0 or not second.sum() > 0:
        raise ProfileMismatchError("a sample without rows has no distance from another")
    kept_bins = np.ones(len(first), bool) if keep_empty else (first + second) > 0
    return first[kept_bins], second[kept_bins]


def shares(counts: npt.NDArray[Any]) -> Shares:
    """Return the counts as shares that add up to 1."""
    fractions: Shares = counts / counts.sum()
    return fractions
