"""How a model misses: the confusion of a classifier, the residuals of a regressor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.evaluation.known_metrics import counts
from airflow_mlops.core.training.row_losses import Floats


def confusion(label: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, int]:
    """Return how many rows of each class were predicted to be of each, at a probability of 0.5.

    >>> confusion([0, 0, 1, 1], [0.1, 0.7, 0.9, 0.8])
    {'true_negatives': 1, 'false_positives': 1, 'false_negatives': 0, 'true_positives': 2}
    """
    found, ones, said = (
        int(term.sum()) for term in counts(np.asarray(label, np.float64), np.asarray(predicted, np.float64))
    )
    rows = np.asarray(label).size
    return {
        "true_negatives": rows - ones - said + found,
        "false_positives": said - found,
        "false_negatives": ones - found,
        "true_positives": found,
    }


def residuals(label: Floats, predicted: Floats) -> dict[str, float | int]:
    """Return how predictions miss, as prediction less label, in the unit of the label: mean, spread and quantiles."""
    missed = predicted - label
    names = ("p1", "p5", "p25", "p50", "p75", "p95", "p99")
    values = np.quantile(missed, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    spread: dict[str, float | int] = {
        "rows": int(missed.size),
        "mean": float(missed.mean()),
        "standard_deviation": float(missed.std()),
        "share_positive": float((missed > 0).mean()),
        "least": float(missed.min()),
        "most": float(missed.max()),
    }
    return spread | dict(zip(names, map(float, values), strict=True))
