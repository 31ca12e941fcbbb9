"""The prediction log: a Parquet file of every so many rows, and one line for each row that was answered or failed.

A thread of its own takes lines from the event loop's queue, counts them by unit, and writes a file when enough have
come, enough time has passed, or the gateway stops; a file appears whole, under its name, or not at all. After a
SIGTERM every line is on disk. A ``kill -9``, or a loss of power, loses the lines since the last file was written: at
most those of ``seconds`` or ``rows``, whichever comes first.

Where the folder cannot be written, lines are kept in memory and tried again, up to ``MOST_KEPT``; the oldest go then,
and are counted as lost.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.gateway.request_counts import Asked, RequestCounts, VersionTotals

log = logging.getLogger(__name__)
TURN_SECONDS = 0.2
MOST_KEPT = 500_000
SCHEMA = pa.schema([
    ("request", pa.string()),
    ("key", pa.string()),
    ("received", pa.timestamp("us", tz="UTC")),
    ("version", pa.string()),
    ("prediction", pa.float64()),
    ("champion_prediction", pa.float64()),
    ("challenger_prediction", pa.float64()),
    ("seconds", pa.float64()),
    ("error", pa.string()),
    ("kind", pa.string()),
    ("share", pa.float64()),
    ("order", pa.int64()),
])  # fmt: skip
"""Columns of a file. ``version`` answered, null where none did; ``seconds`` from the request's arrival to its answer;
``error`` of whichever version failed, also where the champion then answered; ``order`` of the traffic in force."""
SHADOW_SCHEMA = pa.schema([
    ("request", pa.string()),
    ("version", pa.string()),
    ("challenger_prediction", pa.float64()),
    ("seconds", pa.float64()),
    ("error", pa.string()),
    ("order", pa.int64()),
])  # fmt: skip
"""Columns of the file of a shadow; ``request`` is that of the line of the champion's answer."""


class Line(NamedTuple):
    """What was answered for one row, and what is to be counted of it."""

    request: str
    key: str
    received: float
    version: str | None
    champion: float | None
    challenger: float | None
    seconds: float
    error: str | None
    kind: str
    share: float
    order: int
    counts: RequestCounts
    unit: int
    asked: str
    by_challenger: bool
    failed: bool


class ShadowLine(NamedTuple):
    """What a shadow made of one row."""

    request: str
    version: str
    champion: float | None
    challenger: float | None
    seconds: float
    error: str | None
    order: int
    counts: RequestCounts
    unit: int


class PredictionLog:
    """Takes lines from one thread, counts them and writes them in another.

    Parameters
    ----------
    folder : Path
        Where files go; those of shadows below ``shadow``.
    seconds, rows : float and int
        When a file is written at the latest.
    """

    def __init__(self, folder: Path, *, seconds: float = 10.0, rows: int = 50_000) -> None:
        self.folder, self._seconds, self._rows = folder, seconds, rows
        (folder / "shadow").mkdir(parents=True, exist_ok=True)
        self.fresh: deque[Line | ShadowLine] = deque()
        self.written = self.lost = 0
        self.totals: dict[str, VersionTotals] = {}
        self._kept: list[Line] = []
        self._shadowed: list[ShadowLine] = []
        self._due = time.monotonic() + seconds
        self._stop = threading.Event()
        self._taking, self._writing = threading.Lock(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, line: Line | ShadowLine) -> None:
        """Take a line; it costs no more than its place in a queue."""
        self.fresh.append(line)

    def count(self) -> None:
        """Count all lines that have come until now."""
        with self._taking:
            taken = [self.fresh.popleft() for _ in range(len(self.fresh))]
            lines = [one for one in taken if isinstance(one, Line)]
            shadowed = [one for one in taken if isinstance(one, ShadowLine)]
            self._kept += lines
            self._shadowed += shadowed
            count_lines(lines, shadowed)
            for number, asked in by_version(lines, shadowed).items():
                self.totals.setdefault(number, VersionTotals()).take(asked)

    def close(self) -> None:
        """Write what is left; afterwards there is a line on disk for each that was added."""
        self._stop.set()
        self._thread.join()
        self.count()
        self.write()

    def write(self) -> None:
        """Write what was taken as files, or keep it for the next time."""
        with self._writing:
            with self._taking:
                lines, self._kept = self._kept, []
                shadowed, self._shadowed = self._shadowed, []
            self._due = time.monotonic() + self._seconds
            try:
                if lines:
                    write_whole(self.folder, table_of(lines))
                    self.written += len(lines)
                    lines = []
                if shadowed:
                    write_whole(self.folder / "shadow", shadow_table_of(shadowed))
                    shadowed = []
            except OSError as error:
                self._keep(lines, shadowed, error)

    def _keep(self, lines: list[Line], shadowed: list[ShadowLine], error: OSError) -> None:
        with self._taking:
            self._kept = [*lines, *self._kept]
            self._shadowed = [*shadowed, *self._shadowed][-MOST_KEPT:]
            over = max(len(self._kept) - MOST_KEPT, 0)
            del self._kept[:over]
        self.lost += over
        log.error(
            "%d lines cannot be written to %s (%s); they are kept, %d are lost", len(lines), self.folder, error, over
        )

    def _run(self) -> None:
        while not self._stop.wait(TURN_SECONDS):
            self.count()
            if len(self._kept) >= self._rows or time.monotonic() >= self._due:
                self.write()


