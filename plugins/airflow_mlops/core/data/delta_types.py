"""The types in which Delta keeps columns, and rows brought to them batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

ROW_GROUP = 262_144


def with_schema(batch: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns of ``wanted``; those that came later than it are null."""
    return pa.RecordBatch.from_arrays(
        [
            batch.column(field.name).cast(field.type)
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, field.type)
            for field in wanted
        ],
        schema=wanted,
    )


def in_row_groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Yield the rows of a reader in tables of about ``ROW_GROUP`` rows."""
    held: list[pa.RecordBatch] = []
    for batch in reader:
        held.append(batch)
        if sum(one.num_rows for one in held) >= ROW_GROUP:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


SIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}


def kept_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which Delta keeps a column: it has no unsigned integers, one kind of text, one zone.

    Left alone, it would make a signed column of the same width, and refuse the first 200 in a column of bytes.
    """
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return SIGNED.get(kind, plain_type(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return ``string`` for every way to hold text, and other types as they are."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    return pa.string() if pa.types.is_string_view(kind) or pa.types.is_large_string(kind) else kind
