"""The check ``importance``: compare the permutation importance of features on a labelled window with the holdout's.

A feature matters by how much the loss of a row rises where the feature is shuffled among the rows. The shares of that
rise on the window are held against those on the champion's holdout. How far they may lie apart by chance follows from
the rows themselves: put together and dealt out anew a few thousand times, they say how large a distance comes from
luck. The rank correlation with the importance on record in the evaluation report stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.evaluation.feature_importance import (
    MAX_FEATURES,
    SHUFFLED_ROWS,
    SHUFFLES,
    importance_stability,
)
from airflow_mlops.core.training.row_losses import Floats, row_losses
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow
from airflow_mlops.core.watch.sampled_rows import SampledRows

PERMUTATIONS = 4_999


@dataclass(frozen=True)
class RowImportance:
    """The part of each row in the rise of the loss where a feature is shuffled, shape (n_rows, n_features).

    The mean over rows is the importance. A row takes part twice: it gets the value of another one, and another one
    gets its value. Counted once, rows would seem to say more than they do.
    """

    names: tuple[str, ...]
    rises: Floats


def check_importance(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Judge whether other features matter to the champion on a window than on its holdout."""
    labelled = int(window.rows.labelled.sum())
    if labelled < terms.min_rows:
        return cannot_tell(
            f"{labelled:,} rows have a label; {terms.min_rows} are needed", rows=labelled, needed=terms.min_rows
        )
    now, before = (row_importance(rows, terms.metric) for rows in (window.rows, window.reference.held_out))
    record = recorded_importance(window)
    return judge_importance(now, before, terms, record=record)


def judge_importance(
    now: RowImportance, before: RowImportance, terms: CheckTerms, *, record: dict[str, float] | None = None
) -> CheckResult:
    """Judge whether the shares of importance have moved; the effect is the share that went to other features.

    Parameters
    ----------
    now, before : RowImportance
        Of rows of the window, and of the reference, for the same features.
    record : dict, optional
        Importance by feature when the champion was judged.
    """
    if len(now.names) < 2:
        return cannot_tell("the champion has one feature, and nothing else to lean on", rows=len(now.rises))
    rows = np.concatenate([now.rises, before.rises])
    size = len(now.rises)
    shares, usual = shares_of(now.rises.mean(axis=0)), shares_of(before.rises.mean(axis=0))
    if not shares.any() or not usual.any():
        return cannot_tell("no feature matters to the champion's loss here", rows=size)
    distance = round(float(np.abs(shares - usual).sum() / 2), 12)
    by_permutation = permutation_distances(rows, size)
    p_value = float((1 + np.sum(by_permutation >= distance - 1e-12)) / (1 + PERMUTATIONS))
    by_chance = round(float(np.median(by_permutation)), 12)
    effect = distance - by_chance
    rank = importance_stability(dict(zip(now.names, now.rises.mean(axis=0), strict=True)), record or {}).value
    numbers = {
        "distance": distance,
        "by_chance": by_chance,
        "effect": effect,
        "p_value": p_value,
        "rank_correlation": rank,
        "rows": size,
    }
    moved = np.argsort(usual - shares)
    message = (
        f"{distance:.0%} of the importance went to other features, by chance it is {by_chance:.0%} (p = {p_value:.2g}, "
        f"{size} rows): {_describe_shift(now.names[moved[0]], usual[moved[0]], shares[moved[0]])}, "
        f"{_describe_shift(now.names[moved[-1]], usual[moved[-1]], shares[moved[-1]])}"
    )
    report = {
        "importance": {
            name: {"window": now.rises[:, at].mean(), "holdout": before.rises[:, at].mean()}
            for at, name in enumerate(now.names)
        }
    }
    if p_value <= max(terms.alarm_rate, 1 / (1 + PERMUTATIONS)) and effect >= terms.min_effect:
        return CheckResult("alarm", message, numbers, report)
    widest = float(np.quantile(by_permutation, 1 - terms.alarm_rate)) - by_chance
    if 0 < terms.min_effect < widest:
        limit = (
            f"; luck alone can move {widest + by_chance:.0%} of it, so {size} rows cannot show {terms.min_effect:.0%}"
        )
        return CheckResult("insufficient data", f"{message}{limit}", numbers, report)
    return CheckResult("no alarm", message, numbers, report)


def row_importance(rows: SampledRows, metric: MetricName) -> RowImportance:
    """Return the importance of each feature to each of at most 500 labelled rows, over three shuffles.

    All shuffles are predicted at once, as the evaluation of candidates does it.
    """
    source = np.random.default_rng(0)
    labelled = np.flatnonzero(rows.labelled)
    chosen = np.sort(source.permutation(labelled)[:SHUFFLED_ROWS])
    features, label = rows.features.iloc[chosen].reset_index(drop=True), rows.label[chosen]
    names = tuple(str(name) for name in features.columns)[:MAX_FEATURES]
    orders = [source.permutation(len(features)) for _ in range(SHUFFLES)]
    shuffled = [features.assign(**{name: features[name].array.take(order)}) for name in names for order in orders]
    stacked = pd.concat([features, *shuffled], ignore_index=True).astype(features.dtypes.to_dict())
    losses = row_losses(metric, np.tile(label, 1 + len(shuffled)), rows.predict(stacked)).reshape(1 + len(shuffled), -1)
    received = losses[1:].reshape(len(names), SHUFFLES, len(features)) - losses[0]
    caused = np.empty_like(received)
    for number, order in enumerate(orders):
        caused[:, number, order] = received[:, number]
    rises = (received + caused - received.mean(axis=2, keepdims=True)).mean(axis=1)
    return RowImportance(names, rises.T)


def recorded_importance(window: WatchedWindow) -> dict[str, float] | None:
    """Return the champion's importance by feature from the evaluation report; None where it has none."""
    details = window.champion.details
    report = window.workspace.evidence.get(str(details.report))
    entry: dict[str, Any] = next(
        (candidate for candidate in report["candidates"] if candidate["candidate"] == details.candidate), {}
    )
    importance: dict[str, float] | None = entry.get("importance", {}).get("permutation")
    return importance


def shares_of(importance: Floats) -> Floats:
    """Return each feature's share of the importance, shape (..., n_features); negative importance counts as 0.

    >>> shares_of(np.array([3.0, 1.0, -0.5])).tolist()
    [0.75, 0.25, 0.0]
    """
    positive = np.maximum(importance, 0.0)
    total = positive.sum(axis=-1, keepdims=True)
    shares: Floats = np.divide(positive, total, out=np.zeros_like(positive), where=total > 0)
    return shares


def permutation_distances(rows: Floats, size: int) -> Floats:
    """Return the distances under random splits of rows, ``size`` of them on one side; shape (PERMUTATIONS,)."""
    source = np.random.default_rng(0)
    order = source.random((PERMUTATIONS, len(rows)), dtype=np.float32).argpartition(size - 1, axis=1)[:, :size]
    side = np.zeros((PERMUTATIONS, len(rows)), np.float32)
    np.put_along_axis(side, order, 1.0, axis=1)
    first_sum = side @ rows.astype(np.float32)
    second_sum = rows.sum(axis=0) - first_sum
    difference = shares_of(first_sum.astype(np.float64) / size) - shares_of(second_sum / (len(rows) - size))
    distance: Floats = np.abs(difference).sum(axis=1) / 2
    return distance


def _describe_shift(name: str, before: float, now: float) -> str:
    return f"{name} {before:.0%} -> {now:.0%}"
