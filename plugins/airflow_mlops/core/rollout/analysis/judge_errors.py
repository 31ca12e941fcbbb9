"""Judge the share of requests that a version fails: too high, within its limit, or undecided.

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
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook, combine_results


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
    """Return the result of the error metric, from the errors of both versions.

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
    declared = {name: limit for name, limit in limits.items() if limit is not None}
    if not declared or not all(0 <= limit <= 1 for limit in declared.values()):
        raise ValueError(
            f"the error share needs a limit within 0 and 1, worse_by or at_most; there is {declared or 'none'}"
        )
    challenger, champion = error_count(telemetry.challenger), error_count(telemetry.champion)
    part_look = look.split(len(declared))
    parts = []
    if worse_by is not None:
        parts.append(_against_champion(challenger, champion, part_look, worse_by))
    if at_most is not None:
        parts.append(_against_limit(challenger, part_look, at_most))
    return combine_results("errors", parts)


def error_count(version: VersionTelemetry) -> ErrorCount:
    """Return the errors and requests of a version, by unit where the target knows them.

    Raises
    ------
    GateError
        If a count is NaN, infinite or negative, or there are more errors than requests.
    """
    by_unit = version.errors_by_unit
    if by_unit is None:
        count = ErrorCount(float(version.errors), float(version.requests), version.requests, None)
    elif by_unit.count.size < 2:
        count = ErrorCount(float(by_unit.total.sum()), float(by_unit.count.sum()), int(by_unit.count.size), 0.0)
    else:
        ratio = ratio_of_sums(by_unit.total, by_unit.count)
        count = ErrorCount(ratio.value * ratio.requests, ratio.requests, ratio.entities, ratio.variance)
    if not (isfinite(count.requests) and -1e-9 <= count.errors <= count.requests * (1 + 1e-9)):
        raise GateError(f"{count.errors:g} errors in {count.requests:g} requests cannot be")
    return count


def _against_champion(challenger: ErrorCount, champion: ErrorCount, look: Look, margin: float) -> MetricLook:
    by_unit = challenger.variance is not None and champion.variance is not None
    if not challenger.requests or not champion.requests:
        return MetricLook("worse_by", "inconclusive", _describe_missing(challenger, champion))
    if by_unit and min(challenger.units, champion.units) < 2:
        units = f"{challenger.units} and {champion.units} units with a request"
        reason = f"{units}, 2 of each are needed to know how they differ"
        return MetricLook("worse_by", "inconclusive", reason)
    design_effect = _design_effect(challenger, champion) if by_unit else 1.0
    worse, within = _evidence(challenger, champion, margin, design_effect)
    if by_unit:
        degrees = min(challenger.units, champion.units) - 1
        worse, within = z_of_t(worse, degrees), z_of_t(within, degrees)
    verdict = look.verdict(worse=worse, within=within)
    points = 100 * (challenger.share - champion.share)
    reason = (
        f"{_phrase(verdict)}: errors in {challenger.share:.3%} of {challenger.requests:,.0f} requests, the champion's "
        f"in {champion.share:.3%} of {champion.requests:,.0f}; {points:+.3f} points, allowed {100 * margin:+.3f}; "
        f"{_describe_basis(challenger, champion, by_unit)}"
    )
    return MetricLook(
        "worse_by",
        verdict,
        reason,
        {
            "difference": challenger.share - champion.share,
            "margin": margin,
            "worse": worse,
            "within": within,
            "fail_boundary": look.fail_boundary,
            "pass_boundary": look.pass_boundary,
            "design_effect": design_effect,
            "challenger": challenger.share,
            "challenger_requests": challenger.requests,
            "challenger_units": challenger.units,
            "champion": champion.share,
            "champion_requests": champion.requests,
            "champion_units": champion.units,
        },
    )