def count_lines(lines: Iterable[Line], shadowed: Iterable[ShadowLine]) -> None:
    """Count lines with the traffic that each belongs to.

    A row that the champion answers in the place of a challenger that failed is counted for the challenger alone: its
    key is one of the challenger's units.
    """
    counted: dict[int, tuple[RequestCounts, list[Asked], list[Asked], list[tuple[float, float]]]] = {}
    for one in lines:
        _counts, champion, challenger, _paired = counted.setdefault(id(one.counts), (one.counts, [], [], []))
        predicted = one.challenger if one.by_challenger else one.champion
        (challenger if one.by_challenger else champion).append(
            Asked(one.unit, float("nan") if predicted is None else predicted, one.seconds, one.failed)
        )
    for each in shadowed:
        _counts, _champion, challenger, paired = counted.setdefault(id(each.counts), (each.counts, [], [], []))
        predicted = float("nan") if each.challenger is None else each.challenger
        challenger.append(Asked(each.unit, predicted, each.seconds, each.challenger is None))
        if each.champion is not None and each.challenger is not None:
            paired.append((each.champion, each.challenger))
    for counts, champion, challenger, paired in counted.values():
        counts.take(champion, challenger, paired)


def by_version(lines: Iterable[Line], shadowed: Iterable[ShadowLine]) -> dict[str, list[tuple[float, bool]]]:
    """Return the seconds of each row that a version was asked for, and whether it failed, by version."""
    found: dict[str, list[tuple[float, bool]]] = {}
    for one in lines:
        found.setdefault(one.asked, []).append((one.seconds, one.failed))
    for each in shadowed:
        found.setdefault(each.version, []).append((each.seconds, each.challenger is None))
    return found


def table_of(lines: list[Line]) -> pa.Table:
    """Return lines as a table of ``SCHEMA``."""
    answered = [one.challenger if one.by_challenger and not one.failed else one.champion for one in lines]
    columns: list[list[Any]] = [
        [one.request for one in lines], [one.key for one in lines],
        [int(one.received * 1e6) for one in lines], [one.version for one in lines], answered,
        [one.champion for one in lines], [one.challenger for one in lines], [one.seconds for one in lines],
        [one.error for one in lines], [one.kind for one in lines], [one.share for one in lines],
        [one.order for one in lines],
    ]  # fmt: skip
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def shadow_table_of(lines: list[ShadowLine]) -> pa.Table:
    """Return lines of a shadow as a table of ``SHADOW_SCHEMA``."""
    columns: list[list[Any]] = [
        [one.request for one in lines], [one.version for one in lines], [one.challenger for one in lines],
        [one.seconds for one in lines], [one.error for one in lines], [one.order for one in lines],
    ]  # fmt: skip
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SHADOW_SCHEMA, strict=True)]
    return pa.table(arrays, schema=SHADOW_SCHEMA)


def write_whole(folder: Path, table: pa.Table) -> None:
    """Write a table as a new file of a folder; nobody sees half of it."""
    name = f"{int(time.time() * 1000)}-{uuid.uuid4().hex[:12]}.parquet"
    part = folder / f".{name}.part"
    try:
        pq.write_table(table, part)
        part.rename(folder / name)
    finally:
        part.unlink(missing_ok=True)
