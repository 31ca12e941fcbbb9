"""Read the times of rows as the contract has them, to cut a table into partitions."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.read_text import moments_of_clocks, parse_column
from airflow_mlops.core.declaration.arrow_types import is_time
from airflow_mlops.core.declaration.contract import Column, read_contract
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.errors import PartitionRefusedError

NO_TIME = np.iinfo(np.int64).min  # NaT


class DeclaredTimes:
    """The times of rows as a loop declares them; see :class:`airflow_mlops.core.sources.time_cut.RowTimes`.

    Parameters
    ----------
    data : Data
        The declared time column, its contract if there is one, and the form of texts.
    root : Path
        Project folder that the path of the contract starts from.
    """

    def __init__(self, data: Data, root: Path) -> None:
        self._data, self._root = data, root

    @property
    def settings(self) -> str:
        """The form of texts, and the column in the contract."""
        column = self._column
        return (
            f"{self._data.text_form} {self._nulls} {self._data.timezone} {column.model_dump_json() if column else None}"
        )

    def moments(self, column: pa.Array, *, typed: bool) -> npt.NDArray[np.datetime64]:
        """Return the times of a column in microseconds, NaT where a value is null or no time.

        Raises
        ------
        PartitionRefusedError
            If the column has a type, and it is none of a date or time.
        """
        values = self._typed(column) if typed else self._parse(column)
        zone = "UTC" if pa.types.is_timestamp(values.type) and values.type.tz else None
        times = values.cast(pa.timestamp("us", tz=zone), safe=False)
        if zone is None and self._data.timezone != "UTC":
            # Of a local time that came twice the first instant, so that the row is in exactly one partition.
            times = pc.assume_timezone(times, self._data.timezone, ambiguous="earliest", nonexistent="earliest")
        numbers = times.cast(pa.int64())
        filled: npt.NDArray[np.int64] = pc.fill_null(numbers, NO_TIME).to_numpy(zero_copy_only=False)
        return filled.view("datetime64[us]")

    def _typed(self, column: pa.Array) -> pa.Array:
        if not is_time(column.type) and not pa.types.is_null(column.type):
            raise PartitionRefusedError(
                f"column {self._data.time!r}, the declared time, has the type {column.type}, and a source without "
                "{partition} is cut by it; deliver a date or a time"
            )
        clock = self._column.clock if self._column else None
        if clock is not None and pa.types.is_timestamp(column.type) and column.type.tz is None:
            return moments_of_clocks(column.cast(pa.timestamp("us"), safe=False), clock)[0]
        return column

    def _parse(self, column: pa.Array) -> pa.Array:
        if pa.types.is_null(column.type):
            return column
        means_null = pc.is_in(column, value_set=pa.array(self._nulls, column.type))
        column = pc.if_else(means_null, pa.scalar(None, column.type), column)
        declared = self._column
        if declared is None:  # a delivery of labels has no contract: clocks are taken for UTC, as the keys are
            return parse_column(column, pa.timestamp("us", tz="UTC"), clock="UTC")[0]
        form = self._data.text_form
        return parse_column(column, declared.source_type, form=form, time_format=declared.format, clock=declared.clock)[
            0
        ]

    @cached_property
    def _column(self) -> Column | None:
        if self._data.contract is None:
            return None
        return read_contract(self._root / self._data.contract).columns.get(self._data.time)

    @cached_property
    def _nulls(self) -> tuple[str, ...]:
        if self._data.text_form.nulls is not None:
            return self._data.text_form.nulls
        return read_contract(self._root / self._data.contract).nulls if self._data.contract else ("",)
