"""Gross breakage: failures so frequent that no planned analysis is waited for.

An e-process tests the rate of errors, or of slow requests, at any time. Units of assignment, where they are known, are
one observation each: the share of their requests that err, which is within 0 and 1 and therefore bets no better than an
error would. A single test is exact for independent units, whatever the requests of one are like. Repeated tests while
units come back are not quite, so the bounds are wide and the chance of being wrong is small: they are for gross
failures, and the planned analyses for the rest.
"""

from __future__ import annotations

from scipy.special import betaincinv

from airflow_mlops.core.ports.rollout_target import Telemetry, VersionTelemetry
from airflow_mlops.core.rollout.analysis.e_process import exceeds_bound
from airflow_mlops.core.rollout.analysis.judge_errors import error_count
from airflow_mlops.core.rollout.analysis.judge_latency import slower_than

ALPHA = 0.001
"""Chance that a stage's challenger is stopped though it keeps within the bound."""
GROSS_BY = 0.05
"""Difference from the champion's share of errors, as a share of requests, from which breakage is gross."""
GROSSLY_SLOW = 5.0
"""Multiple of the slow requests that the quantile allows from which breakage is gross."""


def gross_breakage(
    telemetry: Telemetry,
    *,
    errors_at_most: float | None = None,
    latency_at_most: float | None = None,
    quantile: float = 0.99,
    gross_by: float = GROSS_BY,
    alpha: float = ALPHA,
) -> str | None:
    """Return a message about the gross breakage of the challenger, or None.

    Parameters
    ----------
    errors_at_most : float, optional
        Share of requests that may err. Without it, and beside it, the champion's share plus ``gross_by`` is the bound.
    latency_at_most : float, optional
        Seconds that ``quantile`` of the requests may take. Five times as many slow ones as that allows are gross.
    alpha : float
        Chance that a challenger within a bound is ever stopped by it.
    """
    if telemetry.tripped:
        return f"the target took the challenger out by itself: {telemetry.tripped}"
    errors, total, unit = _error_counts(telemetry.challenger)
    champion_errors, champion_total, _ = _error_counts(telemetry.champion)
    bounds = []
    if errors_at_most is not None:
        bounds.append((errors_at_most, f"the limit of {errors_at_most:.2%}"))
    if champion_total > 0:
        highest = float(betaincinv(champion_errors + 1, max(champion_total - champion_errors, 1e-9), 1 - alpha))
        description = f"the champion's {champion_errors / champion_total:.2%} and {100 * gross_by:g} points more"
        bounds.append((highest + gross_by, description))
    for bound, description in bounds:
        if _is_beyond(errors, total, bound, alpha):
            return f"the challenger errs in {errors / total:.2%} of {total:,.0f} {unit}, far above {description}"
    if latency_at_most is not None:
        slow, _ = slower_than(telemetry.challenger.latency, latency_at_most)
        timed = _timed_requests(telemetry.challenger)
        if _is_beyond(slow, timed, GROSSLY_SLOW * (1 - quantile), alpha):
            return (
                f"{slow / timed:.2%} of {timed:,.0f} requests took the challenger longer than "
                f"{latency_at_most:g} s; {1 - quantile:.2%} may"
            )
    return None


def _error_counts(version: VersionTelemetry) -> tuple[float, float, str]:
    """Return the errors of a version, the total that they are among, and the name of its unit."""
    by_unit = version.errors_by_unit
    if by_unit is None:
        count = error_count(version)
        return count.errors, count.requests, "requests"
    shares = by_unit.total / by_unit.count
    return float(shares.sum()), float(shares.size), "units of assignment"


def _timed_requests(version: VersionTelemetry) -> float:
    return float(version.latency.sum())


def _is_beyond(hits: float, total: float, bound: float, alpha: float) -> bool:
    if total <= 0 or bound >= 1:
        return False
    return hits > 0 if bound <= 0 else exceeds_bound(min(hits, total), total, bound, alpha)
