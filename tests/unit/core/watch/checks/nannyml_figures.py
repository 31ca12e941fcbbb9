"""Figures of NannyML's CBPE for generated classes; run by hand, in an environment that has NannyML.

    .venv-nannyml/bin/python tests/unit/core/watch/checks/nannyml_figures.py

The test of our own estimate holds itself against the figures that this prints.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

REFERENCE, WINDOW = 6_000, 4_000
CLASSES = ("early", "late", "on time")


def made_up_classes(*, overconfident: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a reference with labels and a window, as columns ``p`` and ``y``; the window has harder rows.

    ``overconfident`` is by how much the log odds of ``p`` are too large: 1 is calibrated.
    """
    source = np.random.default_rng(20130106)

    def rows(count: int, spread: float) -> pd.DataFrame:
        odds = source.normal(-0.5, spread, count)
        label = (source.random(count) < 1 / (1 + np.exp(-odds))).astype(int)
        return pd.DataFrame({"p": 1 / (1 + np.exp(-overconfident * odds)), "y": label})

    return rows(REFERENCE, 2.0), rows(WINDOW, 1.0)


def made_up_three_classes(*, overconfident: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a reference with labels and a window, as columns ``CLASSES`` and ``y``; the window has harder rows.

    ``overconfident`` is by how much the log probabilities of the classes lie too far apart: 1 is calibrated.
    """
    source = np.random.default_rng(20130107)

    def probabilities(log: np.ndarray) -> np.ndarray:
        return np.exp(log) / np.exp(log).sum(axis=1, keepdims=True)

    def rows(count: int, spread: float) -> pd.DataFrame:
        log = source.normal([0.0, -1.0, 0.5], spread, (count, len(CLASSES)))
        codes = (source.random((count, 1)) > probabilities(log).cumsum(axis=1)[:, :-1]).sum(axis=1)
        table = pd.DataFrame(probabilities(overconfident * log), columns=list(CLASSES))
        return table.assign(y=np.array(CLASSES)[codes])

    return rows(REFERENCE, 2.0), rows(WINDOW, 1.0)


def estimate_metrics_of_classes(reference: pd.DataFrame, window: pd.DataFrame) -> dict[str, float]:
    """Return NannyML's estimates of accuracy and of the mean one-vs-rest AUC on the window."""
    import nannyml

    def with_prediction(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(said=np.array(CLASSES)[table[list(CLASSES)].to_numpy().argmax(axis=1)])

    estimator = nannyml.CBPE(
        metrics=["accuracy", "roc_auc"],
        y_pred_proba={name: name for name in CLASSES},
        y_pred="said",
        y_true="y",
        chunk_size=WINDOW,
        problem_type="classification_multiclass",
    )
    estimator.fit(with_prediction(reference))
    table = estimator.estimate(with_prediction(window)).filter(period="analysis").to_df()
    return {metric: float(table[(metric, "value")].iloc[0]) for metric in ("accuracy", "roc_auc")}


def estimate_metrics(reference: pd.DataFrame, window: pd.DataFrame) -> dict[str, float]:
    """Return NannyML's estimates of accuracy and AUC on the window."""
    import nannyml

    estimates = {}
    for metric in ("accuracy", "roc_auc"):
        estimator = nannyml.CBPE(
            metrics=[metric],
            y_pred_proba="p",
            y_pred="said",
            y_true="y",
            chunk_size=WINDOW,
            problem_type="classification_binary",
        )
        estimator.fit(reference.assign(said=(reference["p"] >= 0.5).astype(int)))
        of_window = estimator.estimate(window.assign(said=(window["p"] >= 0.5).astype(int)))
        table = of_window.filter(period="analysis").to_df()
        estimates[metric] = float(table[(metric, "value")].iloc[0])
    return estimates


if __name__ == "__main__":
    os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"  # read when it is imported
    for factor in (1.0, 2.5):
        print(factor, estimate_metrics(*made_up_classes(overconfident=factor)))  # noqa: T201
        print(factor, estimate_metrics_of_classes(*made_up_three_classes(overconfident=factor)))  # noqa: T201
