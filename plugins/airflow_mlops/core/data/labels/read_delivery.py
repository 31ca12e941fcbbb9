"""Read a delivery of labels: one number for each key, and what is wrong with the rest of it.

A row is left out, and counted by its reason, that has no key, no number, or another number than an earlier row of the
same key: of two labels nobody knows which is meant. Beyond ``data.tolerance`` the whole delivery is refused.
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
from airflow_mlops.core.data.labels.open_labels import declared_labels, open_labels
from airflow_mlops.core.data.masking import mask_column, mask_key
from airflow_mlops.core.data.read_text import format_column, parse_column
from airflow_mlops.core.declaration.arrow_types import canonical_type, parse_type
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ports.partitions import Arrival
from airflow_mlops.core.workspace import Workspace

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("label", pa.float64())])

NO_KEY = "no key"
NO_NUMBER = "no number"
NOT_FINITE = "NaN or infinite"
NO_CLASS = "neither 0 nor 1"
TWO_LABELS = "two labels for one key"
BROKEN = "broken line"
LABEL = "__label__"

Mask = npt.NDArray[np.bool_]


@dataclass
class Delivery:
    """A delivery as it may be kept.

    Parameters
    ----------
    rows : pyarrow.Table
        Key, as text and masked where the contract says so, and label; one row for each key.
    delivered, empty, duplicates : int
        Rows that came, those without a label, and those that said the same again.
    bad : Counter
        Rows that were left out, by reason.
    erased : int
        Rows of subjects that are forgotten.
    names_subject : bool
        Whether it says of each row whose it is.
    origin : dict
        Where they came from.
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
        """The reasons, each with how many rows it is about."""
        return ", ".join(f"{reason}: {rows:,}" for reason, rows in sorted(self.bad.items()) if rows)


def read_delivery(workspace: Workspace, state: LoopState, tick: str) -> Delivery:
    """Return the labels of a tick's delivery.

    Raises
    ------
    SourceMissingError
        If nothing has come yet.
    DataError
        If what came cannot be read.
    PartitionRefusedError
        If a column is missing or of a type that is no number, or too many rows are bad.
    """
    reading = _Reading(workspace, state)
    with open_labels(workspace).open(tick) as arrival:
        named = reading.named(arrival.batches, reading.columns_of(arrival))
        parts = [reading.labels_in(batch, arrival) for batch in reading.erasure.rest(named)]
        found = reading.found
        found.bad[BROKEN] += len(arrival.broken)
        found.delivered += len(arrival.broken)
        found.origin, found.erased = arrival.origin, reading.erasure.rows
    found.rows = reading.one_for_each_key(pa.Table.from_batches(parts, SCHEMA))
    bad = sum(found.bad.values())
    if bad > workspace.loop.data.tolerance * found.delivered:
        raise PartitionRefusedError(
            f"labels of {tick}: {bad:,} of {found.delivered:,} rows are bad ({found.bad_in_words}); "
            f"data.tolerance allows {workspace.loop.data.tolerance:.1%}"
        )
    return found


