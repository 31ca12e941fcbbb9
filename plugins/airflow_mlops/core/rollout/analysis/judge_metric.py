"""The result of one metric at one interim analysis (look): shown worse, shown no worse, or neither.

    fail          the evidence that it is worse than the limit reaches the look's boundary
    pass          the evidence that it is within the limit does
    inconclusive  neither does; too little data is always inconclusive and never passes

Evidence is a z value; see :mod:`airflow_mlops.core.rollout.analysis.evidence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any, Literal

from airflow_mlops.core.rollout.analysis.interim_analyses import boundaries

Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Look:
    """An interim analysis (look) of a stage, and the evidence that its verdicts need.

    Parameters
    ----------
    number : int
        Of the look, from 1.
    shares : tuple of float
        Share of the stage's planned sample that was in at each look so far, this one last, increasing.
    planned : int
        Planned number of looks. The last of them spends what is left of alpha, whatever its share is.
    alpha : float
        Chance that a challenger exactly at its limit is stopped at any look by any metric; and for each metric the
        chance that it passes there.
    metrics : int
        Metrics that share alpha. To pass all of them have to, so for that it is not divided.

    >>> look = Look(number=2, shares=(0.2, 0.4), planned=5, alpha=0.025)
    >>> round(look.fail_boundary, 3), look.is_last
    (3.357, False)
    """

    number: int
    shares: tuple[float, ...]
    planned: int
    alpha: float = 0.05
    metrics: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number == len(self.shares) <= self.planned or self.metrics < 1:
            raise ValueError(
                f"look {self.number} of {self.planned} with {len(self.shares)} shares for {self.metrics} metrics"
            )

    @property
    def is_last(self) -> bool:
        """True if this is the last look, which spends the rest of alpha."""
        return self.number == self.planned or self.shares[-1] >= 1

    @property
    def fail_boundary(self) -> float:
        """Evidence, as a z value, from which the metric fails."""
        return self._boundary(self.alpha / self.metrics)

    @property
    def pass_boundary(self) -> float:
        """Evidence, as a z value, from which the metric passes."""
        return self._boundary(self.alpha)

    def split(self, limits: int) -> Look:
        """Return the look for one of several limits of a metric, any of which fails it."""
        return replace(self, metrics=self.metrics * limits)

    def verdict(self, *, worse: float, within: float) -> Verdict:
        """Return the verdict for the evidence of being worse than the limit, and of being within it."""
        if worse >= self.fail_boundary:
            return "fail"
        return "pass" if within >= self.pass_boundary else "inconclusive"

    def _boundary(self, alpha: float) -> float:
        spend_by = [min(share, 1.0) for share in self.shares[:-1]] + [1.0 if self.is_last else self.shares[-1]]
        return boundaries(self.shares, alpha, spend_by=spend_by)[-1]


@dataclass(frozen=True)
class MetricLook:
    """The result of a metric at a look, with a reason in words and its numbers, none of them NaN or infinite."""

    metric: str
    verdict: Verdict
    reason: str
    numbers: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        odd = sorted(name for name, value in self.numbers.items() if not isfinite(value))
        if odd:
            raise ValueError(f"{self.metric}: {', '.join(odd)} must be finite")

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)


def combine_results(metric: str, parts: Sequence[MetricLook]) -> MetricLook:
    """Combine the results of several limits or metrics into one: all have to pass, and any of them fails it.

    The numbers are those of the parts, ``name.number`` where there are several.

    >>> parts = [MetricLook("at_most", "pass", "quick"), MetricLook("worse_by", "fail", "slower")]
    >>> combined = combine_results("latency", parts)
    >>> combined.verdict, combined.reason
    ('fail', 'slower; quick')
    """
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    if len(parts) == 1:
        return replace(parts[0], metric=metric)
    by_severity = sorted(parts, key=lambda part: order.index(part.verdict))
    return MetricLook(
        metric,
        by_severity[0].verdict if by_severity else "inconclusive",
        "; ".join(part.reason for part in by_severity) or "nothing was compared",
        {f"{part.metric}.{name}": value for part in parts for name, value in part.numbers.items()},
    )
