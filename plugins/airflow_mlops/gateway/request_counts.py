"""What was seen of champion and challenger since some traffic was applied, by unit of the sticky split.

The memory is fixed: 10,000 units, the latency bins, and samples of a few thousand predictions. Rows come in batches,
from the thread that also writes them to the log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES
from airflow_mlops.core.rollout.sticky_share import BUCKETS

SAMPLE = 5_000
"""Predictions of a version, and pairs of predictions, that are kept."""
_EDGES = np.asarray(LATENCY_EDGES)


@dataclass(frozen=True)
class Asked:
    """A row that one version was asked for: its unit, the prediction or NaN, and the seconds that it took."""

    unit: int
    prediction: float
    seconds: float
    failed: bool


class KeptSample:
    """A sample of a stream, each item as likely to be in it as every other (Vitter's algorithm R).

    Parameters
    ----------
    columns : int
        Numbers of an item.
    """

    def __init__(self, columns: int, *, seed: int) -> None:
        self._kept = np.zeros((SAMPLE, columns))
        self._random = np.random.default_rng(seed)
        self.seen = 0

    def take(self, items: npt.NDArray[np.float64]) -> None:
        """Take items in, shape (n, columns)."""
        free = min(max(SAMPLE - self.seen, 0), len(items))
        self._kept[self.seen : self.seen + free] = items[:free]
        later = items[free:]
        if len(later):
            places = self._random.integers(0, self.seen + free + np.arange(1, len(later) + 1))
            into = places < SAMPLE
            self._kept[places[into]] = later[into]
        self.seen += len(items)

    @property
    def items(self) -> npt.NDArray[np.float64]:
        """The items that are kept, shape (at most SAMPLE, columns)."""
        return self._kept[: min(self.seen, SAMPLE)]


class VersionCounts:
    """What was seen of one version."""

    def __init__(self, *, seed: int) -> None:
        self.requests = self.errors = 0
        self.unit_requests = np.zeros(BUCKETS, np.int64)
        self.unit_errors = np.zeros(BUCKETS, np.int64)
        self.latency = np.zeros(len(LATENCY_EDGES) + 1, np.int64)
        self.predictions = KeptSample(1, seed=seed)

    def take(self, asked: Sequence[Asked]) -> None:
        """Count rows that the version was asked for."""
        if not asked:
            return
        units = np.fromiter((one.unit for one in asked), np.int64, len(asked))
        failed = np.fromiter((one.failed for one in asked), bool, len(asked))
        seconds = np.fromiter((one.seconds for one in asked), np.float64, len(asked))
        self.requests += len(asked)
        self.errors += int(failed.sum())
        np.add.at(self.unit_requests, units, 1)
        np.add.at(self.unit_errors, units[failed], 1)
        np.add.at(self.latency, np.searchsorted(_EDGES, seconds), 1)
        good = np.fromiter((one.prediction for one in asked if not one.failed), np.float64)
        self.predictions.take(good[:, None])

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values; units without a request are left out."""
        units = np.flatnonzero(self.unit_requests)
        return {
            "requests": self.requests, "errors": self.errors, "latency": self.latency.tolist(),
            "units": units.tolist(), "unit_requests": self.unit_requests[units].tolist(),
            "unit_errors": self.unit_errors[units].tolist(), "predictions": self.predictions.items[:, 0].tolist(),
        }  # fmt: skip


class VersionTotals:
    """Rows that one version was asked for since the process began, for Prometheus: they never fall."""

    def __init__(self) -> None:
        self.rows = self.errors = 0
        self.seconds = 0.0
        self.latency = np.zeros(len(LATENCY_EDGES) + 1, np.int64)

    def take(self, asked: Sequence[tuple[float, bool]]) -> None:
        """Count rows: the seconds of each, and whether the version failed at it."""
        seconds = np.fromiter((one for one, _failed in asked), np.float64, len(asked))
        self.rows += len(asked)
        self.errors += sum(failed for _one, failed in asked)
        self.seconds += float(seconds.sum())
        np.add.at(self.latency, np.searchsorted(_EDGES, seconds), 1)


class RequestCounts:
    """What was seen since the traffic of record ``order`` was applied. Safe to use from several threads."""

    def __init__(self, order: int) -> None:
        self.order = order
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._champion, self._challenger = VersionCounts(seed=1), VersionCounts(seed=2)
        self._paired = KeptSample(2, seed=3)

    def take(
        self, champion: Sequence[Asked], challenger: Sequence[Asked], paired: Sequence[tuple[float, float]] = ()
    ) -> None:
        """Count rows, and pairs of predictions of champion and challenger for the same row."""
        with self._lock:
            self._champion.take(champion)
            self._challenger.take(challenger)
            if paired:
                self._paired.take(np.asarray(paired, np.float64))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, as the control API gives it."""
        with self._lock:
            return {
                "order": self.order, "seconds": time.monotonic() - self._began,
                "champion": self._champion.to_dict(), "challenger": self._challenger.to_dict(),
                "paired": self._paired.items.tolist(),
            }  # fmt: skip
