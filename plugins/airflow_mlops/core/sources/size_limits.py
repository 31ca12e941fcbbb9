"""Count what arrives against the declared limits, and refuse what is more."""

from __future__ import annotations

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import PartitionRefusedError

ADVICE = "raise the limit in the declaration if that is meant, or deliver smaller partitions"


class Meter:
    """Rows, cells and bytes of one partition, counted while they arrive or from a footer before they do.

    Parameters
    ----------
    limits : Limits
        What the partition may hold.
    partition : str
        Its key, for the error.
    """

    def __init__(self, limits: Limits, partition: str) -> None:
        self._limits, self._partition = limits, partition
        self.rows = self.cells = self.bytes = 0

    def add_rows(self, rows: int, columns: int, where: str) -> None:
        """Count rows of so many columns that stand in ``where``.

        Raises
        ------
        PartitionRefusedError
            If the partition has more rows, or more rows times columns, than declared.
        """
        self.rows += rows
        self.cells += rows * columns
        if self.rows > self._limits.rows:
            self._refuse(where, "rows", self.rows, self._limits.rows)
        if self.cells > self._limits.cells:
            self._refuse(where, "cells", self.cells, self._limits.cells)

    def add_bytes(self, count: int, where: str) -> None:
        """Count decompressed bytes that stand in ``where``.

        Raises
        ------
        PartitionRefusedError
            If the partition has more bytes than declared.
        """
        self.bytes += count
        if self.bytes > self._limits.bytes:
            self._refuse(where, "bytes", self.bytes, self._limits.bytes)

    def _refuse(self, where: str, unit: str, value: int, limit: int) -> None:
        raise PartitionRefusedError(
            f"partition {self._partition}: with {where} it has at least {value:,} {unit}, "
            f"and data.limits.{unit} is {limit:,}; {ADVICE}"
        )
