"""The cost of a model in serving: CPU seconds of a prediction, bytes of its file, bytes in memory.

Candidate and champion are timed in turns in one process on the same rows, so that a busy machine slows both. CPU
seconds are those of all threads of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import pandas as pd

BATCH_ROWS = 1_000
REPEATS = 5
METHOD = (
    "CPU time of the process, median of {repeats} turns; a batch has {rows:,} rows. Memory: bytes of all arrays and "
    "objects that the loaded model holds, counted, not sampled."
)


@dataclass(frozen=True)
class PredictionCost:
    """The cost of one model; latencies are CPU seconds for each row, in a batch and of a single row."""

    batch_latency: float
    row_latency: float
    model_bytes: int | None
    model_memory: int

    def to_dict(self) -> dict[str, Any]:
        """Return the costs as JSON values."""
        return {
            "batch_latency": self.batch_latency,
            "row_latency": self.row_latency,
            "model_bytes": self.model_bytes,
            "model_memory": self.model_memory,
        }


def measure_costs(
    predicts: Mapping[str, Callable[[pd.DataFrame], object]],
    models: Mapping[str, Any],
    sizes: Mapping[str, int | None],
    features: pd.DataFrame,
) -> dict[str, PredictionCost]:
    """Return the cost of each model, by name.

    Parameters
    ----------
    predicts, models, sizes : mapping
        Predict function, estimator and bytes of the file of each model, by name.
    features : DataFrame
        At least one row; the first ``BATCH_ROWS`` are the batch.
    """
    batch = features.iloc[:BATCH_ROWS]
    single_row = features.iloc[:1]
    seconds: dict[str, dict[str, list[float]]] = {name: {"batch": [], "row": []} for name in predicts}
    # In turns and not one model after the other: a busy moment of the machine then slows both.
    for _ in range(REPEATS):
        for name, predict in predicts.items():
            for kind, rows in (("batch", batch), ("row", single_row)):
                start = process_time()
                predict(rows)
                seconds[name][kind].append(process_time() - start)
    return {
        name: PredictionCost(
            median(seconds[name]["batch"]) / len(batch),
            median(seconds[name]["row"]),
            sizes.get(name),
            count_bytes(models[name]),
        )
        for name in predicts
    }


def describe_method(rows: int) -> str:
    """Return the method of the measurement in words, for a holdout of ``rows`` rows."""
    return METHOD.format(repeats=REPEATS, rows=min(rows, BATCH_ROWS))


def count_bytes(model: Any) -> int:
    """Return the bytes of all objects that a model holds, each array, text and container once.

    Equal models give equal numbers, unlike samples of a process's memory. Memory of compiled objects, such as trees, is
    counted by the state that they would save.

    >>> count_bytes(np.zeros(1000)) >= 8000
    True
    """
    visited: set[int] = set()
    waiting: list[Any] = [model]
    alive: list[Any] = []  # a freed object could give its id to a later one
    total = 0
    while waiting:
        item = waiting.pop()
        if id(item) in visited or isinstance(item, type) or (callable(item) and not hasattr(item, "get_params")):
            continue
        visited.add(id(item))
        alive.append(item)
        if isinstance(item, np.ndarray):
            total += int(item.nbytes)
            waiting.extend(item.ravel().tolist() if item.dtype == object else ())
            continue
        total += item.__sizeof__()
        if isinstance(item, Mapping):
            waiting.extend([*item.keys(), *item.values()])
        elif isinstance(item, list | tuple | set | frozenset):
            waiting.extend(item)
        elif not isinstance(item, str | bytes | int | float | complex | bool | np.generic | None):
            waiting.append(_saved_state(item))
    return total


def _saved_state(item: Any) -> Any:
    """Return the attributes of an object, or the state that it would save."""
    attributes = getattr(item, "__dict__", None)
    if attributes:
        return attributes
    try:
        return item.__getstate__()
    except Exception:
        return None
