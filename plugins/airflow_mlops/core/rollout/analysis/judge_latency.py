"""Judge the latency of a version: a quantile, against a limit in seconds and against the champion's.

A quantile is above a limit if more requests than it leaves are slower. That is a count, and its test exact. Only bins
are known of the latencies: a request counts as slower than a limit only where its whole bin is, and as quicker only
where its whole bin is. Against the champion that would take two bins of margin to pass, so there, and only to pass,
requests are taken to be spread evenly (by ratio) within the bin that the limit falls into: what passes may be slower
than the margin by up to one bin, a quarter.
"""

from __future__ import annotations

from math import inf, log

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import binom

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, Telemetry
from airflow_mlops.core.rollout.analysis.evidence import counts_above, counts_below, z_of
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook, combine_results

Counts = npt.NDArray[np.int64]
UPPER = np.array([*LATENCY_EDGES, inf])
LOWER = np.array([0.0, *LATENCY_EDGES])
ROUNDING = 1e-6
"""Relative difference up to which a limit counts as equal to an edge."""


def judge_latency(
    telemetry: Telemetry,
    look: Look,
    *,
    quantile: float = 0.99,
    at_most: float | None = None,
    worse_by: float | None = None,
) -> MetricLook:
    """Return the result of the latency metric, from the latencies of both versions.

    Parameters
    ----------
    quantile : float
        Share of the requests that has to be quick enough.
    at_most : float, optional
        Seconds that the challenger's quantile may take.
    worse_by : float, optional
        Share of the champion's quantile by which the challenger's may be longer: 0.5 is half as long again.

    Raises
    ------
    ValueError
        If there is no limit, one that is not positive, or no such quantile.
    """
    limits = {"at_most": at_most, "worse_by": worse_by}
    declared = {name: limit for name, limit in limits.items() if limit is not None}
    if not declared or not all(0 <= limit < inf for limit in declared.values()) or at_most == 0:
        raise ValueError(
            f"latency needs a limit above 0, at_most in seconds or worse_by; there is {declared or 'none'}"
        )
    if not 0 < quantile < 1:
        raise ValueError(f"the quantile is {quantile}; it must be within (0, 1)")
    challenger, champion = telemetry.challenger.latency, telemetry.champion.latency
    part_look = look.split(len(declared))
    parts = []
    if at_most is not None:
        parts.append(_against_limit(challenger, part_look, quantile, at_most))
    if worse_by is not None:
        parts.append(_against_champion(challenger, champion, part_look, quantile, worse_by))
    return combine_results("latency", parts)


def _against_limit(challenger: Counts, look: Look, quantile: float, limit: float) -> MetricLook:
    count = float(challenger.sum())
    if not count:
        return MetricLook("at_most", "inconclusive", "no request of the challenger was timed")
    surely, possibly = slower_than(challenger, limit)
    worse, within = counts_above(surely, count, 1 - quantile), counts_below(possibly, count, 1 - quantile)
    verdict = look.verdict(worse=worse, within=within)
    slow = f"{surely / count:.2%}" + (f" to {possibly / count:.2%}" if possibly > surely else "")
    reason = (
        f"{_phrase(verdict)}: {slow} of {count:,.0f} requests took longer than {limit:g} s, "
        f"{1 - quantile:.2%} may; by request"
    )
    return MetricLook(
        "at_most",
        verdict,
        reason,
        {
            "limit": limit,
            "quantile": quantile,
            "slower": surely / count,
            "possibly_slower": possibly / count,
            "requests": count,
            "worse": worse,
            "within": within,
            "fail_boundary": look.fail_boundary,
            "pass_boundary": look.pass_boundary,
        },
    )


