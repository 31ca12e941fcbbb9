"""The prediction log: Parquet files with one line for each row that was answered or failed.

A thread of its own takes lines from the queue of the event loop, counts them by unit, and writes a file after a number
of lines, after some time, and when the gateway stops. A file appears as a whole or not at all. After a SIGTERM every
line is on disk. A ``kill -9`` or a loss of power loses the lines since the last file: at most those of ``seconds`` or
``rows``, whichever is less.

If the folder cannot be written, up to ``MAX_PENDING`` lines wait in memory for a retry; beyond that the oldest are
dropped and counted as lost.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.fault_point import external_write
from airflow_mlops.gateway.answer_form import AnswerForm, Prediction
from airflow_mlops.gateway.request_counts import Pair, RequestCounts, RowOutcome, VersionTotals

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
MAX_PENDING = 500_000
NUMBERS = AnswerForm(classifies=False)


def prediction_fields(prefix: str, form: AnswerForm) -> list[tuple[str, pa.DataType]]:
    """Return the columns of the predictions of a version: the prediction, and the probabilities or quantiles of it."""
    kind = pa.string() if form.classes else pa.float64()
    return [(f"{prefix}prediction", kind), *((f"{prefix}{name}", pa.float64()) for name in form.columns)]


def log_schema(form: AnswerForm) -> pa.Schema:
    """Return the columns of a file of the log.

    ``version`` answered, null where none did; ``seconds`` from the request's arrival to its answer; ``error`` of
    whichever version failed, also where the champion then answered; ``order`` of the traffic in force.

    Parameters
    ----------
    form : AnswerForm
        Form of the predictions.
    """
    return pa.schema(
        [
            ("request", pa.string()),
            ("key", pa.string()),
            ("received", pa.timestamp("us", tz="UTC")),
            ("version", pa.string()),
            *prediction_fields("", form),
            *prediction_fields("champion_", form),
            *prediction_fields("challenger_", form),
            ("seconds", pa.float64()),
            ("error", pa.string()),
            ("kind", pa.string()),
            ("share", pa.float64()),
            ("order", pa.int64()),
        ]
    )


SCHEMA = log_schema(NUMBERS)


def shadow_schema(form: AnswerForm) -> pa.Schema:
    """Return the columns of a file of a shadow; ``request`` is that of the line of the champion's answer."""
    return pa.schema(
        [
            ("request", pa.string()),
            ("version", pa.string()),
            *prediction_fields("challenger_", form),
            ("seconds", pa.float64()),
            ("error", pa.string()),
            ("order", pa.int64()),
        ]
    )


class Line(NamedTuple):
    """The log line of a row, with what is counted of it."""

    request: str
    key: str
    received: float
    version: str | None
    champion: Prediction | None
    challenger: Prediction | None
    seconds: float
    error: str | None
    kind: str
    share: float
    order: int
    counts: RequestCounts
    unit: int
    routed_to: str
    by_challenger: bool
    failed: bool


class ShadowLine(NamedTuple):
    """The log line of a row in the shadow."""

    request: str
    version: str
    champion: Prediction | None
    challenger: Prediction | None
    seconds: float
    error: str | None
    order: int
    counts: RequestCounts
    unit: int


class PredictionLog:
    """A log that takes lines in the event loop, and counts and writes them in a thread of its own.

    Parameters
    ----------
    folder : Path
        Folder of the files; those of shadows go to ``shadow`` in it.
    seconds, rows : float and int
        Limits after which a file is written.
    form : AnswerForm
        Form of the predictions.
    """

    def __init__(self, folder: Path, *, seconds: float = 10.0, rows: int = 50_000, form: AnswerForm = NUMBERS) -> None:
        self.folder, self._seconds, self._rows, self._form = folder, seconds, rows, form
        (folder / "shadow").mkdir(parents=True, exist_ok=True)
        self.queue: deque[Line | ShadowLine] = deque()
        self.written = self.lost = 0
        self.totals: dict[str, VersionTotals] = {}
        self._pending: list[Line] = []
        self._pending_shadow: list[ShadowLine] = []
        self._next_write = time.monotonic() + seconds
        self._stop = threading.Event()
        self._count_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, line: Line | ShadowLine) -> None:
        """Queue a line; that is all it costs the event loop."""
        self.queue.append(line)

    def count(self) -> None:
        """Count all queued lines."""
        with self._count_lock:
            arrived = [self.queue.popleft() for _ in range(len(self.queue))]
            lines = [line for line in arrived if isinstance(line, Line)]
            shadow_lines = [line for line in arrived if isinstance(line, ShadowLine)]
            self._pending += lines
            self._pending_shadow += shadow_lines
            count_lines(lines, shadow_lines)
            for number, times in times_by_version(lines, shadow_lines).items():
                self.totals.setdefault(number, VersionTotals()).add(times)

    def close(self) -> None:
        """Write the remaining lines; afterwards every added line is on disk."""
        self._stop.set()
        self._thread.join()
        self.count()
        self.write()

    def write(self) -> None:
        """Write the counted lines as files, or keep them for a retry."""
        with self._write_lock:
            with self._count_lock:
                lines, self._pending = self._pending, []
                shadow_lines, self._pending_shadow = self._pending_shadow, []
            self._next_write = time.monotonic() + self._seconds
            try:
                if lines:
                    write_file(self.folder, to_table(lines, self._form))
                    self.written += len(lines)
                    lines = []
                if shadow_lines:
                    write_file(self.folder / "shadow", shadow_to_table(shadow_lines, self._form))
                    shadow_lines = []
            except OSError as error:
                self._keep_for_retry(lines, shadow_lines, error)

    def _keep_for_retry(self, lines: list[Line], shadow_lines: list[ShadowLine], error: OSError) -> None:
        with self._count_lock:
            self._pending = [*lines, *self._pending]
            self._pending_shadow = [*shadow_lines, *self._pending_shadow][-MAX_PENDING:]
            excess = max(len(self._pending) - MAX_PENDING, 0)
            del self._pending[:excess]
        self.lost += excess
        log.error(
            "%d lines cannot be written to %s (%s); they are kept, %d are lost", len(lines), self.folder, error, excess
        )

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self.count()
            if len(self._pending) >= self._rows or time.monotonic() >= self._next_write:
                self.write()


