"""Read a delivery of labels: one number or one declared class for each key, and the counts of bad rows by reason.

A row without a key, without a number or a declared class, or with another label than an earlier row of the same key is
dropped and counted by its reason. If more rows are bad than ``data.tolerance`` allows, the delivery is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.erasure import Erasure, subject_column
from airflow_mlops.core.data.key_text import join_key_columns
from airflow_mlops.core.data.label_classes import class_text
from airflow_mlops.core.data.labels.open_labels import data_of_labels, declared_labels, open_labels
from airflow_mlops.core.data.masking import mask_column, mask_key
from airflow_mlops.core.data.read_text import format_column, moments_of_clocks, parse_column
from airflow_mlops.core.declaration.arrow_types import canonical_type, parse_type
from airflow_mlops.core.declaration.key_columns import key_columns
from airflow_mlops.core.declaration.text_form import TextForm
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ports.partitions import Arrival
from airflow_mlops.core.workspace import Workspace

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("label", pa.float64())])

CLASS_SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("label", pa.string())])
"""Labels of declared classes are stored as the texts that arrived."""

NO_KEY = "no key"
NO_NUMBER = "no number"
NOT_FINITE = "NaN or infinite"
NO_CLASS = "neither 0 nor 1"
NOT_DECLARED = "none of the declared classes"
TWO_LABELS = "two labels for one key"
BROKEN = "broken line"
LABEL = "__label__"
_PLAIN = TextForm()

Mask = npt.NDArray[np.bool_]


@dataclass
class Delivery:
    """The labels of a delivery, and the counts of its rows.

    Parameters
    ----------
    rows : pyarrow.Table
        Key (as text, masked if the contract masks it) and label; one row for each key.
    delivered, empty, duplicates : int
        Numbers of rows that arrived, of rows without a label, and of rows that repeat a label.
    bad : Counter
        Numbers of dropped rows by reason.
    erased : int
        Number of rows of erased subjects.
    names_subject : bool
        Whether the rows name their subject.
    origin : dict
        Origin of the delivery.
    """

    rows: pa.Table = field(default_factory=SCHEMA.empty_table)
    delivered: int = 0
    empty: int = 0
    duplicates: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    erased: int = 0
    names_subject: bool = False
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def bad_in_words(self) -> str:
        """The reasons with their numbers of rows."""
        return ", ".join(f"{reason}: {rows:,}" for reason, rows in sorted(self.bad.items()) if rows)


def read_delivery(workspace: Workspace, state: LoopState, tick: str) -> Delivery:
    """Read the delivery of a tick.

    Raises
    ------
    SourceMissingError
        If nothing has arrived yet.
    DataError
        If the delivery cannot be read.
    PartitionRefusedError
        If a column is missing, the label is not numeric, or too many rows are bad.
    """
    reader = _DeliveryReader(workspace, state)
    with open_labels(workspace).open(tick) as arrival:
        rename_columns = reader.rename_columns(arrival.batches, reader.columns_of(arrival))
        parts = [
            reader.good_rows(batch) for batch in reader.erasure.drop_forgotten(rename_columns, reader.subject_texts)
        ]
        delivery = reader.delivery
        delivery.bad[BROKEN] += len(arrival.broken)
        delivery.delivered += len(arrival.broken)
        delivery.origin, delivery.erased = arrival.origin, reader.erasure.rows
    delivery.rows = reader.merge_keys(pa.Table.from_batches(parts, reader.schema))
    bad = sum(delivery.bad.values())
    if bad > workspace.loop.data.tolerance * delivery.delivered:
        raise PartitionRefusedError(
            f"labels of {tick}: {bad:,} of {delivery.delivered:,} rows are bad ({delivery.bad_in_words}); "
            f"data.tolerance allows {workspace.loop.data.tolerance:.1%}"
        )
    return delivery


class _DeliveryReader:
    def __init__(self, workspace: Workspace, state: LoopState) -> None:
        self.workspace, self.loop, self.declared = workspace, workspace.loop, declared_labels(workspace.loop)
        self.delivery, self.erasure = Delivery(), Erasure(workspace, state)
        self.classes = self.loop.class_names
        self.schema = SCHEMA if self.classes is None else CLASS_SCHEMA
        self.keys = key_columns(self.declared.key or self.loop.data.key)
        self.label = self.declared.label or self.loop.data.label
        self.parts = [key_part(workspace, state, name) for name in self.loop.data.key_columns]
        contract, self.form = workspace.contract, data_of_labels(workspace.loop).text_form
        if self.form.nulls is not None:
            self.nulls = self.form.nulls
        else:
            self.nulls = contract.nulls if contract else ("",)

    def columns_of(self, arrival: Arrival) -> dict[str, str]:
        """Return the arriving names of the columns to read by their new names; the key gets the name that rows use.

        Raises
        ------
        PartitionRefusedError
            If a column is missing or repeats, or the label is not numeric.
        """
        present = arrival.schema.names
        if arrival.typed:
            self.nulls = ()
        for role, name in (*(("key", name) for name in self.keys), ("label", self.label)):
            if present.count(name) != 1:
                times = "is missing" if name not in present else f"stands there {present.count(name)} times"
                raise PartitionRefusedError(
                    f"labels: column {name!r}, the declared {role} of data.labels, {times}; there are "
                    f"{', '.join(present)}"
                )
        kind = arrival.schema.field(self.label).type
        if arrival.typed and not (is_number(kind) if self.classes is None else is_class(kind)):
            rule = "a label is a number" if self.classes is None else "a declared class is text or an integer"
            raise PartitionRefusedError(f"labels: column {self.label!r} has the type {kind}; {rule}")
        names = {**dict(zip(self.loop.data.key_columns, self.keys, strict=True)), LABEL: self.label}
        # With the subject of each row, if it is delivered, labels of erased subjects can be dropped.
        subject = subject_column(self.workspace)
        self.delivery.names_subject = subject in names or subject in present or subject == self.loop.data.key
        return {subject: subject, **names} if subject in present and subject not in names else names

    def rename_columns(self, batches: Iterator[pa.RecordBatch], names: dict[str, str]) -> Iterator[pa.RecordBatch]:
        """Yield the batches with the column names of the loop's rows."""
        for batch in batches:
            yield pa.RecordBatch.from_arrays([batch.column(old) for old in names.values()], list(names))

    def good_rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the good rows of a batch, and count the others."""
        values, empty, reasons = self.parse(batch.column(LABEL))
        parts = [self.part_texts(batch, part) for part in self.parts]
        no_part = [as_mask(pc.or_kleene(pc.is_null(texts), pc.equal(texts, ""))) for texts in parts]
        has_no_key = np.logical_or.reduce(no_part)
        is_good = ~empty
        for reason, bad in ((NO_KEY, has_no_key), *reasons.items()):
            self.delivery.bad[reason] += int((bad & is_good).sum())
            is_good &= ~bad
        if self.loop.classifies and self.classes is None:
            is_no_class = is_good & ~np.isin(values, (0.0, 1.0))
            self.delivery.bad[NO_CLASS] += int(is_no_class.sum())
            is_good &= ~is_no_class
        self.delivery.delivered += batch.num_rows
        self.delivery.empty += int(empty.sum())
        keys = self.join_parts([texts.filter(pa.array(is_good)) for texts in parts])
        labels = pa.array(values[is_good], self.schema.field("label").type)
        return pa.RecordBatch.from_arrays([keys, labels], schema=self.schema)

    def parse(self, column: pa.Array) -> tuple[npt.NDArray[Any], Mask, dict[str, Mask]]:
        """Return labels, a mask of those that are null, and a mask of bad ones by reason; shape (n_rows,) each."""
        if self.classes is not None:
            return parse_classes(column, self.nulls, self.classes)
        label, reasons = parse_labels(column, self.nulls, self.form)
        empty = as_mask(pc.is_null(label)) & ~reasons[NO_NUMBER]
        values = label.to_numpy(zero_copy_only=False)
        reasons[NOT_FINITE] = ~empty & ~reasons[NO_NUMBER] & ~np.isfinite(values)
        return values, empty, reasons

    def part_texts(self, batch: pa.RecordBatch, part: KeyPart) -> pa.Array:
        """Return a column of the key as the texts that snapshots would have, unmasked."""
        texts = without_nulls(batch.column(part.name), self.nulls)
        return format_keys(texts, part.kind, time_format=part.time_format, clock=part.clock, form=self.form)

    def subject_texts(self, batch: pa.RecordBatch, name: str) -> pa.Array | None:
        """Return a column of the key in the one text of each value; None of any other column."""
        part = next((part for part in self.parts if part.name == name), None)
        return None if part is None else self.part_texts(batch, part)

    def join_parts(self, parts: list[pa.Array]) -> pa.Array:
        """Return the keys as snapshots have them from the texts of their parts."""
        masked = [
            mask_column(texts, mask_key(self.workspace.secret, part.name)) if part.mask else texts
            for part, texts in zip(self.parts, parts, strict=True)
        ]
        return join_key_columns(masked) if len(masked) > 1 else masked[0]

    def merge_keys(self, rows: pa.Table) -> pa.Table:
        """Return one row for each key; keys with several labels are dropped, and repeated rows are counted."""
        grouped = rows.group_by("key").aggregate([("label", "min"), ("label", "max"), ("label", "count")])
        has_one_label = pc.equal(grouped["label_min"], grouped["label_max"])
        conflicting = grouped.filter(pc.invert(has_one_label))["label_count"]
        self.delivery.bad[TWO_LABELS] += int(pc.sum(conflicting).as_py() or 0)
        merged = grouped.filter(has_one_label)
        self.delivery.duplicates += int(pc.sum(merged["label_count"]).as_py() or 0) - merged.num_rows
        labels = pa.table([merged["key"], merged["label_min"]], SCHEMA.names).cast(self.schema)
        return labels.sort_by("key").combine_chunks()


@dataclass(frozen=True)
class KeyPart:
    """A column of the key in the loop's rows: its type, None if it is not known yet, and its form in the contract."""

    name: str
    kind: pa.DataType | None
    time_format: str | None = None
    clock: str | None = None
    mask: bool = False


