"""Give a classifier the probability from which two classes are decided: declared, or chosen by the costs of mistakes.

It is chosen on the newest rows of the window, by a fit on the older ones, so on rows that the fit has not seen; the
holdout, which the gates judge, has no part in it. The model is then fitted on all rows of the window. The version holds
the threshold as scikit-learn's ``FixedThresholdClassifier``: its ``predict`` decides by it, and its probabilities stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.predict import gives_decisions, predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.search_parameters import split_in_time


def fit_threshold(model: Any, settings: Mapping[str, Any], rows: FitRows) -> Any:
    """Return a fitted classifier with the declared threshold, or that which costs least on the newest rows.

    Parameters
    ----------
    settings : mapping
        ``value``, or ``costs`` of a ``false_positive`` and a ``false_negative`` with ``validation``, the percent of the
        newest rows of the window.

    Raises
    ------
    TrainingError
        If the model has no probabilities, or the older or the newer rows are of one class.
    """
    from sklearn.model_selection import FixedThresholdClassifier

    if gives_decisions(model):
        raise TrainingError(f"{type(model).__name__} has no probabilities, which train.threshold needs; leave one out")
    threshold = settings["value"] if "value" in settings else _chosen(model, settings, rows)
    decided = FixedThresholdClassifier(model, threshold=threshold, response_method="predict_proba")
    for name in ("feature_names_in_", "n_features_in_"):
        if hasattr(model, name):
            setattr(decided, name, getattr(model, name))
    return decided


def _chosen(model: Any, settings: Mapping[str, Any], rows: FitRows) -> float:
    from sklearn.base import clone

    older, newer = split_in_time(rows.moment, settings["validation"])
    for words, part in (("older", older), ("newest", newer)):
        if len(np.unique(rows.label[part])) < 2:
            raise TrainingError(
                f"the {words} rows of the window are all of one class, so that they show no threshold; change "
                f"train.threshold.validation, which is {settings['validation']} %, or widen train.window"
            )
    trial = clone(model).fit(model_input(model, rows.features.iloc[older]), rows.label[older])
    chances = predict(trial, rows.features.iloc[newer], classifies=True)
    costs = settings["costs"]
    return cheapest_threshold(rows.label[newer], chances, costs["false_positive"], costs["false_negative"])


def cheapest_threshold(label: Floats, chances: Floats, false_positive: float, false_negative: float) -> float:
    """Return the threshold whose decisions cost least; of several, the nearest to that of true probabilities.

    Of true probabilities it is the cost of a false positive as a share of both costs (Elkan, 2001, "The foundations of
    cost-sensitive learning"). Labels and probabilities have the shape (n_rows,).

    >>> cheapest_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.4, 0.9]), 1.0, 1.0)
    0.35
    >>> cheapest_threshold(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.4, 0.9]), 1.0, 5.0)
    0.16666666666666666
    """
    values, place = np.unique(chances, return_inverse=True)
    positives = np.bincount(place, label, values.size)
    negatives = np.bincount(place, 1 - label, values.size)
    missed = np.concatenate([[0.0], np.cumsum(positives)])  # those below each place
    alarmed = np.concatenate([np.cumsum(negatives[::-1])[::-1], [0.0]])  # those from it on
    costs = false_positive * alarmed + false_negative * missed
    between = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [np.nextafter(max(float(values[-1]), 1.0), 2.0)]])
    ideal = false_positive / (false_positive + false_negative)
    cheapest = np.flatnonzero(costs <= costs.min() * (1 + 1e-12))
    if int(np.searchsorted(values, ideal)) in cheapest:
        return ideal
    return float(between[cheapest[np.argmin(np.abs(between[cheapest] - ideal))]])


def threshold_of(model: Any) -> float | None:
    """Return the threshold that was chosen with a model; None where none was declared.

    A ``FixedThresholdClassifier`` of the training function has been fitted as a whole, and one that was chosen here
    holds the fitted model.
    """
    if type(model).__name__ != "FixedThresholdClassifier" or hasattr(model, "estimator_"):
        return None
    return float(model.threshold)


def decide(predicted: Floats, threshold: float | None) -> Floats:
    """Return decisions, 0.0 or 1.0, of probabilities of shape (n_rows,); the probabilities where there is no threshold.

    >>> decide(np.array([0.1, 0.2, 0.7]), 0.2).tolist()
    [0.0, 1.0, 1.0]
    """
    return predicted if threshold is None else (predicted >= threshold).astype(np.float64)
