"""The verdict on a metric: beyond its limit, within it, or too few rows to decide.

The limit is the value on the champion's holdout, made worse by the declared share. Both values were measured on a
number of rows, so both have an error. An alarm is a metric so far beyond the limit that, were the truth at the limit,
so much would be seen in at most ``alarm_rate`` of the windows; within is the same on the other side; and between the
two there are too few rows to tell. Means of losses are compared, with normal errors. At the limit, where the rate is
worst, a stated 0.025 gave 0.012 to 0.031 for exponential and log-normal losses and for errors of 5 % of the rows, and
up to 0.040 with log-normal losses where the holdout has a tenth of the window's rows.

Slices share a rate of their own by Holm's step-down: at most so many windows alarm by any slice at all, however many
there are and however they overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, inf, sqrt
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import MetricName, OwnMetric
from airflow_mlops.core.evaluation.metrics_by_slice import Slices
from airflow_mlops.core.training.row_losses import Floats, loss_factor, metric_value, relative_loss, standard_error

Verdict = Literal["alarm", "no alarm", "insufficient data"]
CONFIDENCE = 0.95
NAMED = 80
"""Characters of a slice's name that are kept: it is a value of the data, and may be a whole letter."""

_NORMAL = NormalDist()
_REACH = _NORMAL.inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True)
class MeanLoss:
    """The mean loss of rows, and its standard error; see :func:`~airflow_mlops.core.training.row_losses.row_losses`."""

    rows: int
    mean: float
    error: float

    @classmethod
    def of(cls, losses: Floats, weight: Floats | None = None) -> MeanLoss:
        """Return the mean of losses, shape (n_rows,), of at least two rows, by their weights where they have any."""
        return cls(int(losses.size), float(np.average(losses, weights=weight)), standard_error(losses, weight))

    def metric(self, metric: MetricName) -> tuple[float, float, float]:
        """Return the value of the metric, and the ends of its interval."""
        least = -inf if isinstance(metric, OwnMetric) else 0.0
        ends = [max(self.mean + by * self.error, least) for by in (0.0, -_REACH, _REACH)]
        value, *interval = (metric_value(metric, np.array([end])) for end in ends)
        return value, min(interval), max(interval)


@dataclass(frozen=True)
class AgainstLimit:
    """The distance of a mean loss beyond its limit, in units of the loss, and the standard error of the distance.

    ``rows`` is the number of rows of the mean, ``fixed`` the part of the error that more rows do not reduce.
    """

    distance: float
    error: float
    rows: int
    fixed: float

    @property
    def p_value(self) -> float:
        """Chance of a mean as far beyond the limit or farther, if the truth is at the limit."""
        return _NORMAL.cdf(-self._z)

    @property
    def _z(self) -> float:
        if self.error > 0:
            return self.distance / self.error
        return inf if self.distance > 0 else -inf

    def verdict(self, alarm_rate: float, within_rate: float) -> Verdict:
        """Return the verdict: an alarm errs in ``alarm_rate`` of windows at most, "no alarm" in ``within_rate``."""
        return "alarm" if 0 < alarm_rate >= self.p_value else self.within(within_rate)

    def within(self, rate: float) -> Verdict:
        """Return ``no alarm`` if the truth is within the limit by a test at ``rate``, else ``insufficient data``."""
        return "no alarm" if 1 - self.p_value <= rate else "insufficient data"

    def needed(self, rate: float) -> int | None:
        """Return the number of rows that would decide if the mean stays as it is; None where no number would."""
        variance = (self.distance / _NORMAL.inv_cdf(rate)) ** 2 - self.fixed**2
        of_rows = self.error**2 - self.fixed**2
        if variance <= 0:
            return None
        rows = of_rows * self.rows / variance
        return ceil(rows) if rows < 1e15 else None


def against_limit(metric: MetricName, window: MeanLoss, reference: MeanLoss, worse_by: float) -> AgainstLimit:
    """Return the distance of a mean loss from its limit: the reference, made worse by a share of the metric."""
    factor = loss_factor(metric, worse_by, reference.mean)
    fixed = factor * reference.error
    return AgainstLimit(window.mean - factor * reference.mean, sqrt(window.error**2 + fixed**2), window.rows, fixed)