def _against_champion(challenger: Counts, champion: Counts, look: Look, quantile: float, margin: float) -> MetricLook:
    """Compare with a limit on either side of the champion's quantile; each half of the test errs with half."""
    count, champion_count = float(challenger.sum()), float(champion.sum())
    if not count or not champion_count:
        return MetricLook("worse_by", "inconclusive", "requests of both versions have to be timed")
    lowest = quantile_bound(champion, quantile, z=_halve_tail(look.pass_boundary), upper=False) * (1 + margin)
    highest = quantile_bound(champion, quantile, z=_halve_tail(look.fail_boundary), upper=True) * (1 + margin)
    slow_at_least = slower_than(challenger, highest)[0]
    slow_at_most = slower_about(challenger, lowest)
    worse = _double_tail(counts_above(slow_at_least, count, 1 - quantile))
    within = _double_tail(counts_below(slow_at_most, count, 1 - quantile))
    verdict = look.verdict(worse=worse, within=within)
    challenger_seconds, champion_seconds = (
        value_slower(latency, (1 - quantile) * float(latency.sum())) for latency in (challenger, champion)
    )
    reason = (
        f"{_phrase(verdict)}: {quantile:.4g} of {count:,.0f} requests within about {challenger_seconds:.3g} s, of the "
        f"champion's {champion_count:,.0f} within {champion_seconds:.3g} s; allowed {margin:+.0%}; by request"
    )
    return MetricLook(
        "worse_by",
        verdict,
        reason,
        {
            "margin": margin,
            "quantile": quantile,
            "challenger": challenger_seconds,
            "champion": champion_seconds,
            "requests": count,
            "champion_requests": champion_count,
            "worse": worse,
            "within": within,
            "fail_boundary": look.fail_boundary,
            "pass_boundary": look.pass_boundary,
        },
    )


def slower_than(latency: Counts, limit: float) -> tuple[float, float]:
    """Count the requests that surely took longer than a limit in seconds, and those that possibly did."""
    surely = latency[limit * (1 - ROUNDING) <= LOWER].sum()
    possibly = latency[limit * (1 + ROUNDING) < UPPER].sum()
    return float(surely), float(possibly)


def slower_about(latency: Counts, limit: float) -> float:
    """Estimate the number of requests that took longer than a limit, those of its bin spread evenly by ratio."""
    surely, possibly = slower_than(latency, limit)
    place = int(np.searchsorted(UPPER, limit))
    if limit <= LOWER[1] or place >= UPPER.size - 1:
        return possibly
    return surely + (possibly - surely) * log(UPPER[place] / limit) / log(UPPER[place] / LOWER[place])


def quantile_bound(latency: Counts, quantile: float, *, z: float, upper: bool) -> float:
    """Return the seconds that a version's quantile is above, or below, with the confidence of ``z``.

    By the order statistics: as many requests are slower as a binomial variable reaches. The upper bound is the edge of
    a bin, and infinite where there are too few requests for one.
    """
    count, tail = int(latency.sum()), float(ndtr(-z))
    if upper:
        slower = float(binom.ppf(tail, count, 1 - quantile)) - 1
        if slower < 0:
            return inf
        beyond = np.cumsum(latency[::-1])[::-1]  # at or above each bin
        return float(UPPER[int(np.flatnonzero(np.append(beyond[1:], 0) <= slower)[0])])
    slower = float(binom.isf(tail, count, 1 - quantile)) + 1
    return value_slower(latency, slower) if slower <= count else 0.0


def value_slower(latency: Counts, slower: float) -> float:
    """Return the seconds that ``slower`` requests exceed, those of a bin spread evenly by ratio."""
    beyond = np.append(np.cumsum(latency[::-1])[::-1], 0.0)
    place = int(np.flatnonzero(beyond[1:] <= slower)[0])
    if place >= LOWER.size - 1:
        return float(LOWER[-1])
    low, high = max(float(LOWER[place]), float(UPPER[0]) / 10), float(UPPER[place])
    inside = float(latency[place])
    share = min((slower - float(beyond[place + 1])) / inside, 1.0) if inside else 0.0
    return float(high * (low / high) ** share)


def _halve_tail(z: float) -> float:
    return z_of(float(ndtr(-z)) / 2)


def _double_tail(z: float) -> float:
    return z_of(min(1.0, 2 * float(ndtr(-z))))


def _phrase(verdict: str) -> str:
    return {"fail": "slower", "pass": "not slower", "inconclusive": "cannot tell"}[verdict]
