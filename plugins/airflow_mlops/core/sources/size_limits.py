"""Count the rows, cells and bytes of a partition against its declared limits."""

from __future__ import annotations

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import PartitionRefusedError

ADVICE = "raise the limit in the declaration if that is meant, or deliver smaller partitions"


class Meter:
    """Counter of the rows, cells and bytes of one partition, which raises at the first limit that is exceeded.

    It counts while the rows arrive, or ahead of them from a footer.

    Parameters
    ----------
    limits : Limits
        Limits of the declaration.
    partition : str
        Key of the partition, for the error.
    """

    def __init__(self, limits: Limits, partition: str) -> None:
        self._limits, self._partition = limits, partition
        self.rows = self.cells = self.bytes = 0

    def add_rows(self, rows: int, columns: int, where: str) -> None:
        """Add rows of a number of columns, read from ``where``.

        Raises
        ------
        PartitionRefusedError
            If the partition has more rows, or more rows times columns, than declared.
        """
        self.add(rows, rows * columns, where)

    def add(self, rows: int, cells: int, where: str) -> None:
        """Add rows and cells, read from ``where``.

        Raises
        ------
        PartitionRefusedError
            If the partition has more of them than declared.
        """
        self.rows += rows
        self.cells += cells
        if self.rows > self._limits.rows:
            self._refuse(where, "rows", self.rows, self._limits.rows)
        if self.cells > self._limits.cells:
            self._refuse(where, "cells", self.cells, self._limits.cells)

    def add_bytes(self, count: int, where: str) -> None:
        """Add decompressed bytes, read from ``where``.

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
