"""The column types of Delta tables, and batches converted to them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

ROW_GROUP = 262_144


def conform_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns of ``schema``; columns that were added to the table after it are null."""
    return pa.RecordBatch.from_arrays(
        [
            batch.column(field.name).cast(field.type)
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def iter_row_groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Yield the rows of a reader in tables of about ``ROW_GROUP`` rows."""
    batches: list[pa.RecordBatch] = []
    for batch in reader:
        batches.append(batch)
        if sum(batch.num_rows for batch in batches) >= ROW_GROUP:
            yield pa.Table.from_batches(batches)
            batches = []
    if batches:
        yield pa.Table.from_batches(batches)


SIGNED_TYPES = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}


def delta_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column in a Delta table, which has no unsigned integers, one type of text and one zone.

    Without this, delta-rs maps an unsigned column to the signed type of the same width, and refuses the value 200 in
    a column of bytes.
    """
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return SIGNED_TYPES.get(kind, plain_type(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return ``string`` for every encoding of text, and other types unchanged."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    return pa.string() if pa.types.is_string_view(kind) or pa.types.is_large_string(kind) else kind
