"""The share of requests that a version raises on: shown too high, shown fine, or neither.

The difference from the champion is tested by its score: both counts are compared with what is most likely if the
challenger is exactly at its limit [1]_. The score is the sum of the two versions' z values, each weighted by its
standard deviation; here each z is that of an exact binomial test, as a few errors are no normal variable. So a version
without any error passes only once it has had enough requests. Where units of assignment differ by more than chance
lets them, the counts are divided by how many times that widens the variance [2]_.

References
----------
.. [1] C. P. Farrington and G. Manning, Statistics in Medicine 9 (1990) 1447-1454.
.. [2] J. N. K. Rao and A. J. Scott, Biometrics 48 (1992) 577-585.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, isfinite, sqrt

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.ports.rollout_target import Telemetry, VersionTelemetry
from airflow_mlops.core.rollout.analysis.entity_difference import ratio_of_sums
from airflow_mlops.core.rollout.analysis.evidence import counts_above, counts_below, z_of_t
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook, all_of


@dataclass(frozen=True)
class ErrorCount:
    """Errors and requests of a version. ``variance`` of their share is that by unit; None where units are unknown."""

    errors: float
    requests: float
    units: int
    variance: float | None

    @property
    def share(self) -> float:
        """Errors for each request; 0 without a request."""
        return self.errors / self.requests if self.requests else 0.0


def judge_errors(
    telemetry: Telemetry, look: Look, *, worse_by: float | None = None, at_most: float | None = None
) -> MetricLook:
    """Return what the errors of the two versions say.

    Parameters
    ----------
    worse_by : float, optional
        How much higher than the champion's the challenger's share of errors may be, as a share of requests: 0.01 is a
        point.
    at_most : float, optional
        Share of errors that the challenger may have whatever the champion does.

    Raises
    ------
    ValueError
        If there is no limit, or one that is not within 0 and 1.
    """
    limits = {"worse_by": worse_by, "at_most": at_most}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if not given or not all(0 <= limit <= 1 for limit in given.values()):
        raise ValueError(
            f"the error share needs a limit within 0 and 1, worse_by or at_most; there is {given or 'none'}"
        )
    ours, theirs = error_count(telemetry.challenger), error_count(telemetry.champion)
    each = look.split(len(given))
    parts = []
    if worse_by is not None:
        parts.append(_against_champion(ours, theirs, each, worse_by))
    if at_most is not None:
        parts.append(_against_limit(ours, each, at_most))
    return all_of("errors", parts)


def error_count(version: VersionTelemetry) -> ErrorCount:
    """Return the errors and requests of a version, by unit where the target knows them.

    Raises
    ------
    GateError
        If a count is NaN, infinite or negative, or there are more errors than requests.
    """
    by_unit = version.errors_by_unit
    if by_unit is None:
        counted = ErrorCount(float(version.errors), float(version.requests), version.requests, None)
    elif by_unit.count.size < 2:
        counted = ErrorCount(float(by_unit.total.sum()), float(by_unit.count.sum()), int(by_unit.count.size), 0.0)
    else:
        found = ratio_of_sums(by_unit.total, by_unit.count)
        counted = ErrorCount(found.value * found.requests, found.requests, found.entities, found.variance)
    if not (isfinite(counted.requests) and -1e-9 <= counted.errors <= counted.requests * (1 + 1e-9)):
        raise GateError(f"{counted.errors:g} errors in {counted.requests:g} requests cannot be")
    return counted


def _against_champion(ours: ErrorCount, theirs: ErrorCount, look: Look, margin: float) -> MetricLook:
    by_unit = ours.variance is not None and theirs.variance is not None
    if not ours.requests or not theirs.requests:
        return MetricLook("worse_by", "inconclusive", _nothing(ours, theirs))
    if by_unit and min(ours.units, theirs.units) < 2:
        reason = f"{ours.units} and {theirs.units} units with a request, 2 of each are needed to know how they differ"
        return MetricLook("worse_by", "inconclusive", reason)
    widened = _widened(ours, theirs) if by_unit else 1.0
    worse, within = _evidence(ours, theirs, margin, widened)
    if by_unit:
        degrees = min(ours.units, theirs.units) - 1
        worse, within = z_of_t(worse, degrees), z_of_t(within, degrees)
    verdict = look.verdict(worse=worse, within=within)
    points = 100 * (ours.share - theirs.share)
    reason = (
        f"{_said(verdict)}: errors in {ours.share:.3%} of {ours.requests:,.0f} requests, the champion's in "
        f"{theirs.share:.3%} of {theirs.requests:,.0f}; {points:+.3f} points, allowed {100 * margin:+.3f}; "
        f"{_basis(ours, theirs, by_unit)}"
    )
    return MetricLook(
        "worse_by", verdict, reason,
        {
            "difference": ours.share - theirs.share, "margin": margin, "worse": worse, "within": within,
            "fail_boundary": look.fail_boundary, "pass_boundary": look.pass_boundary, "design_effect": widened,
            "challenger": ours.share, "challenger_requests": ours.requests, "challenger_units": ours.units,
            "champion": theirs.share, "champion_requests": theirs.requests, "champion_units": theirs.units,
        },
    )  # fmt: skip


def _against_limit(ours: ErrorCount, look: Look, limit: float) -> MetricLook:
    if not ours.requests:
        return MetricLook("at_most", "inconclusive", "the challenger has had no request")
    widened = _widened(ours) if ours.variance is not None else 1.0
    errors, requests = ours.errors / widened, ours.requests / widened
    worse = counts_above(errors, requests, limit)
    within = counts_below(errors, requests, limit)
    if ours.variance is not None:
        worse, within = z_of_t(worse, ours.units - 1), z_of_t(within, ours.units - 1)
    verdict = look.verdict(worse=worse, within=within)
    reason = (
        f"{_said(verdict, 'above the limit', 'below the limit')}: errors in {ours.share:.3%} of "
        f"{ours.requests:,.0f} requests, at most {limit:.3%} are allowed; "
        f"{_basis(ours, ours, ours.variance is not None)}"
    )
    return MetricLook(
        "at_most", verdict, reason,
        {
            "limit": limit, "worse": worse, "within": within, "fail_boundary": look.fail_boundary,
            "pass_boundary": look.pass_boundary, "design_effect": widened, "challenger": ours.share,
            "challenger_requests": ours.requests, "challenger_units": ours.units,
        },
    )  # fmt: skip


def _evidence(ours: ErrorCount, theirs: ErrorCount, margin: float, widened: float) -> tuple[float, float]:
    """Return the evidence that the challenger is worse than the margin, and that it is within it."""
    champion = champion_share_at(ours, theirs, margin)
    challenger = min(champion + margin, 1.0)
    spread = [sqrt(challenger * (1 - challenger) / ours.requests), sqrt(champion * (1 - champion) / theirs.requests)]
    both = hypot(*spread)
    if both == 0:
        return 0.0, 0.0
    ours_of, theirs_of = (
        (one.errors / widened, one.requests / widened, share) for one, share in ((ours, challenger), (theirs, champion))
    )
    worse = spread[0] * counts_above(*ours_of) + spread[1] * counts_below(*theirs_of)
    within = spread[0] * counts_below(*ours_of) + spread[1] * counts_above(*theirs_of)
    return worse / both, within / both


def champion_share_at(ours: ErrorCount, theirs: ErrorCount, margin: float) -> float:
    """Return the champion's most likely share of errors if the challenger's is exactly ``margin`` above it.

    The derivative of the likelihood falls throughout, so its zero is found by halving.
    """
    low, high = 0.0, 1.0 - margin
    for _ in range(50):
        at = (low + high) / 2
        above = at + margin
        if not at > 0 or not above < 1:
            break
        slope = (
            theirs.errors / at
            - (theirs.requests - theirs.errors) / (1 - at)
            + ours.errors / above
            - (ours.requests - ours.errors) / (1 - above)
        )
        low, high = (at, high) if slope > 0 else (low, at)
    return (low + high) / 2


def _widened(*versions: ErrorCount) -> float:
    """Return how many times the variance of independent requests the one by unit is; at least 1.

    Without any error nothing is known of that, and it is 1.
    """
    chance = sum(one.share * (1 - one.share) / one.requests for one in versions)
    by_unit = sum(one.variance or 0.0 for one in versions)
    return max(1.0, by_unit / chance) if chance > 0 else 1.0


def _said(verdict: str, worse: str = "worse", within: str = "no worse") -> str:
    return {"fail": worse, "pass": within, "inconclusive": "cannot tell"}[verdict]


def _basis(ours: ErrorCount, theirs: ErrorCount, by_unit: bool) -> str:
    if not by_unit:
        return "by request, as the units of assignment are not known"
    return f"by unit, {ours.units:,}" + (f" and {theirs.units:,}" if ours is not theirs else "")


def _nothing(ours: ErrorCount, theirs: ErrorCount) -> str:
    none = [name for name, one in (("challenger", ours), ("champion", theirs)) if not one.requests]
    return f"the {' and the '.join(none)} {'has' if len(none) == 1 else 'have'} had no request"