def key_part(workspace: Workspace, state: LoopState, name: str) -> KeyPart:
    """Return a column of the key as the contract declares it; without one, as the newest partition has it."""
    if workspace.contract is not None:
        column = workspace.contract.columns[name]
        return KeyPart(name, column.source_type, column.format, column.clock, column.mask)
    newest = state.published.newest()
    return KeyPart(name, None if newest is None else parse_type(str(state.published[newest].columns.get(name, ""))))


def without_nulls(column: pa.Array, nulls: tuple[str, ...]) -> pa.Array:
    """Return a column of text with null for the texts that mean null."""
    if not pa.types.is_string(column.type):
        return column
    means_null = pc.is_in(column, value_set=pa.array(nulls, pa.string()))
    return pc.if_else(means_null, pa.scalar(None, pa.string()), column)


def format_keys(
    column: pa.Array,
    kind: pa.DataType | None,
    *,
    time_format: str | None = None,
    clock: str | None = None,
    form: TextForm = _PLAIN,
) -> pa.Array:
    """Return keys as the text by which rows are joined; null if a key cannot be parsed as ``kind``.

    >>> format_keys(pa.array(["007", "8"]), pa.int64()).to_pylist()
    ['7', '8']
    >>> format_keys(pa.array([7.0]), pa.int64()).to_pylist()
            ['7']
    """
    present_type = canonical_type(column.type)
    if kind is not None and present_type is not None and present_type != kind:
        if pa.types.is_string(present_type):
            column = parse_keys(column.cast(pa.string()), kind, time_format, clock, form)
        elif clock is not None and pa.types.is_timestamp(present_type) and present_type.tz is None:
            column = moments_of_clocks(column.cast(pa.timestamp("us"), safe=False), clock)[0]
        elif pa.types.is_floating(present_type) and pa.types.is_integer(kind):
            # pandas turns integers with a missing value into floats.
            is_whole = pc.equal(pc.floor(column), column)
            column = pc.if_else(is_whole, column, None).cast(kind)
    return format_column(column)


