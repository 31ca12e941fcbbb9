"""Who answers a row: the champion, the challenger for its keys, and the champion again where the challenger fails."""

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
from airflow_mlops.gateway.breaker import Breaker
from airflow_mlops.gateway.micro_batcher import MOST_QUICK, BusyError, Lane, Outcome
from airflow_mlops.gateway.prediction_log import Line, PredictionLog
from airflow_mlops.gateway.request_counts import RequestCounts
from airflow_mlops.gateway.row_shape import RowShape
from airflow_mlops.gateway.shadow_link import ShadowLink

log = logging.getLogger(__name__)


class UnansweredError(Exception):
    """No version answered a row. ``row`` is its place in the request."""

    def __init__(self, reason: str, row: int) -> None:
        self.reason, self.row = reason, row
        super().__init__(reason)


@dataclass(frozen=True)
class Served:
    """What is served from one moment to the next; requests that are under way keep theirs.

    ``bound`` is the bucket below which keys are the challenger's, and ``shadowed`` the one below which rows go to the
    shadow as well.
    """

    traffic: Traffic
    champion: Lane | None = None
    challenger: Lane | None = None
    shape: RowShape | None = None
    bound: float = 0.0
    shadowed: float = 0.0
    shadow: ShadowLink | None = None
    tripped: str | None = None
    split: StickySplit = field(default_factory=lambda: StickySplit(""))
    counts: RequestCounts = field(default_factory=lambda: RequestCounts(0))
    breaker: Breaker = field(default_factory=Breaker)


@dataclass
class RowTotals:
    """Rows since the process began: asked for, answered, and answered by the champion for a challenger that failed."""

    rows: int = 0
    answered: int = 0
    instead: int = 0


