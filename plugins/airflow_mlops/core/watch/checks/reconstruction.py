"""The check ``reconstruction``: detect that columns no longer correlate as they did, by principal components.

The principal components of the reference are how its columns move together. A row is put together again from the
leading ones, and what is missing is its error: large where columns contradict each other in a way that the reference
does not know. The window's mean error is judged against those of the reference's own windows, each of which is put
together from the components of the others. The rows that are least like the reference are named in the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks.against_windows import Estimate, compare, shortfall
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import FEWEST_ROWS, CheckTerms
from airflow_mlops.core.watch.checks.encoded_rows import RowEncoder
from airflow_mlops.core.watch.checks.unlike_rows import unlike_rows
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow

EXPLAINED = 0.65
"""Share of the variance that the components in use explain, NannyML's default."""


@dataclass(frozen=True)
class Components:
    """The leading principal components: ``middle`` has the shape (n_columns,), ``axes`` (n_columns, n_components)."""

    middle: Floats
    axes: Floats

    @classmethod
    def of(cls, rows: Floats) -> Components:
        """Return the fewest components, and never all of them, that explain ``EXPLAINED`` of the variance."""
        middle = rows.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(rows - middle, rowvar=False))
        shares = np.cumsum(values[::-1]) / max(float(values.sum()), 1e-300)
        count = min(int(np.searchsorted(shares, EXPLAINED)) + 1, rows.shape[1] - 1)
        return cls(middle, vectors[:, ::-1][:, :count])

    def errors(self, rows: Floats) -> Floats:
        """Return the reconstruction error of each row, shape (n_rows,)."""
        centred = rows - self.middle
        missing: Floats = np.linalg.norm(centred - centred @ self.axes @ self.axes.T, axis=1)
        return missing


def check_reconstruction(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Judge whether the columns of a window still correlate as in its champion's reference."""
    rows = window.rows
    return judge_reconstruction(
        [sample.features for sample in window.reference.windows], rows.features, terms, keys=rows.keys
    )


def judge_reconstruction(
    reference: Sequence[pd.DataFrame],
    window: pd.DataFrame,
    terms: CheckTerms,
    *,
    keys: npt.NDArray[Any] | None = None,
) -> CheckResult:
    """Judge whether columns still correlate as they did; the effect is the relative change of the mean error.

    Parameters
    ----------
    reference : sequence of DataFrame
        Features, one frame for each window of the reference.
    window : DataFrame
        Features of the window to judge.
    keys : array of str, shape (n_rows,), optional
        Keys of the window's rows; the least usual ones are named then.

    Raises
    ------
    NotReadyError
        If no column can be compared.
    """
    if len(window) < FEWEST_ROWS:
        return cannot_tell(f"{len(window)} rows; {FEWEST_ROWS} are needed", rows=len(window), needed=FEWEST_ROWS)
    encoder = RowEncoder(pd.concat(reference, ignore_index=True), window)
    if len(encoder.columns) < 2:
        return cannot_tell(f"one column has nothing to go together with{encoder.remark}", columns=len(encoder.columns))
    parts = [encoder.standardise(frame) for frame in reference]
    errors = Components.of(np.concatenate(parts)).errors(encoder.standardise(window))
    comparison = compare(mean_error(errors), [mean_error(part) for part in window_errors(parts)], both_sides=True)
    usual = max(comparison.usual, 1e-12)
    verdict, needed = comparison.verdict(rows=len(window), alarm_rate=terms.alarm_rate, least=terms.min_effect * usual)
    message = (
        f"rows are put together with a mean error of {comparison.now.value:.3f}, in the reference it is "
        f"{comparison.usual:.3f} (p = {comparison.p_value:.2g}, {len(window):,} rows)"
        f"{shortfall(verdict, needed)}{encoder.remark}"
    )
    unlike = [] if keys is None else unlike_rows(encoder, window, keys, errors)
    report = {"unlike": unlike, "left_out": encoder.left_out}
    effect = comparison.difference / usual
    numbers = {**comparison.numbers(), "effect": effect, "rows": len(window), "needed": needed}
    return CheckResult(verdict, message, numbers, report)


def window_errors(parts: Sequence[Floats]) -> list[Floats]:
    """Return the errors of each window of the reference by the components of the others, each of shape (n_rows,).

    A single window is split into two halves.
    """
    if len(parts) == 1:
        even, odd = parts[0][::2], parts[0][1::2]
        return [np.concatenate([Components.of(odd).errors(even), Components.of(even).errors(odd)])]
    return [
        Components.of(np.concatenate([other for other in parts if other is not part])).errors(part) for part in parts
    ]


def mean_error(errors: Floats) -> Estimate:
    """Return the mean of errors with its standard error."""
    return Estimate(float(errors.mean()), float(np.std(errors, ddof=1)) / sqrt(errors.size))