def _against_limit(challenger: ErrorCount, look: Look, limit: float) -> MetricLook:
    if not challenger.requests:
        return MetricLook("at_most", "inconclusive", "the challenger has had no request")
    design_effect = _design_effect(challenger) if challenger.variance is not None else 1.0
    errors, requests = challenger.errors / design_effect, challenger.requests / design_effect
    worse = counts_above(errors, requests, limit)
    within = counts_below(errors, requests, limit)
    if challenger.variance is not None:
        worse, within = z_of_t(worse, challenger.units - 1), z_of_t(within, challenger.units - 1)
    verdict = look.verdict(worse=worse, within=within)
    reason = (
        f"{_phrase(verdict, 'above the limit', 'below the limit')}: errors in {challenger.share:.3%} of "
        f"{challenger.requests:,.0f} requests, at most {limit:.3%} are allowed; "
        f"{_describe_basis(challenger, challenger, challenger.variance is not None)}"
    )
    return MetricLook(
        "at_most",
        verdict,
        reason,
        {
            "limit": limit,
            "worse": worse,
            "within": within,
            "fail_boundary": look.fail_boundary,
            "pass_boundary": look.pass_boundary,
            "design_effect": design_effect,
            "challenger": challenger.share,
            "challenger_requests": challenger.requests,
            "challenger_units": challenger.units,
        },
    )


def _evidence(challenger: ErrorCount, champion: ErrorCount, margin: float, design_effect: float) -> tuple[float, float]:
    """Return the evidence that the challenger is worse than the margin, and that it is within it."""
    champion_share = champion_share_at(challenger, champion, margin)
    challenger_share = min(champion_share + margin, 1.0)
    spreads = [
        sqrt(challenger_share * (1 - challenger_share) / challenger.requests),
        sqrt(champion_share * (1 - champion_share) / champion.requests),
    ]
    total_spread = hypot(*spreads)
    if total_spread == 0:
        return 0.0, 0.0
    challenger_counts, champion_counts = (
        (count.errors / design_effect, count.requests / design_effect, share)
        for count, share in ((challenger, challenger_share), (champion, champion_share))
    )
    worse = spreads[0] * counts_above(*challenger_counts) + spreads[1] * counts_below(*champion_counts)
    within = spreads[0] * counts_below(*challenger_counts) + spreads[1] * counts_above(*champion_counts)
    return worse / total_spread, within / total_spread


def champion_share_at(challenger: ErrorCount, champion: ErrorCount, margin: float) -> float:
    """Return the champion's most likely share of errors if the challenger's is exactly ``margin`` above it.

    The derivative of the likelihood falls throughout, so its zero is found by halving.
    """
    low, high = 0.0, 1.0 - margin
    for _ in range(50):
        share = (low + high) / 2
        above = share + margin
        if not share > 0 or not above < 1:
            break
        slope = (
            champion.errors / share
            - (champion.requests - champion.errors) / (1 - share)
            + challenger.errors / above
            - (challenger.requests - challenger.errors) / (1 - above)
        )
        low, high = (share, high) if slope > 0 else (low, share)
    return (low + high) / 2


def _design_effect(*versions: ErrorCount) -> float:
    """Return the design effect: the variance by unit over that of independent requests, at least 1.

    Without any error it is unknown, and 1.
    """
    chance = sum(version.share * (1 - version.share) / version.requests for version in versions)
    by_unit = sum(version.variance or 0.0 for version in versions)
    return max(1.0, by_unit / chance) if chance > 0 else 1.0


def _phrase(verdict: str, worse: str = "worse", within: str = "no worse") -> str:
    return {"fail": worse, "pass": within, "inconclusive": "cannot tell"}[verdict]


def _describe_basis(challenger: ErrorCount, champion: ErrorCount, by_unit: bool) -> str:
    if not by_unit:
        return "by request, as the units of assignment are not known"
    return f"by unit, {challenger.units:,}" + (f" and {champion.units:,}" if challenger is not champion else "")


def _describe_missing(challenger: ErrorCount, champion: ErrorCount) -> str:
    missing = [name for name, count in (("challenger", challenger), ("champion", champion)) if not count.requests]
    return f"the {' and the '.join(missing)} {'has' if len(missing) == 1 else 'have'} had no request"
