"""The check ``predictions``: does the champion predict what it used to?

The distribution of its predictions is held against those of its reference, as the drift of inputs holds a column
against them: the same bins, the same test, calibrated by the reference's own windows. A shift of many inputs that
cancels in the prediction is no matter here, and one that the model magnifies is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.data.profiles.column_bins import ColumnBins, quantile_edges
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks.against_windows import lacking
from airflow_mlops.core.watch.checks.check_result import CheckResult, Verdict
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow
from airflow_mlops.core.watch.drift.drift_verdict import DriftVerdict, judge_columns


def check_predictions(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Return whether the champion's predictions of a window are distributed as those of its reference."""
    reference = window.reference
    fitted, holdout = ([one.predictions for one in part] for part in (reference.fitted, reference.holdout))
    return judge_predictions(fitted, holdout, window.rows.predictions, terms)


def judge_predictions(
    fitted: Sequence[Floats], holdout: Sequence[Floats], window: Floats, terms: CheckTerms
) -> CheckResult:
    """Return whether predictions are distributed as those of the reference.

    Predictions of rows that a model was fitted on may be closer to the labels than it can be otherwise. Where those of
    the holdout are distributed otherwise, the holdout alone is the reference.

    Parameters
    ----------
    fitted, holdout : sequence of array of float, each shape (n_rows,)
        Predictions of each partition of the training window, and of the holdout.
    window : array of float, shape (n_rows,)
        Predictions of the window to judge.
    """
    parts, what = [*fitted, *holdout], "training window and holdout"
    if fitted and holdout and _judged(fitted, np.concatenate(holdout), terms).drifted:
        parts, what = list(holdout), "holdout, which is predicted otherwise than the training window,"
    found = _judged(parts, window, terms)
    numbers: dict[str, Any] = {"rows": found.rows, "needed": found.needed, "reference_windows": len(parts)}
    if not found.columns:
        return CheckResult("insufficient data", f"{found.rows} rows; {found.needed} are needed", numbers)
    column, usual = found.columns[0], np.concatenate(parts)
    numbers |= {
        "p_value": column.p_value, "distance": column.distance, "detectable": column.detectable,
        "mean": window.mean(), "usual_mean": usual.mean(),
    }  # fmt: skip
    verdict = cast(Verdict, found.verdict)
    enough = found.needed is not None and found.rows >= found.needed
    said = (
        f"{column.distance:.1%} of the predictions lie elsewhere than in {what} (p = {column.p_value:.2g}); their mean "
        f"is {window.mean():.4g}, it was {usual.mean():.4g}{lacking(verdict, None if enough else found.needed)}"
    )
    quantiles = np.linspace(0, 1, 21)
    report = {"window": np.quantile(window, quantiles), "reference": np.quantile(usual, quantiles)}
    return CheckResult(verdict, said, numbers, report)


def _judged(parts: Sequence[Floats], window: Floats, terms: CheckTerms) -> DriftVerdict:
    """Return the verdict on predictions as the drift of inputs gives it on a column."""
    bins = ColumnBins(quantile_edges(np.concatenate(parts)))
    return judge_columns(
        {"prediction": counted(bins, parts)}, {"prediction": counted(bins, [window])[0]},
        alarm_rate=terms.alarm_rate, min_effect=terms.min_effect,
    )  # fmt: skip


def counted(bins: ColumnBins, parts: Sequence[Floats]) -> npt.NDArray[np.int64]:
    """Return the predictions of each part in each bin, shape (n_parts, n_bins)."""
    return np.stack([bins.count(part) for part in parts])