class Answering:
    """Answers rows with what is served at the moment.

    Parameters
    ----------
    prediction_log : PredictionLog
        Gets a line for each row.
    answer_seconds, challenger_seconds : float
        How long champion and challenger are waited for.
    trip : callable
        Called with what was served and the reason when the challenger is to be taken out.
    """

    def __init__(
        self,
        prediction_log: PredictionLog,
        *,
        answer_seconds: float,
        challenger_seconds: float,
        trip: Callable[[Served, str], None],
    ) -> None:
        self._log, self._trip = prediction_log, trip
        self._seconds, self._challenger_seconds = answer_seconds, challenger_seconds
        self._process, self._number = uuid4().hex[:12], count(1)
        self.totals = RowTotals()

    async def answer(self, served: Served, rows: Sequence[Any], body: bytes) -> list[tuple[float, str]]:
        """Return the prediction of each row and the version that made it.

        Raises
        ------
        UnansweredError
            If a row has no answer; all rows are in the log then, too.
        BusyError
            If too many rows wait; none of these is in the log.
        """
        assert served.champion is not None
        assert served.shape is not None
        batch = _Batch(served, served.champion, rows, [str(served.shape.key_of(row)) for row in rows])
        theirs = batch.theirs()
        if len(theirs) < len(rows):
            ours = [at for at, unit in enumerate(batch.units) if unit >= served.bound] if theirs else range(len(rows))
            waiting = batch.champion.ask([rows[at] for at in ours] if theirs else rows)
            if theirs:
                await self._ask_challenger(batch, theirs)
            found = await self._outcomes(batch.champion, waiting, self._seconds, len(ours))
            batch.by_champion = dict(zip(ours, found, strict=True))
        else:
            await self._ask_challenger(batch, theirs)
        instead = [at for at, outcome in batch.by_challenger.items() if isinstance(outcome, str)]
        if instead:
            await self._ask_champion_instead(batch, instead)
        self._note(batch, time.perf_counter() - batch.began)
        if served.shadow is not None:
            batch.offer(served.shadow, body)
        return batch.answers()

    async def _ask_challenger(self, batch: _Batch, asked: list[int]) -> None:
        """Note what the challenger makes of its rows; that it is busy counts as its failure."""
        lane = batch.served.challenger
        assert lane is not None
        try:
            waiting = lane.ask([batch.rows[at] for at in asked])
        except BusyError as error:
            batch.by_challenger = dict.fromkeys(asked, str(error))
            return
        began = time.perf_counter()
        found = await self._outcomes(lane, waiting, self._challenger_seconds, len(asked))
        batch.challenger_seconds = time.perf_counter() - began
        batch.by_challenger = dict(zip(asked, found, strict=True))

    async def _ask_champion_instead(self, batch: _Batch, asked: list[int]) -> None:
        """Note what the champion makes of rows at which the challenger failed."""
        try:
            waiting = batch.champion.ask([batch.rows[at] for at in asked])
        except BusyError as error:
            batch.by_champion.update(dict.fromkeys(asked, str(error)))
            return
        found = await self._outcomes(batch.champion, waiting, self._seconds, len(asked))
        batch.by_champion.update(zip(asked, found, strict=True))

    @staticmethod
    async def _outcomes(lane: Lane, waiting: asyncio.Future[list[Outcome]], seconds: float, rows: int) -> list[Outcome]:
        """Wait for a lane. One that predicts in the event loop is never late by more than its own batch."""
        if lane.quick and rows <= MOST_QUICK:
            return await waiting
        try:
            return await asyncio.wait_for(waiting, seconds)
        except TimeoutError:
            return [f"version {lane.number} did not answer within {seconds:g} s"] * rows

    def _note(self, batch: _Batch, seconds: float) -> None:
        """Add a line for each row to the log, count it, and hold the challenger to its limit."""
        served, traffic, totals = batch.served, batch.served.traffic, self.totals
        for at, key in enumerate(batch.keys):
            first, theirs = batch.by_champion.get(at), batch.by_challenger.get(at)
            request = f"{self._process}-{next(self._number)}"
            batch.requests.append(request)
            failed = isinstance(first if theirs is None else theirs, str)
            champion = first if isinstance(first, float) else None
            challenger = theirs if isinstance(theirs, float) else None
            answered = traffic.challenger if challenger is not None else traffic.champion
            if champion is None and challenger is None:
                answered = None
            reasons = [one for one in (theirs, first) if isinstance(one, str)]
            asked = str(traffic.champion if theirs is None else traffic.challenger)
            self._log.add(Line(
                request, key, batch.received, answered, champion, challenger, seconds, "; ".join(reasons) or None,
                traffic.kind, traffic.share, traffic.order, served.counts, batch.units[at], asked,
                theirs is not None, failed,
            ))  # fmt: skip
            totals.rows += 1
            totals.answered += answered is not None
            if theirs is None:
                served.breaker.champion_answered(seconds / len(batch.rows), failed=failed)
                continue
            totals.instead += failed and answered is not None
            reason = served.breaker.challenger_answered(
                batch.units[at], batch.challenger_seconds, failed=failed, together=len(batch.by_challenger)
            )
            if reason is not None:
                self._trip(served, reason)


class _Batch:
    """The rows of one request, and what versions made of them, by their places."""

    def __init__(self, served: Served, champion: Lane, rows: Sequence[Any], keys: list[str]) -> None:
        self.served, self.champion, self.rows, self.keys = served, champion, rows, keys
        self.received, self.began = time.time(), time.perf_counter()
        self.units = [served.split.bucket(key) for key in keys]
        self.by_champion: dict[int, Outcome] = {}
        self.by_challenger: dict[int, Outcome] = {}
        self.requests: list[str] = []
        self.challenger_seconds = 0.0

    def theirs(self) -> list[int]:
        """Return the places of the rows that are the challenger's."""
        served = self.served
        if served.challenger is None or served.bound <= 0:
            return []
        return [at for at, unit in enumerate(self.units) if unit < served.bound]

    def offer(self, shadow: ShadowLink, body: bytes) -> None:
        """Let the shadow have the rows of its share."""
        for at, unit in enumerate(self.units):
            if unit < self.served.shadowed:
                ours = self.by_champion.get(at)
                shadow.offer(body, at, unit, self.requests[at], ours if isinstance(ours, float) else None)

    def answers(self) -> list[tuple[float, str]]:
        """Return the prediction of each row and its version."""
        challenger, champion = str(self.served.traffic.challenger), self.champion.number
        found = []
        for at in range(len(self.rows)):
            theirs = self.by_challenger.get(at)
            if isinstance(theirs, float):
                found.append((theirs, challenger))
                continue
            ours = self.by_champion[at]
            if isinstance(ours, str):
                raise UnansweredError(f"version {champion} cannot answer: {ours}", at)
            found.append((ours, champion))
        return found