def count_lines(lines: Iterable[Line], shadow_lines: Iterable[ShadowLine]) -> None:
    """Add lines to the counts of their traffic.

    A row that the champion answers after the challenger failed is counted for the challenger alone, since its key is
    one of the challenger's units.
    """
    by_counts: dict[int, tuple[RequestCounts, list[RowOutcome], list[RowOutcome], list[Pair]]] = {}
    for line in lines:
        _counts, champion, challenger, _pairs = by_counts.setdefault(id(line.counts), (line.counts, [], [], []))
        prediction = line.challenger if line.by_challenger else line.champion
        (challenger if line.by_challenger else champion).append(
            RowOutcome(line.unit, float("nan") if prediction is None else prediction, line.seconds, line.failed)
        )
    for shadow in shadow_lines:
        _counts, _champion, challenger, pairs = by_counts.setdefault(id(shadow.counts), (shadow.counts, [], [], []))
        prediction = float("nan") if shadow.challenger is None else shadow.challenger
        challenger.append(RowOutcome(shadow.unit, prediction, shadow.seconds, shadow.challenger is None))
        if shadow.champion is not None and shadow.challenger is not None:
            pairs.append((shadow.champion, shadow.challenger))
    for counts, champion, challenger, pairs in by_counts.values():
        counts.add(champion, challenger, pairs)


def times_by_version(lines: Iterable[Line], shadow_lines: Iterable[ShadowLine]) -> dict[str, list[tuple[float, bool]]]:
    """Return the seconds and the failure flag of each row, by the version that the row was routed to."""
    times: dict[str, list[tuple[float, bool]]] = {}
    for line in lines:
        times.setdefault(line.routed_to, []).append((line.seconds, line.failed))
    for shadow in shadow_lines:
        times.setdefault(shadow.version, []).append((shadow.seconds, shadow.challenger is None))
    return times


def prediction_values(predictions: Sequence[Any], form: AnswerForm) -> list[list[Any]]:
    """Return the values of each column of :func:`prediction_fields`."""
    single = [None if row is None else form.single(row) for row in predictions]
    values = [[None if row is None else row[place] for row in predictions] for place in range(len(form.columns))]
    return [[None if name is None else str(name) for name in single] if form.classes else single, *values]


def to_table(lines: list[Line], form: AnswerForm) -> pa.Table:
    """Return lines as a table with the columns of the log."""
    answered = [line.challenger if line.by_challenger and not line.failed else line.champion for line in lines]
    columns: list[list[Any]] = [
        [line.request for line in lines],
        [line.key for line in lines],
        [int(line.received * 1e6) for line in lines],
        [line.version for line in lines],
        *prediction_values(answered, form),
        *prediction_values([line.champion for line in lines], form),
        *prediction_values([line.challenger for line in lines], form),
        [line.seconds for line in lines],
        [line.error for line in lines],
        [line.kind for line in lines],
        [line.share for line in lines],
        [line.order for line in lines],
    ]
    return table_of(columns, log_schema(form))


def shadow_to_table(lines: list[ShadowLine], form: AnswerForm) -> pa.Table:
    """Return lines of a shadow as a table with the columns of its log."""
    columns: list[list[Any]] = [
        [line.request for line in lines],
        [line.version for line in lines],
        *prediction_values([line.challenger for line in lines], form),
        [line.seconds for line in lines],
        [line.error for line in lines],
        [line.order for line in lines],
    ]
    return table_of(columns, shadow_schema(form))


def table_of(columns: list[list[Any]], schema: pa.Schema) -> pa.Table:
    """Return columns of values as a table."""
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
    )


def write_file(folder: Path, table: pa.Table) -> None:
    """Write a table as a new file of a folder, atomically."""
    name = f"{int(time.time() * 1000)}-{uuid.uuid4().hex[:12]}.parquet"
    part = folder / f".{name}.part"
    try:
        pq.write_table(table, part)
        with external_write("predictions.log"):
            part.rename(folder / name)
    finally:
        part.unlink(missing_ok=True)