class _Reading:
    def __init__(self, workspace: Workspace, state: LoopState) -> None:
        self.workspace, self.loop, self.declared = workspace, workspace.loop, declared_labels(workspace.loop)
        self.found, self.erasure = Delivery(), Erasure(workspace, state)
        self.key = self.declared.key or self.loop.data.key
        self.label = self.declared.label or self.loop.data.label
        self.kind = key_type(workspace, state)
        contract = workspace.contract
        self.nulls = contract.nulls if contract else ("",)
        self.mask = contract is not None and contract.columns[self.loop.data.key].mask

    def columns_of(self, arrival: Arrival) -> dict[str, str]:
        """Return the columns that are read, by the names they get: the key's becomes that of the rows.

        Raises
        ------
        PartitionRefusedError
        """
        there = arrival.schema.names
        for role, name in (("key", self.key), ("label", self.label)):
            if there.count(name) != 1:
                times = "is missing" if name not in there else f"stands there {there.count(name)} times"
                raise PartitionRefusedError(
                    f"labels: column {name!r}, the declared {role} of data.labels, {times}; there are "
                    f"{', '.join(there)}"
                )
        kind = arrival.schema.field(self.label).type
        if arrival.typed and not is_number(kind):
            raise PartitionRefusedError(f"labels: column {self.label!r} has the type {kind}; a label is a number")
        names = {self.loop.data.key: self.key, LABEL: self.label}
        # The subject of a row, if it comes along: the labels of those who are forgotten stay out.
        subject = subject_column(self.workspace)
        self.found.names_subject = subject in names or subject in there
        return {subject: subject, **names} if subject in there and subject not in names else names

    def named(self, batches: Iterator[pa.RecordBatch], names: dict[str, str]) -> Iterator[pa.RecordBatch]:
        """Yield the batches with the names that the rows of the loop have."""
        for batch in batches:
            yield pa.RecordBatch.from_arrays([batch.column(old) for old in names.values()], list(names))

    def labels_in(self, batch: pa.RecordBatch, arrival: Arrival) -> pa.RecordBatch:
        """Return the good rows of a batch, counting the others."""
        label, reasons = numbers(batch.column(LABEL), self.nulls if not arrival.typed else ())
        keys = key_texts(batch.column(self.loop.data.key), self.kind)
        nameless = as_mask(pc.or_kleene(pc.is_null(keys), pc.equal(keys, "")))
        empty = as_mask(pc.is_null(label)) & ~reasons[NO_NUMBER]
        values = label.to_numpy(zero_copy_only=False)
        reasons[NOT_FINITE] = ~empty & ~reasons[NO_NUMBER] & ~np.isfinite(values)
        left = ~empty
        for reason, bad in ((NO_KEY, nameless), *reasons.items()):
            self.found.bad[reason] += int((bad & left).sum())
            left &= ~bad
        if self.loop.classifies:
            strange = left & ~np.isin(values, (0.0, 1.0))
            self.found.bad[NO_CLASS] += int(strange.sum())
            left &= ~strange
        self.found.delivered += batch.num_rows
        self.found.empty += int(empty.sum())
        keys = keys.filter(pa.array(left))
        if self.mask:
            keys = mask_column(keys, mask_key(self.workspace.secret, self.loop.data.key))
        return pa.RecordBatch.from_arrays([keys, pa.array(values[left])], schema=SCHEMA)

    def one_for_each_key(self, rows: pa.Table) -> pa.Table:
        """Return one row for each key; keys with several labels are left out, and what stands there twice counted."""
        grouped = rows.group_by("key").aggregate([("label", "min"), ("label", "max"), ("label", "count")])
        same = pc.equal(grouped["label_min"], grouped["label_max"])
        conflicting = grouped.filter(pc.invert(same))["label_count"]
        self.found.bad[TWO_LABELS] += int(pc.sum(conflicting).as_py() or 0)
        kept = grouped.filter(same)
        self.found.duplicates += int(pc.sum(kept["label_count"]).as_py() or 0) - kept.num_rows
        found = pa.table([kept["key"], kept["label_min"]], SCHEMA.names).cast(SCHEMA)
        return found.sort_by("key").combine_chunks()


def key_type(workspace: Workspace, state: LoopState) -> pa.DataType | None:
    """Return the type that the key of rows is read as; None where nothing is known of it."""
    key, contract = workspace.loop.data.key, workspace.contract
    if contract is not None:
        return contract.columns[key].source_type
    newest = state.published.newest()
    return None if newest is None else parse_type(str(state.published[newest].columns.get(key, "")))


def key_texts(column: pa.Array, kind: pa.DataType | None) -> pa.Array:
    """Return keys as the text by which rows are joined; null where one cannot be read as the key of rows is.

    >>> key_texts(pa.array(["007", "8"]), pa.int64()).to_pylist(), key_texts(pa.array([7.0]), pa.int64()).to_pylist()
    (['7', '8'], ['7'])
    """
    found = canonical_type(column.type)
    if kind is not None and found is not None and found != kind:
        if pa.types.is_string(found):
            column = parse_column(column.cast(pa.string()), kind)[0]
        elif pa.types.is_floating(found) and pa.types.is_integer(kind):
            # As frames with a missing key have them.
            whole = pc.equal(pc.floor(column), column)
            column = pc.if_else(whole, column, None).cast(kind)
    return format_column(column)


def numbers(column: pa.Array, nulls: tuple[str, ...]) -> tuple[pa.Array, dict[str, Mask]]:
    """Return labels as floats, and where there is text that is no number, shape (n_rows,) each."""
    nowhere = np.zeros(len(column), bool)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.float64()), {NO_NUMBER: nowhere}
    if not pa.types.is_string(column.type):
        return column.cast(pa.float64(), safe=False), {NO_NUMBER: nowhere}
    absent = pc.is_in(column, value_set=pa.array(nulls, pa.string()))
    text = pc.if_else(absent, pa.scalar(None, pa.string()), column)
    truth = pc.utf8_lower(text)
    said = pc.if_else(pc.equal(truth, "true"), "1", pc.if_else(pc.equal(truth, "false"), "0", text))
    read, bad = parse_column(said, pa.float64())
    return read, {NO_NUMBER: bad}


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type can be labels: numbers, truth values, and nothing but nulls."""
    found = pa.types
    return bool(
        found.is_integer(kind) or found.is_floating(kind) or found.is_boolean(kind) or found.is_decimal(kind)
        or found.is_null(kind)
    )  # fmt: skip


def as_mask(values: pa.Array) -> Mask:
    """Return truth values as an array, null as true."""
    return np.asarray(pc.fill_null(values, True).to_numpy(zero_copy_only=False), bool)
