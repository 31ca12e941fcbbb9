"""What is so wrong that no planned look is waited for.

Errors, or requests that take too long, are bet against by an e-process, which may be asked at any time. It takes units
of assignment where they are known, each as one observation: the share of its requests that err, which is within 0 and 1
and therefore bets no better than an error would. Asked once that is exact for units that are independent, whatever the
requests of one are like. Asked again while units come back it is not quite, and so the bounds are wide and the chance
of being wrong is small: it is there for what is gross, and the planned looks for the rest.
"""

from __future__ import annotations

from scipy.special import betaincinv

from airflow_mlops.core.ports.rollout_target import Telemetry, VersionTelemetry
from airflow_mlops.core.rollout.analysis.e_process import stops
from airflow_mlops.core.rollout.analysis.judge_errors import error_count
from airflow_mlops.core.rollout.analysis.judge_latency import slower_than

ALPHA = 0.001
"""Chance that a stage's challenger is stopped though it keeps within the bound."""
GROSS_BY = 0.05
"""How far above the champion's share of errors, as a share of requests, is gross."""
GROSSLY_SLOW = 5.0
"""How many times as many slow requests as the quantile allows are gross."""


def gross_breakage(
    telemetry: Telemetry,
    *,
    errors_at_most: float | None = None,
    latency_at_most: float | None = None,
    quantile: float = 0.99,
    gross_by: float = GROSS_BY,
    alpha: float = ALPHA,
) -> str | None:
    """Return in words what is broken, or None.

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
    errors, among, what = _observed(telemetry.challenger)
    above, of, _ = _observed(telemetry.champion)
    bounds = []
    if errors_at_most is not None:
        bounds.append((errors_at_most, f"the limit of {errors_at_most:.2%}"))
    if of > 0:
        highest = float(betaincinv(above + 1, max(of - above, 1e-9), 1 - alpha))
        bounds.append((highest + gross_by, f"the champion's {above / of:.2%} and {100 * gross_by:g} points more"))
    for bound, words in bounds:
        if _beyond(errors, among, bound, alpha):
            return f"the challenger errs in {errors / among:.2%} of {among:,.0f} {what}, far above {words}"
    if latency_at_most is not None:
        slow, all_of_them = slower_than(telemetry.challenger.latency, latency_at_most)[0], _timed(telemetry.challenger)
        if _beyond(slow, all_of_them, GROSSLY_SLOW * (1 - quantile), alpha):
            return (
                f"{slow / all_of_them:.2%} of {all_of_them:,.0f} requests took the challenger longer than "
                f"{latency_at_most:g} s; {1 - quantile:.2%} may"
            )
    return None


def _observed(version: VersionTelemetry) -> tuple[float, float, str]:
    """Return the errors of a version, what they are among, and what that is called."""
    by_unit = version.errors_by_unit
    if by_unit is None:
        counted = error_count(version)
        return counted.errors, counted.requests, "requests"
    shares = by_unit.total / by_unit.count
    return float(shares.sum()), float(shares.size), "units of assignment"


def _timed(version: VersionTelemetry) -> float:
    return float(version.latency.sum())


def _beyond(hits: float, of: float, bound: float, alpha: float) -> bool:
    if of <= 0 or bound >= 1:
        return False
    return hits > 0 if bound <= 0 else stops(min(hits, of), of, bound, alpha)
