"""The format of the evaluation report, the evidence of the judgement of a training's candidates.

It is stored as JSON under the digest that ``evaluate_candidates`` returns as ``report``. Every number is finite; an
unknown value is null, with its reason beside it.
"""

from __future__ import annotations

from typing import Any, TypedDict

REPORT_FORMAT = 2


class ReferenceValue(TypedDict, total=False):
    """A metric of the champion or of a baseline; without a value, ``value`` is null and ``reason`` says why."""

    value: float | None
    worse_by: float
    """Relative loss of the candidate against it; negative is better."""
    candidate_is_better: bool
    difference: float
    """The candidate's value minus this value."""
    interval: dict[str, Any] | None
    """Interval of the difference: ``low``, ``high``, ``method``, ``confidence``; null for a baseline."""
    reason: str


class MetricEntry(TypedDict):
    """One metric of a candidate on the whole holdout."""

    unit: str
    better: str
    """``less`` or ``more``."""
    value: float | None
    low: float | None
    high: float | None
    method: str | None
    """``normal``, ``DeLong``, or the bootstrap with its resamples and rows."""
    confidence: float | None
    rows: int
    reason: str | None
    """Reason of a missing value."""
    champion: ReferenceValue | None
    baselines: dict[str, ReferenceValue]
    """``dummy`` and ``linear``."""


class SliceEntry(TypedDict, total=False):
    """One value of a column; with too little data ``metrics`` is empty, and ``needed`` is the number of rows needed."""

    value: str
    rows: int
    verdict: str
    """``measured`` or ``too little data``."""
    metrics: dict[str, float | None]
    champion: dict[str, float | None] | None
    needed: int


class SlicesEntry(TypedDict):
    """The slices of one column; ``left_out`` counts those beyond the forty with the most rows."""

    slices: list[SliceEntry]
    left_out: int


class CandidateEntry(TypedDict, total=False):
    """The report of one candidate; a candidate that could not be judged has only the first six keys.

    One that was refused before its fit, or could not be fitted or kept, has its name, its reason and no gates.
    """

    candidate: str
    digest: str
    """SHA-256 of the model file."""
    fit_seconds: float
    rows: int
    """Number of fitted rows."""
    recalled: str
    """Number of the version, where it is an earlier champion and no fit of this training."""
    passed: bool
    gates: list[dict[str, Any]]
    """The report of each gate: gate, metric, verdict, value, limit, low, high, rows, reason."""
    error: str
    """Reason why the candidate could not be judged."""
    loss: float
    """Mean loss of a row by the loop's metric; the best candidate has the smallest."""
    metrics: dict[str, float]
    """The metrics with a value, by name; they are registered with the version."""
    champion_metrics: dict[str, float] | None
    metric_reports: dict[str, MetricEntry]
    """Each metric by name with its unit, interval, champion and baselines."""
    confusion: dict[str, Any] | None
    """True and false positives and negatives of a classifier at the ``threshold`` it has, or at 0.5."""
    residuals: dict[str, float] | None
    """Prediction minus label of a regressor: mean, standard deviation, share_positive, least, most, p1 to p99."""
    slices: dict[str, SlicesEntry]
    """By column."""
    fairness: dict[str, dict[str, dict[str, Any]]]
    """By column and measure: value, low, high, rows, reason, too_small (group to rows), by_group.

    Of three classes or more also of_class, on which the groups differ most, and by_class (class to value).
    """
    robustness: dict[str, dict[str, Any]]
    """By perturbation: verdict, worse_by, low, high, rows, tolerance, reason."""
    cost: dict[str, Any]
    """``candidate`` and ``champion``: batch_latency, row_latency, model_bytes, model_memory; ``how`` measured."""
    importance: dict[str, Any]
    """``permutation`` and ``champion``: rise of the mean loss by feature; ``rows``, ``shuffles``, ``stability``."""
    shap: dict[str, Any] | None
    """If declared: explainer, of, rows, values by feature, reason."""


class EvaluationReport(TypedDict):
    """The evaluation report of a training."""

    format: int
    request: dict[str, Any]
    """The training request, with the pinned window."""
    holdout: dict[str, Any]
    """``pins``: partition, version and digest of each; ``rows``: those with a label."""
    champion: str | None
    """Number of the champion's version; null on the first run."""
    first_run: bool
    champion_failed: str | None
    """Reason why the champion could not be compared."""
    rows: int
    metric: str
    """The loop's metric."""
    baselines: dict[str, Any]
    """``fitted_rows``, ``fitted_on`` in words, ``missing``: reason by name."""
    looks: dict[str, Any]
    """Earlier uses of these partitions as a holdout: trainings, candidates, partitions, words."""
    candidates: list[CandidateEntry]
    recall: dict[str, Any]
    """``losses`` of the earlier champions that were tried, by version; whether one was ``chosen``."""
    best: str


def fits_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of a report's fits, without an earlier champion that was judged beside them.

    >>> fits_of({"candidates": [{"candidate": "line"}, {"candidate": "version 1", "recalled": "1"}]})
    [{'candidate': 'line'}]
    """
    return [entry for entry in report["candidates"] if "recalled" not in entry]
