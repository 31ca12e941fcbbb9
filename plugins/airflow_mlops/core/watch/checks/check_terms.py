"""What the checks of a loop are judged by: their share of the false alarms, and what counts as an effect."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.watch import Drift, Performance

FEWEST_ROWS = 50
"""Rows below which no check says anything of a window."""


@dataclass(frozen=True)
class CheckTerms:
    """What one check is judged by.

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
            drift.alarm_rate / max(len(loop.watch.checks), 1), drift.min_effect,
            loop.metric, performance.worse_by, performance.min_rows,
        )  # fmt: skip
