"""The mean of a value: a business figure of two shares of traffic, or the losses of two models on the same rows.

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
"""Spread, relative to the values, that is nothing but rounding."""


def judge_values(
    ours: UnitSums, theirs: UnitSums, look: Look, *, margin: float, better: Better, metric: str = "value"
) -> MetricLook:
    """Return what a value of each request, by unit of assignment, says of two versions that had different units.

    Parameters
    ----------
    ours, theirs : UnitSums
        Challenger's and champion's sums and counts. Units without a request are left out.
    margin : float
        Share of the champion's mean by which the challenger's may be worse.
    better : str
        Which way is better.
    metric : str
        Name for the record.
    """
    _checked(margin)
    try:
        challenger, champion = ratio_of_sums(ours.total, ours.count), ratio_of_sums(theirs.total, theirs.count)
    except GateError as unusable:
        return MetricLook(metric, "inconclusive", f"cannot tell: {unusable}")
    worse = 1.0 if better == "lower" else -1.0
    allowed = 1 + worse * margin * float(np.sign(champion.value))
    beyond = worse * (challenger.value - allowed * champion.value)
    error = sqrt(challenger.variance + allowed**2 * champion.variance)
    if error <= ROUNDING * (abs(challenger.value) + abs(champion.value)):
        units = challenger.entities + champion.entities
        z = z_without_spread(beyond, log_choose(units, challenger.entities))
    else:
        z = z_of_t(beyond / error, _degrees(challenger, champion, allowed))
    basis = (
        f"{challenger.requests:,.0f} and {champion.requests:,.0f} requests of {challenger.entities:,} and "
        f"{champion.entities:,} units"
    )
    return _judged(metric, look, _Seen(challenger, champion, beyond, error, z, margin), basis)


def judge_paired(
    ours: Floats,
    theirs: Floats,
    look: Look,
    *,
    margin: float,
    units: npt.ArrayLike | None = None,
    metric: str = "loss",
) -> MetricLook:
    """Return what the losses of two models on the same rows say; less is better.

    Parameters
    ----------
    ours, theirs : ndarray of float, shape (n_rows,)
        Losses of challenger and champion, in the same order.
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
    _checked(margin)
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise GateError(f"{ours.shape} losses of the challenger for {theirs.shape} of the champion")
    counts, of_unit = _units(units, ours.size)
    if counts.size < 2:
        reason = f"cannot tell: {ours.size:,} rows of {counts.size} units; 2 units are needed to know how they differ"
        return MetricLook(metric, "inconclusive", reason)
    bad = int(np.count_nonzero(~np.isfinite(ours) | ~np.isfinite(theirs)))
    if bad:
        return MetricLook(metric, "inconclusive", f"cannot tell: {bad:,} of {ours.size:,} losses are NaN or infinite")
    challenger, champion, contrast = (
        ratio_of_sums(np.bincount(of_unit, weights=losses, minlength=counts.size), counts)
        for losses in (ours, theirs, ours - _allowed(theirs, margin) * theirs)
    )
    error = sqrt(contrast.variance)
    if error <= ROUNDING * (abs(challenger.value) + abs(champion.value)):
        z = z_without_spread(contrast.value, counts.size * log(2))  # a sign test: each of the units has one
    else:
        z = z_of_t(contrast.value / error, counts.size - 1)
    basis = f"{ours.size:,} rows" + ("" if units is None else f" of {counts.size:,} units")
    return _judged(metric, look, _Seen(challenger, champion, contrast.value, error, z, margin), basis)