def parse_keys(
    column: pa.Array, kind: pa.DataType, time_format: str | None, clock: str | None, form: TextForm
) -> pa.Array:
    """Return keys in text as values, null for what is none: in the form of the rows, or in the plain form."""
    plain = parse_column(column, kind, clock=clock, form=form)[0]
    if time_format is None:
        return plain
    return pc.coalesce(parse_column(column, kind, time_format=time_format, clock=clock, form=form)[0], plain)


def parse_labels(column: pa.Array, nulls: tuple[str, ...], form: TextForm = _PLAIN) -> tuple[pa.Array, dict[str, Mask]]:
    """Return labels as floats, and a mask of texts that are no number in a written form; shape (n_rows,) each."""
    none_bad = np.zeros(len(column), bool)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.float64()), {NO_NUMBER: none_bad}
    if not pa.types.is_string(column.type):
        return column.cast(pa.float64(), safe=False), {NO_NUMBER: none_bad}
    text = without_nulls(column, nulls)
    lower = pc.utf8_lower(text)
    is_true, is_false = (
        pc.is_in(lower, value_set=pa.array([word.lower() for word in words])) for words in (form.true, form.false)
    )
    number_text = pc.if_else(is_true, "1", pc.if_else(is_false, "0", text))
    values, bad = parse_column(number_text, pa.float64(), form=form)
    return values, {NO_NUMBER: bad}


def parse_classes(
    column: pa.Array, nulls: tuple[str, ...], classes: tuple[str, ...]
) -> tuple[npt.NDArray[Any], Mask, dict[str, Mask]]:
    """Return the names of classes, a mask of nulls, and a mask of what is none of the classes; shape (n_rows,) each."""
    values = without_nulls(decoded(column), nulls).to_pylist()
    names = np.array([None if value is None else class_text(value) for value in values], dtype=object)
    empty = np.array([name is None for name in names], bool)
    return names, empty, {NOT_DECLARED: ~empty & ~np.isin(names, np.array(classes, dtype=object))}


def decoded(column: pa.Array) -> pa.Array:
    """Return a column without a dictionary, and any text as plain text."""
    kind = canonical_type(column.type)
    return column.cast(kind) if kind is not None and pa.types.is_string(kind) else column


def is_class(kind: pa.DataType) -> bool:
    """Return whether values of a type can be declared classes: text, integers, whole floats, or only nulls."""
    stored = canonical_type(kind)
    if stored is None:
        return bool(pa.types.is_null(kind))
    return bool(pa.types.is_string(stored) or pa.types.is_integer(stored) or pa.types.is_floating(stored))


def is_number(kind: pa.DataType) -> bool:
    """Return whether values of a type can be labels: numbers, booleans, or only nulls."""
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def as_mask(values: pa.Array) -> Mask:
    """Return booleans as an array, null as true."""
    return np.asarray(pc.fill_null(values, True).to_numpy(zero_copy_only=False), bool)
