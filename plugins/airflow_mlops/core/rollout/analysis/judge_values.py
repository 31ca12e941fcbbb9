"""Judge the mean of a value: a business figure of two shares of traffic, or the losses of two models on the same rows.

The margin is a share of the champion's mean, which is itself only estimated. So what is tested is the challenger's mean
less (1 + margin) times the champion's, and both count in its variance. Units of assignment are what varies: all rows of
a unit are one observation of their sum and their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log, sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.ports.rollout_target import UnitSums
from airflow_mlops.core.rollout.analysis.entity_difference import RatioOfSums, ratio_of_sums
from airflow_mlops.core.rollout.analysis.evidence import log_choose, z_of_t, z_without_spread
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook
from airflow_mlops.core.training.row_losses import Floats

Better = Literal["lower", "higher"]
ROUNDING = 1e-12
"""Spread, relative to the values, up to which it counts as rounding."""


def judge_values(
    challenger: UnitSums, champion: UnitSums, look: Look, *, margin: float, better: Better, metric: str = "value"
) -> MetricLook:
    """Return the result for a value by unit of assignment, of two versions that had different units.

    Parameters
    ----------
    challenger, champion : UnitSums
        Sums and counts of each version. Units without a request are left out.
    margin : float
        Share of the champion's mean by which the challenger's may be worse.
    better : str
        Direction of improvement: ``lower`` or ``higher``.
    metric : str
        Name for the record.
    """
    _require_margin(margin)
    try:
        challenger_mean = ratio_of_sums(challenger.total, challenger.count)
        champion_mean = ratio_of_sums(champion.total, champion.count)
    except GateError as unusable:
        return MetricLook(metric, "inconclusive", f"cannot tell: {unusable}")
    worse = 1.0 if better == "lower" else -1.0
    allowed = 1 + worse * margin * float(np.sign(champion_mean.value))
    beyond = worse * (challenger_mean.value - allowed * champion_mean.value)
    error = sqrt(challenger_mean.variance + allowed**2 * champion_mean.variance)
    if error <= ROUNDING * (abs(challenger_mean.value) + abs(champion_mean.value)):
        units = challenger_mean.entities + champion_mean.entities
        z = z_without_spread(beyond, log_choose(units, challenger_mean.entities))
    else:
        z = z_of_t(beyond / error, _welch_degrees(challenger_mean, champion_mean, allowed))
    basis = (
        f"{challenger_mean.requests:,.0f} and {champion_mean.requests:,.0f} requests of {challenger_mean.entities:,} "
        f"and {champion_mean.entities:,} units"
    )
    return _to_result(metric, look, _Comparison(challenger_mean, champion_mean, beyond, error, z, margin), basis)


def judge_paired(
    challenger: Floats,
    champion: Floats,
    look: Look,
    *,
    margin: float,
    units: npt.ArrayLike | None = None,
    metric: str = "loss",
) -> MetricLook:
    """Return the result for the losses of two models on the same rows; lower is better.

    Parameters
    ----------
    challenger, champion : ndarray of float, shape (n_rows,)
        Losses of both models, in the same order.
    margin : float
        Share of the champion's mean loss by which the challenger's may be worse.
    units : array_like, shape (n_rows,), optional
        Unit of assignment of each row. Without them every row counts as one of its own, and the reason says so.
    metric : str
        Name for the record.

    Raises
    ------
    GateError
        If the lengths differ.
    """
    _require_margin(margin)
    if challenger.shape != champion.shape or challenger.ndim != 1:
        raise GateError(f"{challenger.shape} losses of the challenger for {champion.shape} of the champion")
    counts, of_unit = _count_units(units, challenger.size)
    if counts.size < 2:
        reason = (
            f"cannot tell: {challenger.size:,} rows of {counts.size} units; 2 units are needed to know how they differ"
        )
        return MetricLook(metric, "inconclusive", reason)
    bad = int(np.count_nonzero(~np.isfinite(challenger) | ~np.isfinite(champion)))
    if bad:
        return MetricLook(
            metric, "inconclusive", f"cannot tell: {bad:,} of {challenger.size:,} losses are NaN or infinite"
        )
    challenger_mean, champion_mean, contrast = (
        ratio_of_sums(np.bincount(of_unit, weights=losses, minlength=counts.size), counts)
        for losses in (challenger, champion, challenger - _allowed_factor(champion, margin) * champion)
    )
    error = sqrt(contrast.variance)
    if error <= ROUNDING * (abs(challenger_mean.value) + abs(champion_mean.value)):
        z = z_without_spread(contrast.value, counts.size * log(2))  # a sign test: each of the units has one
    else:
        z = z_of_t(contrast.value / error, counts.size - 1)
    basis = f"{challenger.size:,} rows" + ("" if units is None else f" of {counts.size:,} units")
    return _to_result(
        metric, look, _Comparison(challenger_mean, champion_mean, contrast.value, error, z, margin), basis
    )


def judge_mean(challenger: UnitSums, look: Look, *, at_most: float, metric: str = "value") -> MetricLook:
    """Return the result for the challenger's mean against a limit, without regard to the champion."""
    try:
        mean = ratio_of_sums(challenger.total, challenger.count)
    except GateError as unusable:
        return MetricLook(metric, "inconclusive", f"cannot tell: {unusable}")
    beyond, error = mean.value - at_most, sqrt(mean.variance)
    if error <= ROUNDING * (abs(mean.value) + abs(at_most)):
        z = z_without_spread(beyond, mean.entities * log(2))
    else:
        z = z_of_t(beyond / error, mean.entities - 1)
    verdict = look.verdict(worse=z, within=-z)
    phrase = {"fail": "above the limit", "pass": "within the limit", "inconclusive": "cannot tell"}[verdict]
    reason = (
        f"{phrase}: {mean.value:.4g}, at most {at_most:.4g} is allowed; on {mean.requests:,.0f} requests of "
        f"{mean.entities:,} units"
    )
    numbers = {
        "challenger": mean.value,
        "limit": at_most,
        "standard_error": error,
        "z": z,
        "fail_boundary": look.fail_boundary,
        "pass_boundary": look.pass_boundary,
        "challenger_units": mean.entities,
        "challenger_requests": mean.requests,
    }
    if not all(isfinite(number) for number in numbers.values()):
        return MetricLook(metric, "inconclusive", "cannot tell: the values are too large to be added up")
    return MetricLook(metric, verdict, reason, numbers)


