"""Micro-batching for one version: rows that arrive while it predicts are predicted together afterwards.

A single row is predicted at once. Under load a batch takes the rows that are waiting, up to a limit: eight rows cost
scikit-learn about as much as one. After a batch of several requests, the next batch waits up to a millisecond for as
many again, and no longer once the load is gone.

A quick model on arrays predicts in the event loop, where handing rows to a thread would cost more than predicting them.
Large batches, and all rows of a model that is slow or was slow once, go to a thread of their own, so that the event
loop stays free.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from airflow_mlops.gateway.answer_form import Prediction
from airflow_mlops.gateway.inference_backends import InferenceBackend, describe_failure, finite_rows

log = logging.getLogger(__name__)
QUICK_SECONDS = 0.005
"""Longest time of a warm row for a model that may predict in the event loop."""
SLOW_SECONDS = 0.05
"""Longest time of a batch in the event loop; a model that exceeds it once goes to the thread for good."""
MAX_QUICK_ROWS = 64
"""Rows of the largest batch in the event loop."""
GATHER_SECONDS = 0.001
"""Longest wait for as many requests as the last batch had."""
CHEAP_SECONDS = 0.0002
"""Time of a warm row below which waiting for others saves nothing."""
Outcome = Prediction | str
"""A prediction, or the reason why there is none."""


class BusyError(Exception):
    """The queue of a version is full."""


class MicroBatcher:
    """The queue of one version, which predicts in batches.

    Parameters
    ----------
    number : str
        Number of the version.
    backend : InferenceBackend
        Its loaded model.
    most_waiting, max_batch : int
        Rows that may wait, and rows of the largest batch.
    """

    def __init__(
        self, number: str, backend: InferenceBackend, *, most_waiting: int = 2_000, max_batch: int = 256
    ) -> None:
        self.number, self.backend = number, backend
        self._loop = asyncio.get_running_loop()
        self._max_waiting, self._max_batch = most_waiting, max_batch
        self._waiting: deque[tuple[Sequence[Any], asyncio.Future[list[Outcome]]]] = deque()
        self._rows = 0
        self._busy = False
        self._last_batch = 1
        self._waits = backend.seconds > CHEAP_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"version-{number}")
        self.quick = backend.name != "frame" and backend.seconds <= QUICK_SECONDS
        """Whether small batches are predicted in the event loop."""

    def submit(self, rows: Sequence[Any]) -> asyncio.Future[list[Outcome]]:
        """Queue rows and return a future of their outcomes, in order.

        Raises
        ------
        BusyError
            If the queue is full.
        """
        if self._rows and self._rows + len(rows) > self._max_waiting:
            raise BusyError(f"{self._rows:,} rows wait for version {self.number}")
        future: asyncio.Future[list[Outcome]] = self._loop.create_future()
        self._waiting.append((rows, future))
        self._rows += len(rows)
        if not self._busy:
            self._schedule()
        return future

    def close(self) -> None:
        """Release the thread once the waiting rows have been predicted."""
        self._thread.shutdown(wait=False)

    def _schedule(self) -> None:
        """Start the next batch, or wait for as many requests as the last batch had."""
        if self._waits and len(self._waiting) < self._last_batch:
            if self._timer is None:
                self._timer = self._loop.call_later(GATHER_SECONDS, self._start)
        else:
            self._start()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._busy = True
        # The event loop first handles the other requests of this turn, so they join the batch.
        self._loop.call_soon(self._run_batch)

    def _run_batch(self) -> None:
        """Take the waiting requests, and predict them here or in the thread."""
        batch: list[tuple[Sequence[Any], asyncio.Future[list[Outcome]]]] = []
        count = 0
        while self._waiting and (not batch or count + len(self._waiting[0][0]) <= self._max_batch):
            entry = self._waiting.popleft()
            self._rows -= len(entry[0])
            if not entry[1].cancelled():
                batch.append(entry)
                count += len(entry[0])
        if not batch:
            self._busy = False
            return
        self._last_batch = len(batch)
        rows = batch[0][0] if len(batch) == 1 else [row for entry_rows, _future in batch for row in entry_rows]
        if self.quick and count <= MAX_QUICK_ROWS:
            began = time.perf_counter()
            outcomes = predict_rows(self.backend, rows)
            self.quick = time.perf_counter() - began <= SLOW_SECONDS
            self._deliver(batch, outcomes)
        else:
            self._predict_in_thread(batch, rows)

    def _predict_in_thread(
        self, batch: list[tuple[Sequence[Any], asyncio.Future[list[Outcome]]]], rows: Sequence[Any]
    ) -> None:
        try:
            work = self._loop.run_in_executor(self._thread, predict_rows, self.backend, rows)
        except RuntimeError:  # closed between two batches: predict the remaining rows here
            self._deliver(batch, predict_rows(self.backend, rows))
            return
        work.add_done_callback(lambda done: self._deliver(batch, done.result()))

    def _deliver(
        self, batch: list[tuple[Sequence[Any], asyncio.Future[list[Outcome]]]], outcomes: list[Outcome]
    ) -> None:
        """Resolve the futures of a batch, and schedule the next one."""
        start = 0
        for rows, future in batch:
            if not future.done():
                future.set_result(outcomes[start : start + len(rows)])
            start += len(rows)
        self._busy = False
        if self._waiting:
            self._schedule()


def predict_rows(backend: InferenceBackend, rows: Sequence[Any]) -> list[Outcome]:
    """Return the outcome of each row.

    If the batch raises, its rows are predicted one by one: a bad row does not fail the others.
    """
    try:
        predictions = backend.predict(rows)
    except Exception as error:  # a model may raise anything
        if len(rows) == 1:
            return [describe_failure(error)]
        return [value for row in rows for value in predict_rows(backend, [row])]
    if np.isfinite(predictions).all():
        return predictions.tolist()  # type: ignore[no-any-return]
    return [
        value if finite else f"the model gave {value}"
        for value, finite in zip(predictions.tolist(), finite_rows(predictions), strict=True)
    ]
