"""Enforce the shape of rows batch by batch: type, nulls, finiteness, time and masking, with every reason of a bad row.

No value is coerced: a value that is not plainly of the declared type makes its row bad. Only widths are widened, and
moments converted to UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.key_text import join_key_columns
from airflow_mlops.core.data.masking import fingerprint, mask_column, mask_key, refuse_other_key
from airflow_mlops.core.data.read_text import format_column, moments_of_clocks, parse_column
from airflow_mlops.core.data.shape import Rule, Shape
from airflow_mlops.core.declaration.arrow_types import contract_type, is_time
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.declaration.text_form import TextForm

Mask = npt.NDArray[np.bool_]
MAX_VALUE_LENGTH = 60
SHOWN_LEVELS = 10
"""Most levels that a message lists."""
_MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Interval:
    """The time of a partition in UTC: from ``start`` (included) to ``end`` (excluded).

    A time without a zone is read on the clock of ``zone``.
    """

    start: datetime
    end: datetime
    zone: str = "UTC"

    @classmethod
    def of(cls, schedule: PartitionSchedule, key: str) -> Interval:
        """Return the interval of a partition."""
        start = datetime.fromisoformat(schedule.previous(key))
        return cls(start, datetime.fromisoformat(key), schedule.timezone)

    def outside(self, times: pa.Array) -> tuple[Mask, Mask]:
        """Return masks of the times before and after the interval; a null is neither.

        A local time that came twice is inside if either of its instants is.
        """
        is_moment = pa.types.is_timestamp(times.type) and times.type.tz
        first = last = times.cast(pa.timestamp("us", tz="UTC" if is_moment else None))
        if self.zone != "UTC" and not is_moment:
            first, last = (
                pc.assume_timezone(first, self.zone, ambiguous=choice, nonexistent=choice).cast(_MOMENT)
                for choice in ("earliest", "latest")
            )
        zone = UTC if first.type.tz else None
        start, end = (pa.scalar(at.replace(tzinfo=zone), first.type) for at in (self.start, self.end))
        return _as_mask(pc.less(last, start)), _as_mask(pc.greater_equal(first, end))


@dataclass
class Enforcement:
    """Enforces a shape on the batches of one arrival.

    Parameters
    ----------
    shape : Shape
        The columns and their rules.
    data : Data
        The declared key and time.
    interval : Interval
        The time of the partition.
    secret : str, optional
        Secret of the masks; needed if the shape masks a column.
    raw : bool
        Whether masked columns arrive unmasked, as from a source; rows of the quarantine are masked already.
    known_key : str, optional
        Fingerprint of the key used so far; another key is refused.
    form : TextForm, optional
        Written form of the values in text; that of the source by default.
    late, early : int
        Number of rows before and after the interval so far.

    Raises
    ------
    DeclarationError
        If a column is masked and the secret is missing, too short, or not the one used so far.
    """

    shape: Shape
    data: Data
    interval: Interval
    secret: str | None = None
    raw: bool = True
    known_key: str | None = None
    form: TextForm | None = None
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
        """Fingerprint of the masking key; None if no column is masked."""
        return next((fingerprint(key) for key in self._keys.values()), None)

    def read(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[int, list[str]]]:
        """Return the rows in the stored schema, and the reasons against each bad row by its position."""
        reasons: dict[int, list[str]] = {}
        columns: dict[str, pa.Array] = {}
        for rule in self.shape.rules:
            columns[rule.name] = (
                join_key_columns([columns[name] for name in rule.joins])
                if rule.joins
                else self._read_column(rule, batch, reasons)
            )
        rows = pa.RecordBatch.from_arrays(list(columns.values()), schema=self.shape.schema)
        self._check_time(rows, reasons)
        return rows, reasons

    def format_rows(self, batch: pa.RecordBatch, positions: list[int]) -> pa.RecordBatch:
        """Return the rows at some positions of a batch as text, masked where the contract masks a column."""
        rows = batch.take(pa.array(positions, pa.int64()))
        columns = [self._format_rule(rule, rows) for rule in self.shape.rules]
        return pa.RecordBatch.from_arrays(columns, names=[rule.name for rule in self.shape.rules])

    def canonical_texts(self, batch: pa.RecordBatch, name: str) -> pa.Array | None:
        """Return a column of an arrival as the one text of each value, unmasked; None if the column is missing.

        A text that is no value of the column's type stays as it is.
        """
        rule = next((rule for rule in self.shape.rules if rule.name == name), None)
        if rule is None or rule.source is None:
            return None
        return self._canonical(rule, self._without_nulls(batch.column(rule.source)))

    def _canonical(self, rule: Rule, arrived: pa.Array) -> pa.Array:
        values, invalid = self._convert(rule, arrived)
        return pc.if_else(pa.array(invalid), format_column(arrived), format_column(values))

    def _format_rule(self, rule: Rule, batch: pa.RecordBatch) -> pa.Array:
        """Return a column of bad rows as text, masked; the key column from the one text of each part."""
        if rule.joins:
            parts = [part for name in rule.joins for part in self.shape.rules if part.name == name]
            return join_key_columns([self._mask(part, self._part_texts(part, batch)) for part in parts])
        if rule.source is None:
            return pa.nulls(batch.num_rows, pa.string())
        if rule.mask and self.raw:
            # The one text of a value, so that it has the mask of the same value in a snapshot.
            return self._mask(rule, self._part_texts(rule, batch))
        return format_column(batch.column(rule.source))

    def _part_texts(self, rule: Rule, batch: pa.RecordBatch) -> pa.Array:
        texts = self.canonical_texts(batch, rule.name)
        return pa.nulls(batch.num_rows, pa.string()) if texts is None else texts

    def _mask(self, rule: Rule, texts: pa.Array) -> pa.Array:
        return mask_column(texts, self._keys[rule.name]) if rule.mask and self.raw else texts

    def _read_column(self, rule: Rule, batch: pa.RecordBatch, reasons: dict[int, list[str]]) -> pa.Array:
        """Return a column in its stored type, and add the reasons against its values to ``reasons``."""
        if rule.source is None:
            return pa.nulls(batch.num_rows, pa.string() if rule.mask else rule.kind)
        arrived = self._without_nulls(batch.column(rule.source))
        if rule.mask and not self.raw:
            masked = arrived.cast(pa.string())
            _add_nulls(reasons, rule, masked, np.zeros(len(masked), bool))
            return masked
        values, invalid = self._convert(rule, arrived)
        type_name = expected_type(rule.kind)
        _add_reasons(reasons, invalid, lambda at: f"{rule.name}: {format_value(arrived[at], rule)} is no {type_name}")
        _add_nulls(reasons, rule, values, invalid)
        _add_levels(reasons, rule, values)
        if rule.finite and pa.types.is_floating(rule.kind):
            is_valid = values.is_valid().to_numpy(zero_copy_only=False)
            infinite = ~np.isfinite(values.to_numpy(zero_copy_only=False)) & is_valid
            _add_reasons(reasons, infinite, lambda at: f"{rule.name}: {values[at].as_py()} is not finite")
        return mask_column(format_column(values), self._keys[rule.name]) if rule.mask else values

    def _without_nulls(self, arrived: pa.Array) -> pa.Array:
        """Return a column with the texts that mean null as null."""
        if not self.shape.typed and self.shape.nulls and not pa.types.is_null(arrived.type):
            means_null = pc.is_in(arrived, value_set=pa.array(self.shape.nulls, arrived.type))
            if means_null.true_count:
                return pc.if_else(means_null, pa.scalar(None, arrived.type), arrived)
        return arrived

    def _convert(self, rule: Rule, arrived: pa.Array) -> tuple[pa.Array, Mask]:
        """Return a column as values of its declared type, and a mask of the invalid values."""
        if (rule.text or not self.shape.typed) and not pa.types.is_null(arrived.type):
            form = self.data.text_form if self.form is None else self.form
            return parse_column(arrived, rule.kind, form=form, time_format=rule.format, clock=rule.clock)
        if rule.clock is not None and pa.types.is_timestamp(arrived.type) and arrived.type.tz is None:
            return moments_of_clocks(arrived.cast(pa.timestamp("us"), safe=False), rule.clock)
        if arrived.type == rule.kind:
            return arrived, np.zeros(len(arrived), bool)
        try:
            return arrived.cast(rule.kind), np.zeros(len(arrived), bool)
        except pa.ArrowInvalid:  # a number beyond 64 bits, a time finer than a microsecond
            return parse_column(format_column(arrived), rule.kind)

    def _check_time(self, rows: pa.RecordBatch, reasons: dict[int, list[str]]) -> None:
        """Count the rows outside the interval, and add a reason where the contract quarantines them."""
        column = rows.column(self.data.time)
        if not is_time(column.type):
            return
        before, after = self.interval.outside(column)
        for mask, word, policy in ((before, "before", self.shape.late), (after, "after", self.shape.early)):
            count = int(mask.sum())
            if word == "before":
                self.late += count
            else:
                self.early += count
            if count and policy == "quarantine":
                for at in np.flatnonzero(mask).tolist():
                    reason = f"{self.data.time}: {column[at].as_py()} lies {word} the partition"
                    reasons.setdefault(at, []).append(reason)


def _as_mask(condition: pa.Array) -> Mask:
    """Return a condition as an array; null is false."""
    return np.asarray(pc.fill_null(condition, False).to_numpy(zero_copy_only=False), bool)


def _add_nulls(reasons: dict[int, list[str]], rule: Rule, values: pa.Array, invalid: Mask) -> None:
    """Add the reason of each null where the column has to have a value; an invalid value has a reason already."""
    if not rule.nullable and values.null_count:
        missing = np.asarray(pc.is_null(values).to_numpy(zero_copy_only=False), bool) & ~invalid
        _add_reasons(reasons, missing, lambda _at: f"{rule.name}: is null")


def _add_levels(reasons: dict[int, list[str]], rule: Rule, values: pa.Array) -> None:
    """Add the reason of each value that is none of the declared levels, where that makes a row bad."""
    if rule.levels is None:
        return
    listed = ", ".join(map(repr, rule.levels[:SHOWN_LEVELS])) + (", …" if len(rule.levels) > SHOWN_LEVELS else "")
    unseen = ~np.asarray(pc.is_in(values, value_set=pa.array(rule.levels)).to_numpy(zero_copy_only=False), bool)
    unseen &= values.is_valid().to_numpy(zero_copy_only=False)
    reason = f"no level; there are {listed}"
    _add_reasons(reasons, unseen, lambda at: f"{rule.name}: {format_value(values[at], rule)} is {reason}")


def _add_reasons(reasons: dict[int, list[str]], mask: Mask, reason: Callable[[int], str]) -> None:
    """Add the reason of each position that the mask marks."""
    for at in np.flatnonzero(mask).tolist():
        reasons.setdefault(at, []).append(reason(at))


def format_value(value: pa.Scalar, rule: Rule) -> str:
    """Return a bad value as text for a message: shortened, and withheld if the column is masked."""
    if rule.mask:
        return "a masked value"
    text = repr(value.as_py())
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"


def expected_type(kind: pa.DataType) -> str:
    """Return the name of a type for a message: that of a contract, and whether a time needs a zone."""
    if pa.types.is_timestamp(kind):
        return "time with a zone" if kind.tz else "time without a zone"
    return contract_type(kind)