def reject_by_holm(p_values: Sequence[float], rate: float) -> list[bool]:
    """Return which tests reject by Holm's step-down, with any false rejection in ``rate`` of cases at most.

    >>> reject_by_holm([0.02, 0.001, 0.9], 0.05)
    [True, True, False]
    """
    rejected, going_on = [False] * len(p_values), True
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        going_on = going_on and 0 < rate / (len(p_values) - rank) >= p_values[at]
        rejected[at] = going_on
    return rejected


@dataclass(frozen=True)
class SliceVerdict:
    """The verdict on the rows with one value in a column. Numbers are None where the holdout has too few such rows."""

    column: str
    slice: str
    rows: int
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    worse_by: float | None = None
    p_value: float | None = None
    reason: str | None = None

    @property
    def alarm_name(self) -> str:
        """Column and value, as an alarm names them."""
        return f"{self.column}={self.slice}"

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values, without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def losses_by_slice(
    column: npt.NDArray[Any], losses: Floats, min_rows: int, weight: Floats | None = None
) -> tuple[dict[str, MeanLoss], int]:
    """Return the mean loss of each slice of a column, and the number of slices with too few rows.

    Parameters
    ----------
    column, losses : ndarray, shape (n_rows,)
    min_rows : int
        At least 2.
    weight : ndarray, shape (n_rows,), optional
        The weights of the rows; a slice without any has too few rows.
    """
    slices, weights = Slices.from_column(column), np.ones(losses.size) if weight is None else weight
    count = len(slices.names)
    totals = np.bincount(slices.codes, weights, count)
    means = np.bincount(slices.codes, weights * losses, count) / np.where(totals > 0, totals, 1.0)
    squares = np.bincount(slices.codes, (weights * (losses - means[slices.codes])) ** 2, count)
    enough = np.flatnonzero((slices.rows >= min_rows) & (totals > 0))
    errors = np.sqrt(squares[enough] * slices.rows[enough] / (slices.rows[enough] - 1)) / totals[enough]
    means_by_slice = {
        slices.names[at]: MeanLoss(int(slices.rows[at]), float(means[at]), float(error))
        for at, error in zip(enough, errors, strict=True)
    }
    return means_by_slice, count - len(enough)


def judge_slices(
    metric: MetricName,
    window: Mapping[str, Mapping[str, MeanLoss]],
    reference: Mapping[str, Mapping[str, MeanLoss]],
    *,
    worse_by: float,
    alarm_rate: float,
    within_rate: float,
) -> list[SliceVerdict]:
    """Judge each slice of each column; a slice with too few rows in the holdout gets ``insufficient data``.

    Parameters
    ----------
    window, reference : mapping of column to mapping of slice to MeanLoss
        Mean losses of the window, and of the champion's holdout.
    alarm_rate : float
        Share of windows in which any slice may alarm although none is beyond its limit.
    """
    verdicts: list[SliceVerdict] = []
    comparisons: list[tuple[AgainstLimit, str, str, MeanLoss, MeanLoss]] = []
    for column, slices in window.items():
        for name, loss in slices.items():
            reference_loss = reference.get(column, {}).get(name)
            if reference_loss is None:
                reason = "the champion's holdout has too few such rows to compare with"
                verdicts.append(SliceVerdict(column, name[:NAMED], loss.rows, "insufficient data", reason=reason))
            else:
                against = against_limit(metric, loss, reference_loss, worse_by)
                comparisons.append((against, column, name, loss, reference_loss))
    rejected = reject_by_holm([against.p_value for against, *_ in comparisons], alarm_rate)
    for is_alarm, (against, column, name, loss, reference_loss) in zip(rejected, comparisons, strict=True):
        verdict: Verdict = "alarm" if is_alarm else against.within(within_rate)
        value, low, high = loss.metric(metric)
        before = reference_loss.metric(metric)[0]
        verdicts.append(
            SliceVerdict(
                column=column,
                slice=name[:NAMED],
                rows=loss.rows,
                verdict=verdict,
                value=value,
                low=low,
                high=high,
                reference=before,
                worse_by=relative_loss(metric, value, before),
                p_value=against.p_value,
            )
        )
    return sorted(verdicts, key=lambda verdict: (verdict.column, verdict.slice))
