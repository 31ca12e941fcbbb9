"""The lane of one version: rows that wait for it go together, as many as came while it was busy.

A row that comes alone is predicted at once. Those that come while the version predicts are taken together when it is
done, up to a number: under load, a prediction of eight costs scikit-learn about as much as one. After a batch of
several requests the next one waits for as many, a millisecond at most; once nobody else came, none waits any more.
A quick model on
arrays predicts in the event loop, where handing rows to a thread would cost more than predicting them. Many rows at
once, and all rows of a slow model or one that has been slow once, go to a thread of its own, so that they hold up
nobody else.
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

from airflow_mlops.gateway.inference_backends import ReadyModel, failure_of

log = logging.getLogger(__name__)
QUICK_SECONDS = 0.005
"""What a row may take, warm, for a model to predict in the event loop."""
SLOW_SECONDS = 0.05
"""What a batch may take there; a model that takes longer once is quick no more."""
MOST_QUICK = 64
"""Rows that may be predicted there at once."""
GATHER_SECONDS = 0.001
"""How long a batch waits for as many requests as the one before had."""
CHEAP_SECONDS = 0.0002
"""What a row may take, warm, for waiting to save nothing."""
Outcome = float | str
"""A prediction, or why there is none."""


class BusyError(Exception):
    """More rows wait than are allowed to."""


class Lane:
    """Rows in, outcomes out, in batches.

    Parameters
    ----------
    number : str
        Version that predicts.
    ready : ReadyModel
        Its model.
    most_waiting, most_together : int
        Rows that may wait, and that go to the model at once.
    """

    def __init__(self, number: str, ready: ReadyModel, *, most_waiting: int = 2_000, most_together: int = 256) -> None:
        self.number, self.ready = number, ready
        self._loop = asyncio.get_running_loop()
        self._most_waiting, self._most_together = most_waiting, most_together
        self._waiting: deque[tuple[Sequence[Any], asyncio.Future[list[Outcome]]]] = deque()
        self._rows = 0
        self._busy = False
        self._before = 1
        self._gathers = ready.seconds > CHEAP_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"version-{number}")
        self.quick = ready.form != "frame" and ready.seconds <= QUICK_SECONDS
        """Whether few rows are predicted in the event loop."""

    def ask(self, rows: Sequence[Any]) -> asyncio.Future[list[Outcome]]:
        """Return the outcomes of rows, in order, once they are there.

        Raises
        ------
        BusyError
            If too many rows wait already.
        """
        if self._rows and self._rows + len(rows) > self._most_waiting:
            raise BusyError(f"{self._rows:,} rows wait for version {self.number}")
        future: asyncio.Future[list[Outcome]] = self._loop.create_future()
        self._waiting.append((rows, future))
        self._rows += len(rows)
        if not self._busy:
            self._gather()
        return future

    def retire(self) -> None:
        """Give the thread back once the rows that wait have been predicted."""
        self._thread.shutdown(wait=False)

    def _gather(self) -> None:
        """Start the next batch, or wait a little for as many requests as the one before had."""
        if self._gathers and len(self._waiting) < self._before:
            if self._timer is None:
                self._timer = self._loop.call_later(GATHER_SECONDS, self._start)
        else:
            self._start()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._busy = True
        # What else the event loop has read in this turn is asked for before this runs.
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Take what waits, and predict it here or in the thread."""
        taken: list[tuple[Sequence[Any], asyncio.Future[list[Outcome]]]] = []
        count = 0
        while self._waiting and (not taken or count + len(self._waiting[0][0]) <= self._most_together):
            one = self._waiting.popleft()
            self._rows -= len(one[0])
            if not one[1].cancelled():
                taken.append(one)
                count += len(one[0])
        if not taken:
            self._busy = False
            return
        self._before = len(taken)
        rows = taken[0][0] if len(taken) == 1 else [row for some, _future in taken for row in some]
        if self.quick and count <= MOST_QUICK:
            began = time.perf_counter()
            outcomes = outcomes_of(self.ready, rows)
            self.quick = time.perf_counter() - began <= SLOW_SECONDS
            self._give(taken, outcomes)
        else:
            self._in_thread(taken, rows)

    def _in_thread(self, taken: list[tuple[Sequence[Any], asyncio.Future[list[Outcome]]]], rows: Sequence[Any]) -> None:
        try:
            work = self._loop.run_in_executor(self._thread, outcomes_of, self.ready, rows)
        except RuntimeError:  # the lane was retired between two batches: what still waits is predicted here
            self._give(taken, outcomes_of(self.ready, rows))
            return
        work.add_done_callback(lambda done: self._give(taken, done.result()))

    def _give(self, taken: list[tuple[Sequence[Any], asyncio.Future[list[Outcome]]]], outcomes: list[Outcome]) -> None:
        """Hand out the outcomes, and go on with what came meanwhile."""
        at = 0
        for rows, future in taken:
            if not future.done():
                future.set_result(outcomes[at : at + len(rows)])
            at += len(rows)
        self._busy = False
        if self._waiting:
            self._gather()


def outcomes_of(ready: ReadyModel, rows: Sequence[Any]) -> list[Outcome]:
    """Return a prediction for each row, or why it has none; a row that raises does not take the others with it."""
    try:
        found = ready.predict(rows)
    except Exception as error:  # a model may raise anything
        if len(rows) == 1:
            return [failure_of(error)]
        return [one for row in rows for one in outcomes_of(ready, [row])]
    if np.isfinite(found).all():
        return found.tolist()  # type: ignore[no-any-return]
    return [one if np.isfinite(one) else f"the model gave {one}" for one in found.tolist()]
