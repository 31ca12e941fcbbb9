"""Compare the predictions of two versions without labels: their distributions, and row by row where both predicted.

The distance of two distributions is Kuiper's: the largest difference of the shares that fall into one same interval. It
is 0 for equal ones and 1 for a constant beside anything that varies continuously, whatever the constant is; the one of
Kolmogorov and Smirnov is only a half for the champion's median. The error of each sample's distribution is bounded by
the tail of Kuiper's statistic [1]_, and the distance of what was sampled cannot be off by more than both together, be
the two samples of the same rows or not. Of three classes or more the probabilities of each class are compared, and of
several quantiles each quantile, each within the limit; two rows agree if they do in every class or quantile.

References
----------
.. [1] N. H. Kuiper, Indag. Math. 63 (1960) 38-47.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, sqrt

import numpy as np

from airflow_mlops.core.ports.rollout_target import Telemetry
from airflow_mlops.core.rollout.analysis.evidence import counts_above, counts_below, z_of
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook, combine_results
from airflow_mlops.core.training.row_losses import Floats

TOLERANCE = 0.25
"""Largest difference of two agreeing predictions for a row, in spreads of the champion's predictions."""

LARGEST = 1e150
"""Absolute value at which predictions are clipped, so that their differences are finite."""


def judge_predictions(
    telemetry: Telemetry,
    look: Look,
    *,
    at_most: float = 0.5,
    disagree_at_most: float | None = None,
    tolerance: float = TOLERANCE,
    names: tuple[str, ...] = (),
) -> MetricLook:
    """Return the result of the prediction metric, from the predictions of both versions.

    Parameters
    ----------
    at_most : float
        Distance of the two distributions, within 0 and 1, that is allowed.
    disagree_at_most : float, optional
        Share of the rows on which both may differ by more than ``tolerance`` spreads of the champion's predictions.
        Needs rows that both predicted, as in a shadow.
    tolerance : float
        Largest difference of two agreeing predictions, in spreads of the champion's predictions.
    names : tuple of str
        The names of three classes or more, whose probabilities the predictions are, or of several quantiles; none
        where a prediction is one number.

    Raises
    ------
    ValueError
        If a limit is not within 0 and 1, or the tolerance is below 0.
    """
    if not 0 <= at_most <= 1 or not 0 <= (disagree_at_most or 0.0) <= 1 or not tolerance >= 0:
        raise ValueError(
            f"limits {at_most}, {disagree_at_most} must be within 0 and 1, tolerance {tolerance} not below 0"
        )
    names = names or ("",)
    part_look = look.split(len(names) + int(disagree_at_most is not None))
    challenger, champion = telemetry.challenger.predictions, telemetry.champion.predictions
    if telemetry.paired.size and not (challenger.size and champion.size):
        champion, challenger = telemetry.paired[:, 0], telemetry.paired[:, 1]
    samples = (sample.reshape(-1, len(names)).T for sample in (challenger, champion))
    parts = [
        _named(_distance(_finite(own), _finite(others), part_look, at_most), name)
        for name, own, others in zip(names, *samples, strict=True)
    ]
    if disagree_at_most is not None:
        parts.append(_disagreement(telemetry.paired, part_look, disagree_at_most, tolerance))
    return combine_results("predictions", parts)


def kuiper_distance(challenger: Floats, champion: Floats) -> float:
    """Return the largest difference of the shares of two samples, each of at least one value, within one interval.

    >>> kuiper_distance(np.array([2.0, 2.0]), np.array([1.0, 2.0, 2.0, 3.0]))
    0.5
    """
    values = np.concatenate([challenger, champion])
    shares = [np.searchsorted(np.sort(sample), values, side="right") / sample.size for sample in (challenger, champion)]
    difference = shares[0] - shares[1]
    return float(max(difference.max(), 0.0) - min(difference.min(), 0.0))


def kuiper_tail(size: float) -> float:
    """Return the chance that Kuiper's statistic of a sample, times the root of its rows, is above ``size``.

    >>> round(kuiper_tail(1.747), 3), round(kuiper_tail(2.001), 3)
    (0.05, 0.01)
    """
    if size < 1:
        return 1.0
    terms = (2 * (4 * (j * size) ** 2 - 1) * exp(-2 * (j * size) ** 2) for j in range(1, 6))
    return min(sum(terms), 1.0)


