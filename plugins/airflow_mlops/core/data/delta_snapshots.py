"""Versioned partitions as a Delta table on local disk.

Replacing a partition is one atomic commit; every earlier version stays readable, which is how a
training window is pinned. Nothing of this may run before a worker forks: see the ADR on forks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from airflow_mlops.core.errors import DataError

PARTITION = "partition"
ATTEMPTS = 6


class DeltaPartitions:
    """A Delta table at ``folder``, made on first write. See :class:`PartitionedTable`."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def write(self, partition: str, rows: pa.Table) -> int:
        """Replace a partition with ``rows`` and return the new version of the table."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                stamped = signed(rows).append_column(PARTITION, pa.array([partition] * rows.num_rows, pa.string()))
                return self._write_once(partition, stamped)
            except CommitFailedError as error:
                # Somebody committed another partition at the same moment; ours is still to be made.
                if attempt == ATTEMPTS:
                    raise DataError(f"{self._folder}: no commit in {ATTEMPTS} attempts: {error}") from error
                time.sleep(0.05 * 2**attempt)
            except OSError:
                raise  # a full disk says nothing about the rows
            except Exception as error:  # the library raises a bare Exception for some types
                raise DataError(f"{self._folder}: partition {partition} cannot be written: {error}") from error
        raise AssertionError("unreachable")

    def _write_once(self, partition: str, stamped: pa.Table) -> int:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        folder = str(self._folder)
        if DeltaTable.is_deltatable(folder):
            write_deltalake(folder, stamped, mode="overwrite", predicate=f"{PARTITION} = '{partition}'")
        else:
            write_deltalake(folder, stamped, mode="append", partition_by=[PARTITION])
        return int(DeltaTable(str(self._folder)).version())

    def read(self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a partition; see :meth:`PartitionedTable.read`."""
        try:
            table = DeltaTable(str(self._folder), version=version)
            rows = table.to_pyarrow_table(
                filters=[(PARTITION, "=", partition)], columns=list(columns) if columns else None
            )
        except (TableNotFoundError, DeltaError, OverflowError, pa.ArrowInvalid) as error:
            raise DataError(f"{self._folder} cannot be read in version {version}: {error}") from error
        if rows.num_rows == 0:
            raise DataError(f"{self._folder} holds no partition {partition} in version {version}")
        return plain_text(rows.drop_columns([PARTITION]) if PARTITION in rows.column_names else rows)


SIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}


def signed(table: pa.Table) -> pa.Table:
    """Return ``table`` with unsigned integers as signed ones that hold them: Delta has no others.

    Left alone, it would make a signed column of the same width, and refuse the first 200 in a column of bytes.
    """
    fields = [field.with_type(SIGNED.get(field.type, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def plain_text(table: pa.Table) -> pa.Table:
    """Return ``table`` with every column of text as plain strings, whatever the engine made of it."""
    fields = [
        field.with_type(pa.string())
        if pa.types.is_string_view(field.type) or pa.types.is_large_string(field.type)
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
