"""The terms of a loop's checks: the alarm rate of each, and the least effect that counts."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.watch import Drift, Performance

FEWEST_ROWS = 50
"""Rows below which every check of a window returns ``insufficient data``."""


@dataclass(frozen=True)
class CheckTerms:
    """The terms of one check.

    Parameters
    ----------
    alarm_rate : float
        Share of windows in which this check may alarm though nothing has changed.
    min_effect : float
        How large a shift has to be to matter; each check says on which scale.
    metric : str
        The metric by which the loop's models are compared.
    worse_by : float
        Relative loss against the holdout that counts as worse.
    min_rows : int
        Rows that a statement about the metric needs.
    """

    alarm_rate: float = 0.01
    min_effect: float = 0.1
    metric: MetricName = "mae"
    worse_by: float = 0.1
    min_rows: int = 100

    @classmethod
    def of(cls, loop: Loop) -> CheckTerms:
        """Return the terms of each check of a loop: the rate of ``watch.drift`` is shared evenly among the checks."""
        drift = loop.watch.drift or Drift()
        performance = loop.watch.performance or Performance(metric=loop.metric)
        return cls(
            alarm_rate=drift.alarm_rate / max(len(loop.watch.checks), 1),
            min_effect=drift.min_effect,
            metric=loop.metric,
            worse_by=performance.worse_by,
            min_rows=performance.min_rows,
        )
