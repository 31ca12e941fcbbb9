"""Permutation importance: the rise of a model's loss if one feature is shuffled among the rows.

It is measured on the input columns of the model, not on those within its pipeline. Candidate and champion get the same
shuffles, so that their rankings can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.training.row_losses import Floats, row_losses

SHUFFLED_ROWS = 500
SHUFFLES = 3
MIN_FEATURES = 3
MAX_FEATURES = 200


@dataclass(frozen=True)
class Stability:
    """The agreement of two rankings of the same features: Spearman's rank correlation, from -1 to 1."""

    value: float | None
    features: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the stability as JSON values."""
        return {"spearman": self.value, "features": self.features, "reason": self.reason}


def permutation_importance(
    predict: Callable[[pd.DataFrame], Floats], features: pd.DataFrame, label: Floats, metric: MetricName, *, seed: int
) -> dict[str, float]:
    """Return the rise of the mean loss of a row if a feature is shuffled, by feature.

    A sample of at most ``SHUFFLED_ROWS`` rows is shuffled ``SHUFFLES`` times. All shuffles are predicted in one call,
    because most of the cost of a prediction is that of its call.

    Parameters
    ----------
    predict : callable
        Returns predictions, shape (n_rows,), of features.
    features : DataFrame
        Features of the holdout, shape (n_rows, n_features); at most ``MAX_FEATURES`` of them are shuffled.
    label : ndarray of float, shape (n_rows,)
        Labels of the holdout.
    metric : str
        Metric whose loss is measured.
    seed : int
        Seed of the sample and of the shuffles.
    """
    random = np.random.default_rng(seed)
    sample = np.sort(random.permutation(len(features))[:SHUFFLED_ROWS])
    features, label = features.iloc[sample].reset_index(drop=True), label[sample]
    names = list(features.columns)[:MAX_FEATURES]
    orders = [random.permutation(len(features)) for _ in range(SHUFFLES)]
    shuffled = [
        features.assign(**{str(name): features[name].take(order).to_numpy()}) for name in names for order in orders
    ]
    # The types are restored: concat turns categoricals with different categories into text.
    frames = pd.concat([features, *shuffled], ignore_index=True).astype(features.dtypes.to_dict())
    losses = row_losses(metric, np.tile(label, 1 + len(shuffled)), predict(frames)).reshape(1 + len(shuffled), -1)
    rises = losses[1:].mean(axis=1).reshape(len(names), SHUFFLES).mean(axis=1) - losses[0].mean()
    return {str(name): float(rise) for name, rise in zip(names, rises, strict=True)}


def importance_stability(candidate: Mapping[str, float], champion: Mapping[str, float]) -> Stability:
    """Return the rank correlation of the importances of the features that both models have.

    >>> importance_stability({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 30.0, "b": 20.0, "c": 10.0}).value
    1.0
    """
    from scipy.stats import spearmanr

    common = [name for name in candidate if name in champion]
    if len(common) < MIN_FEATURES:
        return Stability(None, len(common), f"{len(common)} features in common, {MIN_FEATURES} are needed to say")
    first, second = ([importance[name] for name in common] for importance in (candidate, champion))
    if len(set(first)) == 1 or len(set(second)) == 1:
        return Stability(None, len(common), "one of the models leans on all features alike")
    value = float(spearmanr(first, second).statistic)
    return Stability(round(value, 12), len(common), f"Spearman's correlation of {len(common)} features is {value:.2f}")