def judge_mean(ours: UnitSums, look: Look, *, at_most: float, metric: str = "value") -> MetricLook:
    """Return whether the challenger's mean is above a limit, whatever the champion's is."""
    try:
        challenger = ratio_of_sums(ours.total, ours.count)
    except GateError as unusable:
        return MetricLook(metric, "inconclusive", f"cannot tell: {unusable}")
    beyond, error = challenger.value - at_most, sqrt(challenger.variance)
    if error <= ROUNDING * (abs(challenger.value) + abs(at_most)):
        z = z_without_spread(beyond, challenger.entities * log(2))
    else:
        z = z_of_t(beyond / error, challenger.entities - 1)
    verdict = look.verdict(worse=z, within=-z)
    said = {"fail": "above the limit", "pass": "within the limit", "inconclusive": "cannot tell"}[verdict]
    reason = (
        f"{said}: {challenger.value:.4g}, at most {at_most:.4g} is allowed; on {challenger.requests:,.0f} requests of "
        f"{challenger.entities:,} units"
    )
    numbers = {
        "challenger": challenger.value, "limit": at_most, "standard_error": error, "z": z,
        "fail_boundary": look.fail_boundary, "pass_boundary": look.pass_boundary,
        "challenger_units": challenger.entities, "challenger_requests": challenger.requests,
    }  # fmt: skip
    if not all(isfinite(number) for number in numbers.values()):
        return MetricLook(metric, "inconclusive", "cannot tell: the values are too large to be added up")
    return MetricLook(metric, verdict, reason, numbers)


@dataclass(frozen=True)
class _Seen:
    """Two means, by how much the challenger's is beyond what is allowed, and the evidence for that."""

    challenger: RatioOfSums
    champion: RatioOfSums
    beyond: float
    error: float
    z: float
    margin: float


def _judged(metric: str, look: Look, seen: _Seen, basis: str) -> MetricLook:
    verdict = look.verdict(worse=seen.z, within=-seen.z)
    said = {"fail": "worse", "pass": "no worse", "inconclusive": "cannot tell"}[verdict]
    before = seen.champion.value
    relative = (seen.challenger.value - before) / abs(before) if before else 0.0
    change = f"{relative:+.2%}" if before else f"{seen.challenger.value - before:+.4g}"
    reason = (
        f"{said}: {seen.challenger.value:.4g} against the champion's {before:.4g} ({change}, allowed to be worse by "
        f"{seen.margin:.2%}) on {basis}"
    )
    numbers = {
        "challenger": seen.challenger.value, "champion": before,
        "difference": seen.challenger.value - before, "relative": relative, "margin": seen.margin,
        "beyond": seen.beyond, "standard_error": seen.error, "z": seen.z, "fail_boundary": look.fail_boundary,
        "pass_boundary": look.pass_boundary, "challenger_units": seen.challenger.entities,
        "champion_units": seen.champion.entities, "challenger_requests": seen.challenger.requests,
        "champion_requests": seen.champion.requests,
    }  # fmt: skip
    if not all(isfinite(number) for number in numbers.values()):
        return MetricLook(metric, "inconclusive", f"cannot tell: the values are too large to be added up, on {basis}")
    return MetricLook(metric, verdict, reason, numbers)


def _checked(margin: float) -> None:
    if not 0 <= margin < float("inf"):
        raise ValueError(f"margin is {margin}; it must be a share of the champion's mean, at least 0")


def _allowed(theirs: Floats, margin: float) -> float:
    return 1 + margin * float(np.sign(theirs.mean()))


def _units(units: npt.ArrayLike | None, rows: int) -> tuple[Floats, npt.NDArray[Any]]:
    """Return how many rows each unit has, and the number of the unit of each row; a null is a unit of its own."""
    if units is None:
        return np.ones(rows), np.arange(rows)
    codes, _ = pd.factorize(np.asarray(units), use_na_sentinel=False)
    if codes.size != rows:
        raise GateError(f"{codes.size} units for {rows} rows")
    return np.bincount(codes).astype(np.float64), codes


def _degrees(challenger: RatioOfSums, champion: RatioOfSums, allowed: float) -> float:
    """Return Welch's degrees of freedom."""
    ours, theirs = challenger.variance, allowed**2 * champion.variance
    most = max(ours, theirs)
    ours, theirs = ours / most, theirs / most
    return (ours + theirs) ** 2 / (ours**2 / (challenger.entities - 1) + theirs**2 / (champion.entities - 1))
