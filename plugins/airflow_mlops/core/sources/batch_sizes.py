"""Rows in batches of other sizes: the same rows, in the same order."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def fill_batches(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of ``size`` rows, the last of the rest.

    >>> rows = pa.RecordBatch.from_pydict({"x": [1, 2, 3]})
    >>> [batch.num_rows for batch in fill_batches(iter([rows, rows]), 4)]
    [4, 2]
    """
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        start = 0
        while count + batch.num_rows - start >= size:
            held.append(batch.slice(start, size - count))
            start += size - count
            yield pa.concat_batches(held)
            held, count = [], 0
        if start < batch.num_rows:
            held.append(batch.slice(start))
            count += batch.num_rows - start
    if held:
        yield pa.concat_batches(held)


def take_rows(batches: Iterator[pa.RecordBatch], first: int, count: int) -> Iterator[pa.RecordBatch]:
    """Yield ``count`` rows from row ``first`` on, and read no batch behind them.

    >>> rows = pa.RecordBatch.from_pydict({"x": [1, 2, 3]})
    >>> [batch.column("x").to_pylist() for batch in take_rows(iter([rows, rows]), 2, 3)]
    [[3], [1, 2]]
    """
    for batch in batches:
        part = batch.slice(first, count)
        first -= min(first, batch.num_rows)
        count -= part.num_rows
        if part.num_rows:
            yield part
        if count <= 0:
            return
