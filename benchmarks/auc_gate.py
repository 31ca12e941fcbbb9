"""Measure the cost of a gate on the AUC of a million paired rows, against scikit-learn's two plain values.

Ours gives the AUC of candidate and champion with DeLong's intervals and that of their difference; the peer
gives the two values and nothing about how sure they are. Both are measured in turn in one process.
"""

from __future__ import annotations

from statistics import median

import numpy as np

from benchmarks.cpu_time import cpu_of
from benchmarks.row import Row

ROWS = 1_000_000
ROUNDS = 5
BAR_SECONDS = 2.0


def auc_gate() -> list[Row]:
    """Return the row: CPU seconds of one gate."""
    from sklearn.metrics import roc_auc_score

    from airflow_mlops.core.declaration.evaluate import Gate
    from airflow_mlops.core.evaluation.gates import Holdout, evaluate_gates

    random = np.random.default_rng(1)
    label = (random.random(ROWS) < 0.2).astype(float)
    candidate, champion = (label + random.normal(size=ROWS) for _ in range(2))
    gate = Gate(metric="roc_auc", no_worse_than_champion_by=0.5)
    ours, peer = [], []
    for number in range(ROUNDS):
        ours.append(cpu_of(lambda: evaluate_gates([gate], Holdout(label, candidate, champion, {}))))
        peer.append(cpu_of(lambda: [roc_auc_score(label, predicted) for predicted in (candidate, champion)]))
        print(f"\r    round {number + 1}/{ROUNDS}", end="", flush=True)
    print()
    our_median, peer_median = median(ours), median(peer)
    return [
        Row(
            name="auc_gate",
            ours=round(our_median, 3),
            peer=round(peer_median, 3),
            unit="CPU s",
            peer_name="scikit-learn's roc_auc_score of both models",
            ratio=round(our_median / peer_median, 3),
            bar=f"ours <= {BAR_SECONDS:g} CPU s",
            reached=our_median <= BAR_SECONDS,
        )
    ]
