"""What a model costs where it serves: CPU seconds of a prediction, bytes of its file, bytes of it in memory.

Candidate and champion are timed in turns in the same process on the same rows, so that a busy machine slows both.
CPU seconds are those of the process, all its threads together.
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
HOW = (
    "CPU time of the process, median of {repeats} turns; a batch has {rows:,} rows. Memory: bytes of all arrays and "
    "objects that the loaded model holds, counted, not sampled."
)


@dataclass(frozen=True)
class PredictionCost:
    """What one model costs. Latencies are CPU seconds a row: in a batch, and of a row alone."""

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
    """Return what each model costs, by name.

    Parameters
    ----------
    predicts, models, sizes : mapping
        For each model: how it predicts, its estimator, and the bytes of its file.
    features : DataFrame
        At least one row; the first ``BATCH_ROWS`` are the batch.
    """
    batch = features.iloc[:BATCH_ROWS]
    alone = features.iloc[:1]
    seconds: dict[str, dict[str, list[float]]] = {name: {"batch": [], "row": []} for name in predicts}
    for _ in range(REPEATS):
        for name, predict in predicts.items():
            for kind, rows in (("batch", batch), ("row", alone)):
                began = process_time()
                predict(rows)
                seconds[name][kind].append(process_time() - began)
    return {
        name: PredictionCost(
            median(seconds[name]["batch"]) / len(batch),
            median(seconds[name]["row"]),
            sizes.get(name),
            held_bytes(models[name]),
        )
        for name in predicts
    }


def how_measured(rows: int) -> str:
    """Return in words how costs were measured on a holdout of so many rows."""
    return HOW.format(repeats=REPEATS, rows=min(rows, BATCH_ROWS))


def held_bytes(model: Any) -> int:
    """Return the bytes of everything a model holds: each array, text and container once.

    The same model gives the same number, which samples of a process's memory would not. What a compiled object keeps
    outside of Python, a tree for one, is counted by the state that it would save.

    >>> held_bytes(np.zeros(1000)) >= 8000
    True
    """
    seen: set[int] = set()
    waiting: list[Any] = [model]
    kept: list[Any] = []  # so that no two objects share an address while they are counted
    total = 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type) or (callable(item) and not hasattr(item, "get_params")):
            continue
        seen.add(id(item))
        kept.append(item)
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
            waiting.append(_state(item))
    return total


def _state(item: Any) -> Any:
    """Return what an object would save of itself, or its attributes."""
    own = getattr(item, "__dict__", None)
    if own:
        return own
    try:
        return item.__getstate__()
    except Exception:
        return None
