"""Counts of champion and challenger under the same traffic, by unit of the sticky split.

The memory is fixed: 10,000 units, the latency bins, and samples of a few thousand predictions. Rows arrive in batches
from the thread of the prediction log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES
from airflow_mlops.core.rollout.sticky_share import BUCKETS
from airflow_mlops.gateway.answer_form import Prediction

SAMPLE = 5_000
"""Size of the samples of predictions and of pairs of predictions."""
Pair = tuple[Prediction, Prediction]
"""The predictions of champion and challenger for a row."""
Arrays = dict[str, npt.NDArray[Any]]
"""Counts as arrays by name, for the file that keeps them over a restart."""
_EDGES = np.asarray(LATENCY_EDGES)


@dataclass(frozen=True)
class RowOutcome:
    """The outcome of a row at one version: its unit, the prediction or NaN, the seconds, and whether it failed."""

    unit: int
    prediction: Prediction
    seconds: float
    failed: bool


class ReservoirSample:
    """A uniform sample of a stream, by reservoir sampling (Vitter's algorithm R).

    Parameters
    ----------
    columns : int
        Numbers in an item.
    """

    def __init__(self, columns: int, *, seed: int) -> None:
        self._items = np.zeros((SAMPLE, columns))
        self._random = np.random.default_rng(seed)
        self.seen = 0

    def add(self, items: npt.NDArray[np.float64]) -> None:
        """Add items, shape (n, columns)."""
        first = min(max(SAMPLE - self.seen, 0), len(items))
        self._items[self.seen : self.seen + first] = items[:first]
        later = items[first:]
        if len(later):
            slots = self._random.integers(0, self.seen + first + np.arange(1, len(later) + 1))
            chosen = slots < SAMPLE
            self._items[slots[chosen]] = later[chosen]
        self.seen += len(items)

    @property
    def items(self) -> npt.NDArray[np.float64]:
        """The sample, shape (at most SAMPLE, columns)."""
        return self._items[: min(self.seen, SAMPLE)]

    def to_arrays(self) -> Arrays:
        """Return a copy of the sample as arrays."""
        return {"items": self.items.copy(), "seen": np.array(self.seen)}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on with the sample of :meth:`to_arrays`; ValueError if its items are of another shape."""
        items, seen = arrays["items"], int(arrays["seen"])
        self._items[: len(items)] = require_shape(items, (min(seen, SAMPLE), self._items.shape[1]))
        self.seen = seen


class VersionCounts:
    """Counts of one version, whose predictions are ``width`` numbers each."""

    def __init__(self, width: int, *, seed: int) -> None:
        self.requests = self.errors = 0
        self.unit_requests = np.zeros(BUCKETS, np.int64)
        self.unit_errors = np.zeros(BUCKETS, np.int64)
        self.latency = np.zeros(len(LATENCY_EDGES) + 1, np.int64)
        self._width, self._predictions = width, ReservoirSample(width, seed=seed)

    def add(self, outcomes: Sequence[RowOutcome]) -> None:
        """Add the outcomes of rows."""
        if not outcomes:
            return
        units = np.fromiter((outcome.unit for outcome in outcomes), np.int64, len(outcomes))
        failed = np.fromiter((outcome.failed for outcome in outcomes), bool, len(outcomes))
        seconds = np.fromiter((outcome.seconds for outcome in outcomes), np.float64, len(outcomes))
        self.requests += len(outcomes)
        self.errors += int(failed.sum())
        np.add.at(self.unit_requests, units, 1)
        np.add.at(self.unit_errors, units[failed], 1)
        np.add.at(self.latency, np.searchsorted(_EDGES, seconds), 1)
        good = np.array([outcome.prediction for outcome in outcomes if not outcome.failed], np.float64)
        self._predictions.add(good.reshape(-1, self._width))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values; units without a request are left out."""
        units = np.flatnonzero(self.unit_requests)
        return {
            "requests": self.requests,
            "errors": self.errors,
            "latency": self.latency.tolist(),
            "units": units.tolist(),
            "unit_requests": self.unit_requests[units].tolist(),
            "unit_errors": self.unit_errors[units].tolist(),
            "predictions": plain_numbers(self._predictions.items),
        }

    def to_arrays(self) -> Arrays:
        """Return a copy of the counts as arrays; ``units`` has the requests of each unit, and its errors."""
        units = np.stack([self.unit_requests, self.unit_errors])
        return {"units": units, "latency": self.latency.copy(), **nest("predictions", self._predictions.to_arrays())}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on with the counts of :meth:`to_arrays`; ValueError if an array is of another shape."""
        self.unit_requests, self.unit_errors = require_shape(arrays["units"], (2, BUCKETS)).astype(np.int64)
        self.latency = require_shape(arrays["latency"], self.latency.shape).astype(np.int64)
        self._predictions.restore(part_of("predictions", arrays))
        self.requests, self.errors = int(self.unit_requests.sum()), int(self.unit_errors.sum())


class VersionTotals:
    """Totals of one version since the process started; they never decrease, as Prometheus needs."""

    def __init__(self) -> None:
        self.rows = self.errors = 0
        self.seconds = 0.0
        self.latency = np.zeros(len(LATENCY_EDGES) + 1, np.int64)

    def add(self, times: Sequence[tuple[float, bool]]) -> None:
        """Add rows by their seconds and failure flags."""
        seconds = np.fromiter((second for second, _failed in times), np.float64, len(times))
        self.rows += len(times)
        self.errors += sum(failed for _seconds, failed in times)
        self.seconds += float(seconds.sum())
        np.add.at(self.latency, np.searchsorted(_EDGES, seconds), 1)


class RequestCounts:
    """Counts since the traffic of record ``order`` was applied. Safe to use from several threads.

    Parameters
    ----------
    order : int
        Record of the traffic.
    width : int
        Numbers in a prediction: one for each of three classes or more, or of several quantiles.
    """

    def __init__(self, order: int, width: int = 1) -> None:
        self.order, self._width = order, width
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._champion, self._challenger = VersionCounts(width, seed=1), VersionCounts(width, seed=2)
        self._paired = ReservoirSample(2 * width, seed=3)

    @property
    def seconds(self) -> float:
        """The seconds since the traffic was applied, those before a restart included."""
        return time.monotonic() - self._began

    def count_from(self, moment: float) -> None:
        """Move the time at which the traffic was applied back to one of :func:`time.monotonic`, never forward."""
        self._began = min(self._began, moment)

    def add(
        self,
        champion: Sequence[RowOutcome],
        challenger: Sequence[RowOutcome],
        paired: Sequence[Pair] = (),
    ) -> None:
        """Add outcomes, and pairs of predictions of champion and challenger for the same row."""
        with self._lock:
            self._champion.add(champion)
            self._challenger.add(challenger)
            if paired:
                self._paired.add(np.asarray(paired, np.float64).reshape(len(paired), -1))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values, as the control API gives them."""
        with self._lock:
            return {
                "order": self.order,
                "seconds": self.seconds,
                "champion": self._champion.to_dict(),
                "challenger": self._challenger.to_dict(),
                "paired": plain_numbers(self._paired.items.reshape(-1, 2, self._width)),
            }

    def to_arrays(self) -> Arrays:
        """Return a copy of the counts as arrays, with the seconds that the traffic was served."""
        with self._lock:
            return {
                "order": np.array(self.order),
                "seconds": np.array(self.seconds),
                **nest("champion", self._champion.to_arrays()),
                **nest("challenger", self._challenger.to_arrays()),
                **nest("paired", self._paired.to_arrays()),
            }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], width: int) -> RequestCounts:
        """Return counts that go on from those of :meth:`to_arrays`.

        Raises
        ------
        ValueError, KeyError
            If an array is missing, or is of another shape.
        """
        counts = cls(int(arrays["order"]), width)
        counts._began -= float(arrays["seconds"])
        counts._champion.restore(part_of("champion", arrays))
        counts._challenger.restore(part_of("challenger", arrays))
        counts._paired.restore(part_of("paired", arrays))
        return counts


def nest(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return arrays under a name, as :func:`part_of` reads them.

    >>> nest("champion", {"seen": np.array(2)})
    {'champion.seen': array(2)}
    """
    return {f"{name}.{key}": values for key, values in arrays.items()}


def part_of(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays under a name."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def require_shape(values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an array, or raise ValueError if its shape is another one."""
    if values.shape != shape:
        raise ValueError(f"an array has the shape {values.shape}; it must be {shape}")
    return values


def plain_numbers(predictions: npt.NDArray[np.float64]) -> list[Any]:
    """Return predictions as lists; one of a single number as that number."""
    one = predictions.shape[-1] == 1
    values: list[Any] = (predictions[..., 0] if one else predictions).tolist()
    return values