@dataclass(frozen=True)
class _Comparison:
    """Two means, the difference of the challenger's from the allowed one, and the evidence for it."""

    challenger: RatioOfSums
    champion: RatioOfSums
    beyond: float
    error: float
    z: float
    margin: float


def _to_result(metric: str, look: Look, comparison: _Comparison, basis: str) -> MetricLook:
    verdict = look.verdict(worse=comparison.z, within=-comparison.z)
    phrase = {"fail": "worse", "pass": "no worse", "inconclusive": "cannot tell"}[verdict]
    champion_value = comparison.champion.value
    relative = (comparison.challenger.value - champion_value) / abs(champion_value) if champion_value else 0.0
    change = f"{relative:+.2%}" if champion_value else f"{comparison.challenger.value - champion_value:+.4g}"
    reason = (
        f"{phrase}: {comparison.challenger.value:.4g} against the champion's {champion_value:.4g} ({change}, "
        f"allowed to be worse by {comparison.margin:.2%}) on {basis}"
    )
    numbers = {
        "challenger": comparison.challenger.value,
        "champion": champion_value,
        "difference": comparison.challenger.value - champion_value,
        "relative": relative,
        "margin": comparison.margin,
        "beyond": comparison.beyond,
        "standard_error": comparison.error,
        "z": comparison.z,
        "fail_boundary": look.fail_boundary,
        "pass_boundary": look.pass_boundary,
        "challenger_units": comparison.challenger.entities,
        "champion_units": comparison.champion.entities,
        "challenger_requests": comparison.challenger.requests,
        "champion_requests": comparison.champion.requests,
    }
    if not all(isfinite(number) for number in numbers.values()):
        return MetricLook(metric, "inconclusive", f"cannot tell: the values are too large to be added up, on {basis}")
    return MetricLook(metric, verdict, reason, numbers)


def _require_margin(margin: float) -> None:
    if not 0 <= margin < float("inf"):
        raise ValueError(f"margin is {margin}; it must be a share of the champion's mean, at least 0")


def _allowed_factor(champion: Floats, margin: float) -> float:
    return 1 + margin * float(np.sign(champion.mean()))


def _count_units(units: npt.ArrayLike | None, rows: int) -> tuple[Floats, npt.NDArray[Any]]:
    """Return the rows of each unit, and the index of the unit of each row; a null is a unit of its own."""
    if units is None:
        return np.ones(rows), np.arange(rows)
    codes, _ = pd.factorize(np.asarray(units), use_na_sentinel=False)
    if codes.size != rows:
        raise GateError(f"{codes.size} units for {rows} rows")
    return np.bincount(codes).astype(np.float64), codes


def _welch_degrees(challenger_mean: RatioOfSums, champion_mean: RatioOfSums, allowed: float) -> float:
    """Return Welch's degrees of freedom."""
    challenger_part, champion_part = challenger_mean.variance, allowed**2 * champion_mean.variance
    largest = max(challenger_part, champion_part)
    challenger_part, champion_part = challenger_part / largest, champion_part / largest
    return (challenger_part + champion_part) ** 2 / (
        challenger_part**2 / (challenger_mean.entities - 1) + champion_part**2 / (champion_mean.entities - 1)
    )
