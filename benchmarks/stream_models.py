"""The models of the benchmark of streams: boosted trees of scikit-learn, which take numbers and nulls as they come."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

SETTINGS = {"max_iter": 60, "min_samples_leaf": 10, "early_stopping": False}


def regressor(seed: int) -> dict[str, Any]:
    """Return unfitted trees for a number."""
    return {"boosting": HistGradientBoostingRegressor(random_state=seed, **SETTINGS)}


def classifier(seed: int) -> dict[str, Any]:
    """Return unfitted trees for two classes."""
    return {"boosting": HistGradientBoostingClassifier(random_state=seed, **SETTINGS)}
