"""The minimum detectable difference of a stage: the smallest one that its sample can show."""

from __future__ import annotations

from math import inf, sqrt

from scipy.special import ndtri

from airflow_mlops.core.rollout.analysis.interim_analyses import boundaries


def detectable_difference(
    challenger: float,
    champion: float,
    *,
    sd: float | None = None,
    rate: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    looks: int = 1,
) -> float | None:
    """Return the smallest difference that a stage detects with a chance of ``power``; None if there is none.

    It is the difference beyond the margin. A challenger as good as the champion passes as often if the margin is at
    least as wide.

    Parameters
    ----------
    challenger, champion : float
        Units of assignment, or requests where these are independent, that each version will have had by the last look.
    sd, rate : float
        One of both: the standard deviation of a value over the units, or the champion's share of errors.
    alpha : float
        Of the metric: that of the stage, divided by its metrics.
    looks : int
        Evenly spaced looks.

    Raises
    ------
    ValueError
        Unless exactly one of sd and rate is given, and both they and ``power`` are within their ranges.

    >>> round(detectable_difference(100, 100, sd=1.0, alpha=0.025), 3)  # 2.8 standard errors
    0.396
    """
    if (sd is None) == (rate is None):
        raise ValueError("needs exactly one of sd, rate")
    if not (0 <= (rate or 0) <= 1 and 0 <= (sd or 0) < inf and 0 < power < 1):
        raise ValueError(f"sd {sd}, rate {rate} or power {power} cannot be")
    if challenger <= 0 or champion <= 0:
        return None
    z_alpha = boundaries([look / looks for look in range(1, looks + 1)], alpha)[-1]
    if sd is not None:
        return (z_alpha + float(ndtri(power))) * sd * sqrt(1 / challenger + 1 / champion)
    assert rate is not None
    return _detectable_rise(rate, challenger, champion, z_alpha, float(ndtri(power)))


def _detectable_rise(rate: float, challenger: float, champion: float, z_alpha: float, z_power: float) -> float | None:
    """Return the smallest detectable rise of a rate, by bisection; None if there is none."""

    def falls_short(rise: float) -> bool:
        worse = rate + rise
        pooled = (worse * challenger + rate * champion) / (challenger + champion)
        equal = sqrt(pooled * (1 - pooled) * (1 / challenger + 1 / champion))
        unequal = sqrt(worse * (1 - worse) / challenger + rate * (1 - rate) / champion)
        return rise < z_alpha * equal + z_power * unequal

    low, high = 0.0, 1.0 - rate
    if high <= 0 or falls_short(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falls_short(middle) else (low, middle)
    return high


def describe_detectable_errors(
    challenger: float,
    champion: float,
    *,
    rate: float,
    alpha: float = 0.05,
    power: float = 0.8,
    looks: int = 1,
    margin: float | None = None,
) -> str:
    """Return a sentence about the smallest detectable rise of the error rate; see :func:`detectable_difference`.

    >>> print(describe_detectable_errors(200, 1800, rate=0.05, looks=5).partition(", ")[2])
    a rise of the error share from 5.0% by 4.8 points is found 4 times of 5
    """
    difference = detectable_difference(challenger, champion, rate=rate, alpha=alpha, power=power, looks=looks)
    sample = f"with {challenger:,.0f} requests beside the champion's {champion:,.0f}"
    if difference is None:
        return f"{sample}, no rise of the error share from {rate:.1%} is found {_times(power)}"
    text = (
        f"{sample}, a rise of the error share from {rate:.1%} by {100 * difference:.2g} points is found {_times(power)}"
    )
    if margin is not None and margin < difference:
        text += f"; with a margin of {100 * margin:g} points an equal challenger passes less often than that"
    return text


def _times(power: float) -> str:
    return "4 times of 5" if power == 0.8 else f"{power:.0%} of the times"
