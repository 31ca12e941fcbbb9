"""Error analysis: the confusion matrix of a classifier, the residuals of a regressor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.evaluation.known_metrics import class_counts
from airflow_mlops.core.training.row_losses import Floats


def confusion(label: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, int]:
    """Return the confusion matrix at a probability of 0.5, labels and predictions of shape (n_rows,).

    >>> confusion([0, 0, 1, 1], [0.1, 0.7, 0.9, 0.8])
    {'true_negatives': 1, 'false_positives': 1, 'false_negatives': 0, 'true_positives': 2}
    """
    true_positives, positives, predicted_positives = (
        int(term.sum()) for term in class_counts(np.asarray(label, np.float64), np.asarray(predicted, np.float64))
    )
    rows = np.asarray(label).size
    return {
        "true_negatives": rows - positives - predicted_positives + true_positives,
        "false_positives": predicted_positives - true_positives,
        "false_negatives": positives - true_positives,
        "true_positives": true_positives,
    }


def residuals(label: Floats, predicted: Floats) -> dict[str, float | int]:
    """Return mean, spread and quantiles of prediction minus label, shape (n_rows,), in the unit of the label."""
    errors = predicted - label
    names = ("p1", "p5", "p25", "p50", "p75", "p95", "p99")
    values = np.quantile(errors, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    spread: dict[str, float | int] = {
        "rows": int(errors.size),
        "mean": float(errors.mean()),
        "standard_deviation": float(errors.std()),
        "share_positive": float((errors > 0).mean()),
        "least": float(errors.min()),
        "most": float(errors.max()),
    }
    return spread | dict(zip(names, map(float, values), strict=True))
