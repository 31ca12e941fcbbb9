"""Figures of NannyML's CBPE for generated classes; run by hand, in an environment that has NannyML.

    .venv-nannyml/bin/python tests/unit/core/watch/checks/nannyml_figures.py

The test of our own estimate holds itself against the figures that this prints.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

REFERENCE, WINDOW = 6_000, 4_000


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
    for factor in (1.0, 2.5):
        print(factor, estimate_metrics(*made_up_classes(overconfident=factor)))  # noqa: T201
