"""The prediction log: Parquet files with one line for each row that was answered or failed.

A thread of its own takes lines from the queue of the event loop, counts them by unit, and writes a file after a number
of lines, after some time, and when the gateway stops. A file appears as a whole or not at all. After a SIGTERM every
line is on disk. A ``kill -9`` or a loss of power loses the lines since the last file, and their counts: at most those
of ``seconds`` or ``rows``, whichever is less. The counts of the lines on disk are kept with them; see ``counts_file``.

If the folder cannot be written, up to ``MAX_PENDING`` lines wait in memory for a retry; beyond that the oldest are
dropped and counted as lost.
"""

from __future__ import annotations

import logging
import os
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
from airflow_mlops.gateway.counts_file import CountsFile
from airflow_mlops.gateway.durable_file import sync_folder
from airflow_mlops.gateway.request_counts import Arrays, Pair, RequestCounts, RowOutcome, VersionTotals

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
    counts_file : CountsFile, optional
        File that keeps the counts of the lines on disk; without one they are in memory only.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds: float = 10.0,
        rows: int = 50_000,
        form: AnswerForm = NUMBERS,
        counts_file: CountsFile | None = None,
    ) -> None:
        self.folder, self._seconds, self._rows, self._form = folder, seconds, rows, form
        (folder / "shadow").mkdir(parents=True, exist_ok=True)
        self.counts: RequestCounts | None = None
        """The counts of the traffic in force, which go into the file."""
        self._counts_file = counts_file
        self._unnamed = [folder / name for name in counts_file.log_files()] if counts_file else []
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
                counts = self.counts.to_arrays() if self.counts and (lines or shadow_lines) else None
            self._next_write = time.monotonic() + self._seconds
            try:
                self._name_files()
                self._write_files(lines, shadow_lines, counts)
                self.written += len(lines)
                lines, shadow_lines = [], []
                self._name_files()
            except OSError as error:
                self._keep_for_retry(lines, shadow_lines, error)

    def _write_files(self, lines: list[Line], shadow_lines: list[ShadowLine], counts: Arrays | None) -> None:
        """Write lines beside the names of their files, and then their counts, with the names."""
        unnamed = []
        try:
            if lines:
                unnamed.append(write_part(self.folder, to_table(lines, self._form)))
            if shadow_lines:
                unnamed.append(write_part(self.folder / "shadow", shadow_to_table(shadow_lines, self._form)))
            if counts is not None and self._counts_file is not None:
                self._counts_file.write(counts, [str(file.relative_to(self.folder)) for file in unnamed])
        except OSError:
            for file in unnamed:
                part_of_file(file).unlink(missing_ok=True)
            raise
        self._unnamed = unnamed

    def _name_files(self) -> None:
        """Give the files that were written last their names."""
        for file in self._unnamed:
            name_file(file)
        self._unnamed = []

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
        self.write()  # a process before this one may have been killed before it named its last files
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


def write_part(folder: Path, table: pa.Table) -> Path:
    """Write a table to disk beside a new file of a folder; return the file, which has no name yet."""
    file = folder / f"{int(time.time() * 1000)}-{uuid.uuid4().hex[:12]}.parquet"
    part = part_of_file(file)
    try:
        with part.open("wb") as handle:
            pq.write_table(table, handle)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return file


def name_file(file: Path) -> None:
    """Give a written file its name; it may have it already, or have been removed."""
    part = part_of_file(file)
    if part.exists():
        with external_write("predictions.log"):
            part.rename(file)
        sync_folder(file.parent)


def part_of_file(file: Path) -> Path:
    """Return the path of a file that has no name yet."""
    return file.with_name(f".{file.name}.part")
