"""Measure what a task may import on a worker that has imported nothing, which a warm scheduler spares it.

Each task imports its part of this list; a warm scheduler imports all of it once, and its forks inherit it. The peer is
``airflow.sdk`` alone, which every worker has.
"""

from __future__ import annotations

from statistics import median

from benchmarks.many_loops import cpu_of_command
from benchmarks.row import Row

ROUNDS = 3
AIRFLOW = "import airflow.sdk"
ALL = f"{AIRFLOW}; from airflow_mlops.warm_scheduler import preload; assert preload() == []"


def cold_imports() -> list[Row]:
    """Return the row: CPU seconds of importing what the stages of a loop need, beside Airflow's SDK alone."""
    cpu_of_command("-c", ALL)  # compiles
    both = median(cpu_of_command("-c", ALL) for _ in range(ROUNDS))
    peer = median(cpu_of_command("-c", AIRFLOW) for _ in range(ROUNDS))
    return [
        Row(
            name="cold_imports",
            ours=round(both - peer, 2),
            peer=round(peer, 2),
            unit="CPU s",
            peer_name="airflow.sdk alone; ours comes on top of it",
            ratio=round((both - peer) / peer, 2),
            bar="told",
            reached=True,
        )
    ]
