"""Measure all metrics of a million rows of ten classes with their intervals, against scikit-learn's plain values.

Ours is what a training computes of a candidate; the peer gives the values of the same metrics, as far as scikit-learn
has them, and nothing about how sure they are. The values are compared. Both are measured in turn in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cpu_time import cpu_of
from benchmarks.row import Row

ROWS = 1_000_000
CLASSES = 10
ROUNDS = 3
BAR_SECONDS = 5.0


def multiclass_gate(rows: int = ROWS) -> list[Row]:
    """Return the row: CPU seconds of all metrics with their intervals."""
    from airflow_mlops.core.evaluation.compare_models import compare_metric
    from airflow_mlops.core.evaluation.gates import Holdout
    from airflow_mlops.core.evaluation.known_metrics import metrics_of_label

    random = np.random.default_rng(1)
    label = random.integers(0, CLASSES, rows)
    scores = random.normal(size=(rows, CLASSES))
    scores[np.arange(rows), label] += 1.5
    chances = np.exp(scores)
    chances /= chances.sum(axis=1, keepdims=True)
    names = list(metrics_of_label((), classifies=True, several=True))
    values: dict[str, Any] = {}

    def measure_ours() -> None:
        holdout = Holdout(label.astype(float), chances, None, {})
        reports = {name: compare_metric(holdout.on_rows(name)) for name in names}
        assert all(report.interval is not None for report in reports.values())
        values.update({name: report.value for name, report in reports.items()})

    ours, peer = [], []
    for number in range(ROUNDS):
        ours.append(cpu_of(measure_ours))
        measured: dict[str, float] = {}
        peer.append(cpu_of(lambda measured=measured: measured.update(plain_values(label, chances))))  # type: ignore[misc]
        for name, value in measured.items():
            np.testing.assert_allclose(values[name], value, rtol=1e-9, err_msg=name)
        print(f"\r    round {number + 1}/{ROUNDS}: ours {ours[-1]:.2f}, peer {peer[-1]:.2f} CPU s", end="", flush=True)
    print()
    our_median, peer_median = median(ours), median(peer)
    return [
        Row(
            name="multiclass_gate",
            ours=round(our_median, 3),
            peer=round(peer_median, 3),
            unit="CPU s",
            peer_name="scikit-learn's values without intervals",
            ratio=round(our_median / peer_median, 3),
            bar=f"ours <= {BAR_SECONDS:g} CPU s",
            reached=our_median <= BAR_SECONDS,
        )
    ]


def plain_values(label: Any, chances: Any) -> dict[str, float]:
    """Return the values of scikit-learn's metrics by our names."""
    from sklearn import metrics

    decisions = chances.argmax(axis=1)
    of_decisions: dict[str, Callable[[Any, Any], float]] = {
        "accuracy": metrics.accuracy_score,
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "cohen_kappa": metrics.cohen_kappa_score,
    }
    for name in ("precision", "recall", "f1"):
        for average in ("macro", "micro", "weighted"):
            of_decisions[f"{name}_{average}"] = partial(getattr(metrics, f"{name}_score"), average=average)
    return {name: metric(label, decisions) for name, metric in of_decisions.items()} | {
        "log_loss": metrics.log_loss(label, chances),
        "roc_auc_ovr": metrics.roc_auc_score(label, chances, multi_class="ovr"),
        "top_2_accuracy": metrics.top_k_accuracy_score(label, chances, k=2),
    }
