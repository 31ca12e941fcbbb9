"""The quantiles that a model predicts: what a loop of them may declare, and the estimator that holds one model of each.

That estimator is scikit-learn's ``VotingRegressor``, whose ``transform`` gives the prediction of each of its models and
whose ``predict`` gives the middle one: any client that reads a version can load it, and predicts a number with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.loop import Loop

PREFIX = "quantile_"
CHECKS_OF_ONE_NUMBER = ("predictions", "estimated_performance", "importance", "concept")
"""Checks of the watch that need one number for each prediction."""


def quantile_metric(quantiles: Sequence[float]) -> str:
    """Return the name of the mean pinball loss over quantiles.

    >>> quantile_metric([0.025, 0.5, 0.975])
    'pinball_loss_p2_5_p50_p97_5'
    """
    return "pinball_loss" + "".join(f"_p{quantile * 100:g}".replace(".", "_") for quantile in quantiles)


def part_names(quantiles: Sequence[float]) -> list[str]:
    """Return the names of the models of quantiles, and of the columns of what they predict.

    >>> part_names([0.05, 0.5])
    ['quantile_0.05', 'quantile_0.5']
    """
    return [f"{PREFIX}{quantile:g}" for quantile in quantiles]


def join_models(models: Mapping[float, Any]) -> Any:
    """Return one estimator of the models of several quantiles, not fitted."""
    from sklearn.ensemble import VotingRegressor

    names = part_names([*models])
    weights = [float(place == len(names) // 2) for place in range(len(names))]
    return VotingRegressor(list(zip(names, models.values(), strict=True)), weights=weights)


def quantiles_of(model: Any) -> tuple[float, ...] | None:
    """Return the quantiles that an estimator predicts, fitted or not; None if it predicts one number."""
    parts = getattr(model, "estimators", None)
    names = [part[0] for part in parts if isinstance(part, tuple)] if isinstance(parts, list) else []
    if not names or not all(isinstance(name, str) and name.startswith(PREFIX) for name in names):
        return None
    return tuple(float(name.removeprefix(PREFIX)) for name in names)


def require_fitting_quantiles(loop: Loop) -> None:
    """Raise DeclarationError if quantiles do not fit the metrics, or a key is for one number only.

    Raises
    ------
    DeclarationError
        For the first such key.
    """
    _require_metrics(loop)
    if not loop.train.quantiles:
        return
    if loop.classifies:
        raise DeclarationError(
            "quantiles are of numbers, and the metrics are of classes; leave them out", key="train.quantiles"
        )
    checks = ", ".join(name for name in loop.watch.checks if name in CHECKS_OF_ONE_NUMBER)
    refusals = (
        (loop.rollout.target == "sagemaker", "rollout.target", "sagemaker serves", "use batch or gateway"),
        (bool(checks), "watch.checks", f"{checks}: needs", "leave it out"),
        (bool(loop.evaluate.groups), "evaluate.groups", "fairness is measured for", "leave it out"),
        (any(gate.group for gate in loop.gates), "gates", "fairness is measured for", "leave the gate out"),
        (loop.evaluate.shap, "evaluate.shap", "SHAP values are computed for", "leave it out"),
    )
    for is_declared, key, words, remedy in refusals:
        if is_declared:
            raise DeclarationError(
                f"{words} one number for each row, and train.quantiles declares {len(loop.train.quantiles)}; {remedy}",
                key=key,
            )


def _require_metrics(loop: Loop) -> None:
    """Raise DeclarationError if a metric is of other quantiles than the model predicts."""
    from airflow_mlops.core.declaration.evaluate import QUANTILE_METRICS, metric_parameter

    quantiles = loop.train.quantiles
    names = [(f"gates[{index}].metric", gate.metric) for index, gate in enumerate(loop.gates)]
    if loop.watch.performance:
        names.append(("watch.performance.metric", loop.watch.performance.metric))
    for key, name in names:
        kind, numbers = metric_parameter(name) or (name, ())
        if not quantiles and (name in QUANTILE_METRICS or len(numbers) > 1):
            raise DeclarationError(f"{name} is of a model of several quantiles; declare train.quantiles", key=key)
        if quantiles and kind == "pinball_loss" and numbers != quantiles:
            raise DeclarationError(
                f"{name} is of other quantiles than train.quantiles declares; use {quantile_metric(quantiles)}", key=key
            )