def _named(part: MetricLook, name: str) -> MetricLook:
    """Return the result of a class or quantile under its name; as it is where predictions are one number."""
    return replace(part, metric=f"{part.metric}.{name}", reason=f"{name}: {part.reason}") if name else part


def _distance(challenger: Floats, champion: Floats, look: Look, limit: float) -> MetricLook:
    if not challenger.size or not champion.size:
        reason = f"{challenger.size:,} predictions of the challenger and {champion.size:,} of the champion are known"
        return MetricLook("distance", "inconclusive", reason)
    distance = kuiper_distance(challenger, champion)
    unit = 1 / sqrt(challenger.size) + 1 / sqrt(champion.size)
    worse = z_of(min(2 * kuiper_tail((distance - limit) / unit), 1.0)) if distance > limit else z_of(1.0)
    within = z_of(min(2 * kuiper_tail((limit - distance) / unit), 1.0)) if distance < limit else z_of(1.0)
    verdict = look.verdict(worse=worse, within=within)
    phrase = {"fail": "unlike", "pass": "alike", "inconclusive": "cannot tell"}[verdict]
    median, champion_median = float(np.median(challenger)), float(np.median(champion))
    constant = challenger.size > 1 and bool((challenger == challenger[0]).all())
    reason = (
        f"{phrase}: distance {distance:.3f} of {challenger.size:,} predictions from {champion.size:,} of the "
        f"champion's, at most {limit:g} is allowed; "
        + (f"each is {median:.4g}" if constant else f"their median is {median:.4g}")
        + f", the champion's {champion_median:.4g}"
    )
    return MetricLook(
        "distance",
        verdict,
        reason,
        {
            "distance": distance,
            "limit": limit,
            "worse": worse,
            "within": within,
            "fail_boundary": look.fail_boundary,
            "pass_boundary": look.pass_boundary,
            "median": median,
            "champion_median": champion_median,
            "predictions": challenger.size,
            "champion_predictions": champion.size,
        },
    )


def _disagreement(paired: Floats, look: Look, limit: float, tolerance: float) -> MetricLook:
    pairs = paired.reshape(len(paired), 2, -1) if paired.size else np.zeros((0, 2, 1))
    both = np.clip(pairs[np.isfinite(pairs).all(axis=(1, 2))], -LARGEST, LARGEST)
    if len(both) < 2:
        reason = f"{len(both)} rows were predicted by both; 2 are needed to know how the champion's predictions differ"
        return MetricLook("disagreement", "inconclusive", reason)
    spreads = np.array([spread_of(values) for values in both[:, 0].T])
    gap = np.abs(both[:, 1] - both[:, 0])
    differ, rows = int(np.count_nonzero((gap > tolerance * spreads).any(axis=1))), len(both)
    spread = float(spreads.max())
    worse, within = counts_above(differ, rows, limit), counts_below(differ, rows, limit)
    verdict = look.verdict(worse=worse, within=within)
    phrase = {"fail": "disagree", "pass": "agree", "inconclusive": "cannot tell"}[verdict]
    reason = (
        f"{phrase}: {differ / rows:.1%} of {rows:,} rows that both predicted differ by more than {tolerance:g} of the "
        f"champion's spread, at most {limit:.1%} may; by {gap.mean():.3g} on average, the spread is {spread:.3g}"
    )
    return MetricLook(
        "disagreement",
        verdict,
        reason,
        {
            "differ": differ / rows,
            "limit": limit,
            "rows": rows,
            "tolerance": tolerance,
            "spread": spread,
            "mean_difference": float(gap.mean()),
            "worse": worse,
            "within": within,
            "fail_boundary": look.fail_boundary,
            "pass_boundary": look.pass_boundary,
        },
    )


def _finite(predictions: Floats) -> Floats:
    """Return the finite predictions, clipped; the others count as errors."""
    return np.clip(predictions[np.isfinite(predictions)], -LARGEST, LARGEST)


def spread_of(values: Floats) -> float:
    """Return the standard deviation that a normal distribution with the same quartiles has; the plain one if that is 0.

    >>> round(spread_of(np.linspace(-1.349, 1.349, 1001)), 3)
    1.0
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 1.349 or float(np.std(values))
