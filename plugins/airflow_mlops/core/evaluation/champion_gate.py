"""Gates against the champion: a candidate is better, or no worse by more than a margin, with a stated confidence.

Both models predict the same rows, so what counts is the interval of the difference of their metrics. A one-sided bound
is that interval's worse end, moved towards the difference as far as a normal error would have it at the confidence.
"""

from __future__ import annotations

from statistics import NormalDist

from airflow_mlops.core.evaluation.bootstrap_interval import Interval, MetricOnRows
from airflow_mlops.core.evaluation.gate_report import NO_CHAMPION, GateReport, to_verdict
from airflow_mlops.core.training.row_losses import UnknownMetricError


def judge_against_champion(
    on_rows: MetricOnRows, *, allowed: float | None, confidence: float | None, failed: str | None
) -> GateReport:
    """Return the report of a gate against the champion.

    Parameters
    ----------
    on_rows : MetricOnRows
        The metric of ``candidate`` and, if there is one that can predict, of ``champion``.
    allowed : float, optional
        Relative loss that passes; without it the candidate must be better.
    confidence : float, optional
        One-sided confidence of the verdict; without it the values decide.
    failed : str, optional
        Why the champion cannot predict these rows.
    """
    metric, rows = on_rows.metric, int(on_rows.label.size)
    limit = 0.0 if allowed is None else allowed
    title = f"{metric.name} {'better than the' if allowed is None else 'no worse than the'} champion's"
    title += "" if allowed is None else f" by {allowed:.0%}"
    title += "" if confidence is None else f", with {confidence:.0%} confidence"
    if "champion" not in on_rows.predictions:
        reason = f"{title}: {NO_CHAMPION if failed is None else failed}"
        return GateReport(title, to_verdict(failed is None), None, limit, rows, reason, metric=metric.name)
    try:
        candidate, reference = on_rows.value("candidate"), on_rows.value("champion")
    except UnknownMetricError as error:
        return GateReport(title, "fail", None, limit, rows, f"{title}: {error}", metric=metric.name)
    interval = on_rows.interval_of_difference("candidate", "champion", candidate - reference)
    value = metric.worse_by(candidate, reference)
    base = "" if metric.best is None else f" of what is left to {metric.best:g}"
    reason = f"{title}: {candidate:.4g} against {reference:.4g}, {value:+.1%}{base}, on the same {rows:,} rows"
    judged: float | None = value
    if confidence is not None:
        bound = worse_bound(candidate - reference, interval, confidence, less_is_better=metric.better == "less")
        judged = None if bound is None else metric.worse_by(reference + bound, reference)
        at_worst = "no interval is known" if judged is None else f"{judged:+.1%} at worst"
        reason += f", and {at_worst} with {confidence:.0%} confidence"
    holds = judged is not None and (judged < 0 if allowed is None else judged <= allowed)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return GateReport(title, to_verdict(holds), value, limit, rows, reason, low, high, metric.name)


def worse_bound(
    difference: float, interval: Interval | None, confidence: float, *, less_is_better: bool
) -> float | None:
    """Return the one-sided bound of a difference of metrics, candidate less champion; None without an interval.

    >>> interval = Interval(-3.0, 1.0, "normal", 0.95)
    >>> round(worse_bound(-1.0, interval, 0.9, less_is_better=True), 3)
    0.308
    >>> worse_bound(-1.0, interval, 0.5, less_is_better=True)
    -1.0
    """
    if interval is None:
        return None
    normal = NormalDist()
    share = normal.inv_cdf(confidence) / normal.inv_cdf(0.5 + interval.confidence / 2)
    end = interval.high if less_is_better else interval.low
    return difference + share * (end - difference)
