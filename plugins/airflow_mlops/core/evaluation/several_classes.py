"""The metrics of three classes or more: labels are codes from 0, predictions are probabilities of each class.

The definitions are those of scikit-learn, a class without rows and predictions left out of a macro average as there.
The calibration error is that of Guo et al. (2017), "On Calibration of Modern Neural Networks": in equal bins of the
largest probability, the mean distance between that probability and the share of rows on which its class is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.evaluation.roc_auc import weighted_auc
from airflow_mlops.core.training.row_losses import Floats

BINS = 10
"""Number of equal bins of the largest probability in the calibration error."""

Combine = Callable[[Floats, Floats], Floats]


def counts_by_class(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Yield three indicators of shape (n_rows,) for each class: both of it, of it, predicted to be of it.

    Parameters
    ----------
    label : ndarray of float, shape (n_rows,)
        Codes.
    predicted : ndarray of float, shape (n_rows, n_classes)
        Probabilities.
    """
    most_likely = predicted.argmax(axis=1)
    for code in range(predicted.shape[1]):
        of_class, predicted_so = label == code, most_likely == code
        yield (of_class & predicted_so).astype(np.float64)
        yield of_class.astype(np.float64)
        yield predicted_so.astype(np.float64)


def divide(above: Floats, below: Floats, *, otherwise: float = 0.0) -> Floats:
    """Return the quotient, and ``otherwise`` where the divisor is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, otherwise)


def _by_class(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Return hits, rows and predictions of each class, shape (n_classes, ...), from the sums of the terms."""
    return sums[0::3], sums[1::3], sums[2::3]


def precision_by_class(hits: Floats, rows: Floats, predictions: Floats) -> Floats:  # noqa: ARG001
    """Return the precision of each class; 0 where no row is predicted to be of it."""
    return divide(hits, predictions)


def recall_by_class(hits: Floats, rows: Floats, predictions: Floats) -> Floats:  # noqa: ARG001
    """Return the recall of each class; 0 where no row is of it."""
    return divide(hits, rows)


def f1_by_class(hits: Floats, rows: Floats, predictions: Floats) -> Floats:
    """Return the harmonic mean of precision and recall of each class; 0 where it has neither."""
    return divide(2 * hits, rows + predictions)


def macro(measure: Callable[[Floats, Floats, Floats], Floats]) -> Combine:
    """Return the mean over the classes that have rows or predictions."""

    def combine(sums: Floats, _rows: Floats) -> Floats:
        hits, rows, predictions = _by_class(sums)
        present = (rows + predictions > 0).astype(np.float64)
        total = (measure(hits, rows, predictions) * present).sum(axis=0)
        return divide(total, present.sum(axis=0), otherwise=np.nan)

    return combine


def micro(measure: Callable[[Floats, Floats, Floats], Floats]) -> Combine:
    """Return the measure of the counts of all classes together."""

    def combine(sums: Floats, _rows: Floats) -> Floats:
        return measure(*(counts.sum(axis=0) for counts in _by_class(sums)))

    return combine


def weighted(measure: Callable[[Floats, Floats, Floats], Floats]) -> Combine:
    """Return the mean over the classes by their numbers of rows."""

    def combine(sums: Floats, _rows: Floats) -> Floats:
        hits, rows, predictions = _by_class(sums)
        total = (measure(hits, rows, predictions) * rows).sum(axis=0)
        return divide(total, rows.sum(axis=0), otherwise=np.nan)

    return combine


def balanced_accuracy(sums: Floats, _rows: Floats) -> Floats:
    """Return the mean recall of the classes that have rows."""
    hits, rows, predictions = _by_class(sums)
    present = (rows > 0).sum(axis=0)
    return divide(recall_by_class(hits, rows, predictions).sum(axis=0), present, otherwise=np.nan)


def cohen_kappa(sums: Floats, rows: Floats) -> Floats:
    """Return Cohen's kappa: the agreement beyond chance, as a share of what chance leaves; NaN if it leaves none."""
    hits, of_class, predictions = _by_class(sums)
    agreement = divide(hits.sum(axis=0), rows)
    by_chance = divide((of_class * predictions).sum(axis=0), rows**2)
    return divide(agreement - by_chance, 1 - by_chance, otherwise=np.nan)


def top_2_terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Yield whether the class of a row is one of the two with the largest probabilities, shape (n_rows,)."""
    # The order of scikit-learn's top_k_accuracy_score: of equal probabilities the later class comes first.
    largest = np.argsort(predicted, axis=1, kind="stable")[:, ::-1][:, :2]
    yield (largest == label[:, None]).any(axis=1).astype(np.float64)


def row_mean(sums: Floats, rows: Floats) -> Floats:
    """Return the mean of one term."""
    return divide(sums[0], rows, otherwise=np.nan)


def calibration_terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Yield for each bin the largest probability less the hit of its rows, and 0 for the other rows."""
    confidence = predicted.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    errors = confidence - (predicted.argmax(axis=1) == label)
    for number in range(BINS):
        yield np.where(bins == number, errors, 0.0)


def calibration_error(sums: Floats, rows: Floats) -> Floats:
    """Return the mean distance from the sums of the bins."""
    return divide(np.abs(sums).sum(axis=0), rows, otherwise=np.nan)


def roc_auc_ovr(label: Floats, predicted: Floats, weight: Floats | None = None) -> float:
    """Return the mean over the classes of the area under the ROC curve of each against the others.

    NaN if a class has no row, or all.
    """
    codes = range(predicted.shape[1])
    if weight is not None:
        areas = [weighted_auc((label == code).astype(float), predicted[:, code], weight[None, :]) for code in codes]
        return float(np.mean(areas))
    return float(
        np.mean([pair_share(predicted[label == code, code], predicted[label != code, code]) for code in codes])
    )


def pair_share(inside: Floats, outside: Floats) -> float:
    """Return the share of pairs of two values in which the one inside is larger, an equal one counting half.

    NaN if there are no pairs.
    """
    inside, outside = np.sort(inside), np.sort(outside)
    if not inside.size or not outside.size:
        return float("nan")
    pairs = np.searchsorted(outside, inside, "left").sum() + np.searchsorted(outside, inside, "right").sum()
    return float(pairs / (2 * inside.size * outside.size))


def confusion_matrix(label: npt.ArrayLike, predicted: npt.ArrayLike, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the class names, and the numbers of rows by class (outer list) and most likely class (inner lists).

    >>> confusion_matrix([0.0, 1.0], [[0.9, 0.1], [0.6, 0.4]], ("a", "b"))
    {'classes': ['a', 'b'], 'rows': [[1, 0], [1, 0]]}
    """
    codes, count = np.asarray(label).astype(np.int64), len(names)
    flat = codes * count + np.asarray(predicted).argmax(axis=1)
    return {"classes": list(names), "rows": np.bincount(flat, minlength=count * count).reshape(count, count).tolist()}
