"""Measure metrics by slice on a million rows, against Fairlearn's MetricFrame with the same metrics.

Ten columns with 3 to 40 values, five metrics of a classifier. Both give every metric of every value of every column;
the numbers are compared before they are timed. Both are measured in turn in one process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cpu_time import cpu_of
from benchmarks.row import Row

ROWS = 1_000_000
METRICS = ("accuracy", "precision", "recall", "log_loss", "brier")
VALUES = (3, 4, 5, 8, 10, 12, 16, 20, 30, 40)
BAR_SECONDS = 5.0


def slices() -> list[Row]:
    """Return the row: CPU seconds of five metrics over the values of ten columns."""
    from airflow_mlops.core.evaluation.known_metrics import METRICS as KNOWN
    from airflow_mlops.core.evaluation.metrics_by_slice import metrics_by_slice

    random = np.random.default_rng(1)
    label = (random.random(ROWS) < 0.3).astype(float)
    predicted = np.clip(0.3 * label + 0.6 * random.random(ROWS), 0.01, 0.99)
    columns: dict[str, npt.NDArray[Any]] = {
        f"by_{count}": np.array([f"v{number:02}" for number in range(count)], dtype=object)[
            random.integers(0, count, ROWS)
        ]
        for count in VALUES
    }
    metrics = {name: KNOWN[name] for name in METRICS}
    results: dict[str, Any] = {}
    ours = cpu_of(lambda: results.update(ours=metrics_by_slice(metrics, label, predicted, columns)))
    print(f"    ours {ours:.2f} CPU s; the peer takes longer", flush=True)
    peer = cpu_of(lambda: results.update(peer=frames(label, predicted, columns)))
    for column, (_, values) in results["ours"].items():
        for name in METRICS:
            np.testing.assert_allclose(values[name], results["peer"][column][name].to_numpy(float), rtol=1e-9)
    return [
        Row(
            name="slices",
            ours=round(ours, 3),
            peer=round(peer, 3),
            unit="CPU s",
            peer_name="Fairlearn's MetricFrame, a column at a time",
            ratio=round(ours / peer, 4),
            bar=f"ours <= {BAR_SECONDS:g} CPU s",
            reached=ours <= BAR_SECONDS,
        )
    ]


def frames(
    label: npt.NDArray[np.float64], predicted: npt.NDArray[np.float64], columns: dict[str, npt.NDArray[Any]]
) -> dict[str, Any]:
    """Return MetricFrame's table of each column: a row for each value and a column for each metric."""
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, precision_score, recall_score

    def of_class(metric: Any) -> Any:
        return lambda true, probability: metric(true, probability >= 0.5)

    metrics = {
        "accuracy": of_class(accuracy_score),
        "precision": of_class(precision_score),
        "recall": of_class(recall_score),
        "log_loss": log_loss,
        "brier": brier_score_loss,
    }
    truth = label.astype(int)
    return {
        name: MetricFrame(metrics=metrics, y_true=truth, y_pred=predicted, sensitive_features=column).by_group
        for name, column in columns.items()
    }
