"""Route rows to the champion and the challenger, and back to the champion where the challenger fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.sticky_share import StickySplit
from airflow_mlops.gateway.answer_form import Prediction
from airflow_mlops.gateway.breaker import Breaker
from airflow_mlops.gateway.micro_batcher import MAX_QUICK_ROWS, BusyError, MicroBatcher, Outcome
from airflow_mlops.gateway.prediction_log import Line, PredictionLog
from airflow_mlops.gateway.request_counts import RequestCounts
from airflow_mlops.gateway.row_shape import RowShape
from airflow_mlops.gateway.shadow_link import ShadowLink

log = logging.getLogger(__name__)


class UnansweredError(Exception):
    """No version answered a row; ``row`` is its place in the request."""

    def __init__(self, reason: str, row: int) -> None:
        self.reason, self.row = reason, row
        super().__init__(reason)


@dataclass(frozen=True)
class ServingState:
    """An immutable snapshot of what is served; a request keeps its snapshot until it is answered.

    ``refuse_unseen`` raises for rows with values that the champion has not seen, where the contract refuses them.
    Keys of buckets below ``challenger_bound`` belong to the challenger; rows of buckets below ``shadow_bound`` also go
    to the shadow.
    """

    traffic: Traffic
    champion: MicroBatcher | None = None
    challenger: MicroBatcher | None = None
    shape: RowShape | None = None
    refuse_unseen: Callable[[Sequence[Any]], None] | None = None
    challenger_bound: float = 0.0
    shadow_bound: float = 0.0
    shadow: ShadowLink | None = None
    tripped: str | None = None
    split: StickySplit = field(default_factory=lambda: StickySplit(""))
    counts: RequestCounts = field(default_factory=lambda: RequestCounts(0))
    breaker: Breaker = field(default_factory=Breaker)


@dataclass
class RowTotals:
    """Rows since the process started: all, answered, and answered by the champion after the challenger failed."""

    rows: int = 0
    answered: int = 0
    fallbacks: int = 0


class RequestRouter:
    """A router of rows to the versions that are served.

    Parameters
    ----------
    prediction_log : PredictionLog
        Log to which a line for each row is added.
    answer_seconds, challenger_seconds : float
        Time limits of champion and challenger.
    trip : callable
        Called with the state and the reason when the challenger has to be taken out.
    """

    def __init__(
        self,
        prediction_log: PredictionLog,
        *,
        answer_seconds: float,
        challenger_seconds: float,
        trip: Callable[[ServingState, str], None],
    ) -> None:
        self._log, self._trip = prediction_log, trip
        self._seconds, self._challenger_seconds = answer_seconds, challenger_seconds
        self._process, self._number = uuid4().hex[:12], count(1)
        self.totals = RowTotals()

    async def answer(self, served: ServingState, rows: Sequence[Any], body: bytes) -> list[tuple[Prediction, str]]:
        """Return the prediction of each row and the version that made it.

        Raises
        ------
        UnansweredError
            If a row has no answer; the rows are logged all the same.
        BusyError
            If too many rows wait; the rows are not logged.
        """
        assert served.champion is not None
        assert served.shape is not None
        batch = _Batch(served, served.champion, rows, [str(served.shape.key_of(row)) for row in rows])
        challenger_rows = batch.challenger_rows()
        if len(challenger_rows) < len(rows):
            champion_rows = (
                [place for place, unit in enumerate(batch.units) if unit >= served.challenger_bound]
                if challenger_rows
                else range(len(rows))
            )
            waiting = batch.champion.submit([rows[place] for place in champion_rows] if challenger_rows else rows)
            if challenger_rows:
                await self._ask_challenger(batch, challenger_rows)
            outcomes = await self._await_outcomes(batch.champion, waiting, self._seconds, len(champion_rows))
            batch.by_champion = dict(zip(champion_rows, outcomes, strict=True))
        else:
            await self._ask_challenger(batch, challenger_rows)
        failed_rows = [place for place, outcome in batch.by_challenger.items() if isinstance(outcome, str)]
        if failed_rows:
            await self._fall_back_to_champion(batch, failed_rows)
        self._record(batch, time.perf_counter() - batch.began)
        if served.shadow is not None:
            batch.offer(served.shadow, body)
        return batch.answers()

    async def _ask_challenger(self, batch: _Batch, places: list[int]) -> None:
        """Collect the outcomes of the challenger for its rows; a full queue counts as its failure."""
        batcher = batch.served.challenger
        assert batcher is not None
        try:
            waiting = batcher.submit([batch.rows[place] for place in places])
        except BusyError as error:
            batch.by_challenger = dict.fromkeys(places, str(error))
            return
        began = time.perf_counter()
        outcomes = await self._await_outcomes(batcher, waiting, self._challenger_seconds, len(places))
        batch.challenger_seconds = time.perf_counter() - began
        batch.by_challenger = dict(zip(places, outcomes, strict=True))

    async def _fall_back_to_champion(self, batch: _Batch, places: list[int]) -> None:
        """Collect the outcomes of the champion for rows at which the challenger failed."""
        try:
            waiting = batch.champion.submit([batch.rows[place] for place in places])
        except BusyError as error:
            batch.by_champion.update(dict.fromkeys(places, str(error)))
            return
        outcomes = await self._await_outcomes(batch.champion, waiting, self._seconds, len(places))
        batch.by_champion.update(zip(places, outcomes, strict=True))

    @staticmethod
    async def _await_outcomes(
        batcher: MicroBatcher, waiting: asyncio.Future[list[Outcome]], seconds: float, rows: int
    ) -> list[Outcome]:
        """Wait for the outcomes of a batcher, up to a time limit.

        A batcher that predicts in the event loop needs no limit: it is late by its own batch at most.
        """
        if batcher.quick and rows <= MAX_QUICK_ROWS:
            return await waiting
        try:
            return await asyncio.wait_for(waiting, seconds)
        except TimeoutError:
            return [f"version {batcher.number} did not answer within {seconds:g} s"] * rows

    def _record(self, batch: _Batch, seconds: float) -> None:
        """Log and count each row, and trip the challenger if it fails too often."""
        served, traffic, totals = batch.served, batch.served.traffic, self.totals
        for place, key in enumerate(batch.keys):
            by_champion, by_challenger = batch.by_champion.get(place), batch.by_challenger.get(place)
            request = f"{self._process}-{next(self._number)}"
            batch.requests.append(request)
            failed = isinstance(by_champion if by_challenger is None else by_challenger, str)
            champion, challenger = prediction_of(by_champion), prediction_of(by_challenger)
            answered = traffic.challenger if challenger is not None else traffic.champion
            if champion is None and challenger is None:
                answered = None
            reasons = [outcome for outcome in (by_challenger, by_champion) if isinstance(outcome, str)]
            routed_to = str(traffic.champion if by_challenger is None else traffic.challenger)
            self._log.add(
                Line(
                    request,
                    key,
                    batch.received,
                    answered,
                    champion,
                    challenger,
                    seconds,
                    "; ".join(reasons) or None,
                    traffic.kind,
                    traffic.share,
                    traffic.order,
                    served.counts,
                    batch.units[place],
                    routed_to,
                    by_challenger is not None,
                    failed,
                )
            )
            totals.rows += 1
            totals.answered += answered is not None
            if by_challenger is None:
                served.breaker.record_champion(seconds / len(batch.rows), failed=failed)
                continue
            totals.fallbacks += failed and answered is not None
            reason = served.breaker.record_challenger(
                batch.units[place], batch.challenger_seconds, failed=failed, batch_rows=len(batch.by_challenger)
            )
            if reason is not None:
                self._trip(served, reason)


class _Batch:
    """The rows of one request, with their outcomes by place."""

    def __init__(self, served: ServingState, champion: MicroBatcher, rows: Sequence[Any], keys: list[str]) -> None:
        self.served, self.champion, self.rows, self.keys = served, champion, rows, keys
        self.received, self.began = time.time(), time.perf_counter()
        self.units = [served.split.bucket(key) for key in keys]
        self.by_champion: dict[int, Outcome] = {}
        self.by_challenger: dict[int, Outcome] = {}
        self.requests: list[str] = []
        self.challenger_seconds = 0.0

    def challenger_rows(self) -> list[int]:
        """Return the places of the rows that belong to the challenger."""
        served = self.served
        if served.challenger is None or served.challenger_bound <= 0:
            return []
        return [place for place, unit in enumerate(self.units) if unit < served.challenger_bound]

    def offer(self, shadow: ShadowLink, body: bytes) -> None:
        """Send the shadow the rows of its share."""
        for place, unit in enumerate(self.units):
            if unit < self.served.shadow_bound:
                shadow.offer(body, place, unit, self.requests[place], prediction_of(self.by_champion.get(place)))

    def answers(self) -> list[tuple[Prediction, str]]:
        """Return the prediction and the version of each row."""
        challenger, champion = str(self.served.traffic.challenger), self.champion.number
        answers: list[tuple[Prediction, str]] = []
        for place in range(len(self.rows)):
            by_challenger = prediction_of(self.by_challenger.get(place))
            if by_challenger is not None:
                answers.append((by_challenger, challenger))
                continue
            by_champion = self.by_champion[place]
            if isinstance(by_champion, str):
                raise UnansweredError(f"version {champion} cannot answer: {by_champion}", place)
            answers.append((by_champion, champion))
        return answers


def prediction_of(outcome: Outcome | None) -> Prediction | None:
    """Return the prediction in an outcome; None where the version failed or was not asked."""
    return None if isinstance(outcome, str) else outcome
