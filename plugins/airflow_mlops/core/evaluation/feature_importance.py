"""Which features a model leans on: how much worse it predicts where one feature is shuffled among the rows.

It is found for the columns that the model was given, whatever its pipeline makes of them. Candidate and champion get
the same shuffles, so that their rankings can be compared.
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
FEWEST_FEATURES = 3
MOST_FEATURES = 200


@dataclass(frozen=True)
class Stability:
    """How alike two rankings of the same features are: Spearman's rank correlation, from -1 to 1."""

    value: float | None
    features: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the stability as JSON values."""
        return {"spearman": self.value, "features": self.features, "reason": self.reason}


def permutation_importance(
    predict: Callable[[pd.DataFrame], Floats], features: pd.DataFrame, label: Floats, metric: MetricName, *, seed: int
) -> dict[str, float]:
    """Return by how much the mean loss of a row rises where a feature is shuffled, by feature.

    A sample of at most ``SHUFFLED_ROWS`` rows is shuffled ``SHUFFLES`` times. All shuffles are predicted at once: the
    cost of a prediction is mostly that of its call.

    Parameters
    ----------
    predict : callable
        Gives predictions, shape (n_rows,), of features.
    """
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(features))[:SHUFFLED_ROWS])
    features, label = features.iloc[chosen].reset_index(drop=True), label[chosen]
    names = list(features.columns)[:MOST_FEATURES]
    orders = [random.permutation(len(features)) for _ in range(SHUFFLES)]
    shuffled = [
        features.assign(**{str(name): features[name].take(order).to_numpy()}) for name in names for order in orders
    ]
    # Types stay what they were: a column of categories would become text where frames of other categories meet.
    whole = pd.concat([features, *shuffled], ignore_index=True).astype(features.dtypes.to_dict())
    losses = row_losses(metric, np.tile(label, 1 + len(shuffled)), predict(whole)).reshape(1 + len(shuffled), -1)
    rises = losses[1:].mean(axis=1).reshape(len(names), SHUFFLES).mean(axis=1) - losses[0].mean()
    return {str(name): float(rise) for name, rise in zip(names, rises, strict=True)}


def importance_stability(candidate: Mapping[str, float], champion: Mapping[str, float]) -> Stability:
    """Return how alike the rankings of the features are that both models have.

    >>> importance_stability({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 30.0, "b": 20.0, "c": 10.0}).value
    1.0
    """
    from scipy.stats import spearmanr

    common = [name for name in candidate if name in champion]
    if len(common) < FEWEST_FEATURES:
        return Stability(None, len(common), f"{len(common)} features in common, {FEWEST_FEATURES} are needed to say")
    ours, theirs = ([of[name] for name in common] for of in (candidate, champion))
    if len(set(ours)) == 1 or len(set(theirs)) == 1:
        return Stability(None, len(common), "one of the models leans on all features alike")
    value = float(spearmanr(ours, theirs).statistic)
    return Stability(round(value, 12), len(common), f"Spearman's correlation of {len(common)} features is {value:.2f}")
