"""Hold rows to their shape, batch by batch: typed, complete, finite, in time, masked. Bad rows keep every reason.

Nothing is coerced: a value that is not plainly of the declared type makes its row bad. Only a width is
widened, and a moment brought to UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.masking import fingerprint, mask_key, masked, refuse_other_key
from airflow_mlops.core.data.read_text import read_text, written_as_text
from airflow_mlops.core.data.shape import Rule, Shape
from airflow_mlops.core.declaration.data import Data

Mask = npt.NDArray[np.bool_]
SHOWN = 60


@dataclass(frozen=True)
class Interval:
    """The time of a partition: from ``start``, which belongs to it, to ``end``, which does not; in UTC."""

    start: datetime
    end: datetime

    @classmethod
    def between(cls, start: str, end: str) -> Interval:
        """Return the interval between two partition keys."""
        return cls(datetime.fromisoformat(start), datetime.fromisoformat(end))


@dataclass
class Enforcement:
    """Holds batches of one arrival to a shape.

    Parameters
    ----------
    shape : Shape
        The columns and their rules.
    data : Data
        Names the key and the time.
    interval : Interval
        What counts as late and early.
    secret : str, optional
        What masks columns; needed where the shape masks any.
    raw : bool
        Whether masked columns arrive unmasked, as from a source; not so for rows out of quarantine.
    known_key : str, optional
        Fingerprint of the key that masked before; another key is refused.
    late, early : int
        How many rows lay before and after the interval so far.
    """

    shape: Shape
    data: Data
    interval: Interval
    secret: str | None = None
    raw: bool = True
    known_key: str | None = None
    late: int = 0
    early: int = 0
    _keys: dict[str, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.raw:
            for rule in self.shape.rules:
                if rule.mask:
                    self._keys[rule.name] = mask_key(self.secret, rule.name)
                    refuse_other_key(self._keys[rule.name], self.known_key)

    @property
    def mask_key(self) -> str | None:
        """What tells the key that masks from others; None where nothing is masked."""
        return next((fingerprint(key) for key in self._keys.values()), None)

    def read(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[int, list[str]]]:
        """Return the rows as they are kept, and every reason against each bad row, by its position."""
        reasons: dict[int, list[str]] = {}
        columns = [self._column(rule, batch, reasons) for rule in self.shape.rules]
        kept = pa.RecordBatch.from_arrays(columns, schema=self.shape.schema)
        self._check_time(kept, reasons)
        return kept, reasons

    def as_arrived(self, batch: pa.RecordBatch, positions: list[int]) -> pa.RecordBatch:
        """Return rows of a batch as they arrived, as text; masked columns are masked."""
        at = pa.array(positions, pa.int64())
        columns = []
        for rule in self.shape.rules:
            if rule.source is None:
                columns.append(pa.nulls(len(positions), pa.string()))
                continue
            text = written_as_text(batch.column(rule.source).take(at))
            columns.append(masked(text, self._keys[rule.name]) if rule.mask and self.raw else text)
        return pa.RecordBatch.from_arrays(columns, names=[rule.name for rule in self.shape.rules])

    def _column(self, rule: Rule, batch: pa.RecordBatch, reasons: dict[int, list[str]]) -> pa.Array:
        if rule.source is None:
            return pa.nulls(batch.num_rows, pa.string() if rule.mask else rule.kind)
        arrived = batch.column(rule.source)
        if not self.shape.typed and self.shape.nulls and not pa.types.is_null(arrived.type):
            meant = pc.is_in(arrived, value_set=pa.array(self.shape.nulls, arrived.type))
            arrived = pc.if_else(meant, pa.scalar(None, arrived.type), arrived)
        if rule.mask and not self.raw:
            return arrived.cast(pa.string())
        values, unread = self._values(rule, arrived)
        self._note(reasons, unread, lambda at: f"{rule.name}: {shown(arrived[at], rule)} is no {word_of(rule.kind)}")
        if not rule.nullable and values.null_count:
            missing = np.asarray(pc.is_null(values).to_numpy(zero_copy_only=False), bool) & ~unread
            self._note(reasons, missing, lambda _at: f"{rule.name}: is null")
        if rule.finite and pa.types.is_floating(rule.kind):
            odd = ~np.isfinite(values.to_numpy(zero_copy_only=False)) & values.is_valid().to_numpy(zero_copy_only=False)
            self._note(reasons, odd, lambda at: f"{rule.name}: {values[at].as_py()} is not finite")
        return masked(written_as_text(values), self._keys[rule.name]) if rule.mask else values

    def _values(self, rule: Rule, arrived: pa.Array) -> tuple[pa.Array, Mask]:
        if (rule.text or not self.shape.typed) and not pa.types.is_null(arrived.type):
            return read_text(arrived, rule.kind)
        if arrived.type == rule.kind:
            return arrived, np.zeros(len(arrived), bool)
        try:
            return arrived.cast(rule.kind), np.zeros(len(arrived), bool)
        except pa.ArrowInvalid:  # a number beyond 64 bits, a time finer than a microsecond
            return read_text(written_as_text(arrived), rule.kind)

    def _check_time(self, kept: pa.RecordBatch, reasons: dict[int, list[str]]) -> None:
        column = kept.column(self.data.time)
        if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
            return
        zone = UTC if pa.types.is_timestamp(column.type) and column.type.tz else None
        times = column.cast(pa.timestamp("us", tz="UTC" if zone else None))
        start, end = (pa.scalar(at.replace(tzinfo=zone), times.type) for at in (self.interval.start, self.interval.end))
        for outside, word, policy in (
            (pc.less(times, start), "before", self.shape.late),
            (pc.greater_equal(times, end), "after", self.shape.early),
        ):
            mask = np.asarray(pc.fill_null(outside, False).to_numpy(zero_copy_only=False), bool)
            count = int(mask.sum())
            if word == "before":
                self.late += count
            else:
                self.early += count
            if count and policy == "quarantine":
                self._note(
                    reasons,
                    mask,
                    lambda at, word=word: f"{self.data.time}: {column[at].as_py()} lies {word} the partition",
                )

    def _note(self, reasons: dict[int, list[str]], mask: Mask, words: object) -> None:
        for at in np.flatnonzero(mask).tolist():
            reasons.setdefault(at, []).append(words(at))  # type: ignore[operator]


def shown(value: pa.Scalar, rule: Rule) -> str:
    """Return a bad value as a message may show it: short, and not at all where the column is masked."""
    if rule.mask:
        return "a masked value"
    text = repr(value.as_py())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def word_of(kind: pa.DataType) -> str:
    """Return what a contract calls a type."""
    if pa.types.is_timestamp(kind):
        return "time with a zone" if kind.tz else "time without a zone"
    words = {pa.string(): "text", pa.int64(): "int", pa.float64(): "float", pa.bool_(): "bool", pa.date32(): "date"}
    return words.get(kind, str(kind).replace("128", ""))
