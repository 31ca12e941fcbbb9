"""The check ``predictions``: detect that the distribution of the champion's predictions has shifted.

The distribution of its predictions is held against those of its reference, as the drift of inputs holds a column
against them: the same bins, the same test, calibrated by the reference's own windows. A shift of many inputs that
cancels in the prediction is no matter here, and one that the model magnifies is. Of three classes or more, the numbers
of rows by their most likely class are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.data.profiles.column_bins import ColumnBins, quantile_edges
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks.against_windows import shortfall
from airflow_mlops.core.watch.checks.check_result import CheckResult, Verdict
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow
from airflow_mlops.core.watch.drift.drift_verdict import DriftVerdict, judge_columns


def check_predictions(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Judge whether the champion's predictions of a window are distributed otherwise than in its reference."""
    reference = window.reference
    fitted, holdout = ([sample.predictions for sample in part] for part in (reference.fitted, reference.holdout))
    classes = window.workspace.loop.class_names or ()
    if len(classes) > 2:
        return judge_predicted_classes(fitted, holdout, window.rows.predictions, terms, classes)
    return judge_predictions(fitted, holdout, window.rows.predictions, terms)


def judge_predicted_classes(
    fitted: Sequence[Floats], holdout: Sequence[Floats], window: Floats, terms: CheckTerms, classes: tuple[str, ...]
) -> CheckResult:
    """Judge whether the classes are predicted as often as in the reference; see :func:`judge_predictions`.

    Parameters
    ----------
    fitted, holdout : sequence of array of float, each shape (n_rows, n_classes)
        Probabilities of each partition of the training window, and of the holdout.
    window : array of float, shape (n_rows, n_classes)
        Probabilities of the window to judge.
    """

    def shift(parts: Sequence[Floats], judged: Floats) -> DriftVerdict:
        # The last two bins, of other values and of nulls, have no rows.
        return judge_columns(
            {"prediction": np.stack([np.append(count_classes(part), [0, 0]) for part in parts])},
            {"prediction": np.append(count_classes(judged), [0, 0])},
            alarm_rate=terms.alarm_rate,
            min_effect=terms.min_effect,
            unordered={"prediction"},
            lone_is_usual=True,  # the holdout, where predictions of the training window are no measure
        )

    parts, reference_name = [*fitted, *holdout], "training window and holdout"
    if fitted and holdout and shift(fitted, np.concatenate(holdout)).drifted:
        parts, reference_name = list(holdout), "holdout, which is predicted otherwise than the training window,"
    verdict = shift(parts, window)
    numbers: dict[str, Any] = {"rows": verdict.rows, "needed": verdict.needed, "reference_windows": len(parts)}
    if not verdict.columns:
        return CheckResult("insufficient data", f"{verdict.rows} rows; {verdict.needed} are needed", numbers)
    column = verdict.columns[0]
    now, usual = (count_classes(rows) / len(rows) for rows in (window, np.concatenate(parts)))
    shares = {name: [float(a), float(b)] for name, a, b in zip(classes, now, usual, strict=True)}
    numbers |= {"p_value": column.p_value, "distance": column.distance, "detectable": column.detectable}
    numbers |= {"shares": {name: {"now": first, "usual": second} for name, (first, second) in shares.items()}}
    outcome = cast(Verdict, verdict.verdict)
    enough = verdict.needed is not None and verdict.rows >= verdict.needed
    listed = ", ".join(f"{name} {first:.1%} and usually {second:.1%}" for name, (first, second) in shares.items())
    message = (
        f"{column.distance:.1%} of the rows are predicted to be of another class than in {reference_name} "
        f"(p = {column.p_value:.2g}): {listed}{shortfall(outcome, None if enough else verdict.needed)}"
    )
    return CheckResult(outcome, message, numbers)


def count_classes(probabilities: Floats) -> npt.NDArray[np.int64]:
    """Return the number of rows by their most likely class, shape (n_classes,)."""
    return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])


def judge_predictions(
    fitted: Sequence[Floats], holdout: Sequence[Floats], window: Floats, terms: CheckTerms
) -> CheckResult:
    """Judge whether predictions are distributed otherwise than in the reference.

    Predictions of rows that a model was fitted on may be closer to the labels than it can be otherwise. Where those of
    the holdout are distributed otherwise, the holdout alone is the reference.

    Parameters
    ----------
    fitted, holdout : sequence of array of float, each shape (n_rows,)
        Predictions of each partition of the training window, and of the holdout.
    window : array of float, shape (n_rows,)
        Predictions of the window to judge.
    """
    parts, reference_name = [*fitted, *holdout], "training window and holdout"
    if fitted and holdout and _judge_shift(fitted, np.concatenate(holdout), terms).drifted:
        parts, reference_name = list(holdout), "holdout, which is predicted otherwise than the training window,"
    verdict = _judge_shift(parts, window, terms)
    numbers: dict[str, Any] = {"rows": verdict.rows, "needed": verdict.needed, "reference_windows": len(parts)}
    if not verdict.columns:
        return CheckResult("insufficient data", f"{verdict.rows} rows; {verdict.needed} are needed", numbers)
    column, usual = verdict.columns[0], np.concatenate(parts)
    numbers |= {
        "p_value": column.p_value,
        "distance": column.distance,
        "detectable": column.detectable,
        "mean": window.mean(),
        "usual_mean": usual.mean(),
    }
    outcome = cast(Verdict, verdict.verdict)
    enough = verdict.needed is not None and verdict.rows >= verdict.needed
    lack = shortfall(outcome, None if enough else verdict.needed)
    message = (
        f"{column.distance:.1%} of the predictions lie elsewhere than in {reference_name} (p = {column.p_value:.2g}); "
        f"their mean is {window.mean():.4g}, it was {usual.mean():.4g}{lack}"
    )
    quantiles = np.linspace(0, 1, 21)
    report = {"window": np.quantile(window, quantiles), "reference": np.quantile(usual, quantiles)}
    return CheckResult(outcome, message, numbers, report)


def _judge_shift(parts: Sequence[Floats], window: Floats, terms: CheckTerms) -> DriftVerdict:
    """Return the drift verdict on predictions, judged like a column of the inputs."""
    bins = ColumnBins(quantile_edges(np.concatenate(parts)))
    return judge_columns(
        {"prediction": bin_counts(bins, parts)},
        {"prediction": bin_counts(bins, [window])[0]},
        alarm_rate=terms.alarm_rate,
        min_effect=terms.min_effect,
        lone_is_usual=True,  # the holdout, where predictions of the training window are no measure
    )


def bin_counts(bins: ColumnBins, parts: Sequence[Floats]) -> npt.NDArray[np.int64]:
    """Return the number of predictions of each part in each bin, shape (n_parts, n_bins)."""
    return np.stack([bins.count(part) for part in parts])
