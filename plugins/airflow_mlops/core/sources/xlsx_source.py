"""A source of Excel workbooks: one or several for each partition, or some that hold the rows of all partitions."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.ports.partitions import Arrival, BrokenRow
from airflow_mlops.core.sources.csv_source import require_same_columns
from airflow_mlops.core.sources.file_source import FileSource
from airflow_mlops.core.sources.partition_files import PartitionFile, are_unchanged
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.time_cut import (
    ALWAYS,
    Interval,
    TimeColumn,
    TimedRows,
    TimePlacer,
    missing_rows,
    newest_moment,
)
from airflow_mlops.core.sources.xlsx_rows import Sheet, SheetForm, SheetRows, require_calamine


class XlsxFiles(FileSource):
    """Sheets of Excel workbooks; every cell arrives as text, from which the contract reads its types.

    Parameters
    ----------
    template : str
        Path of the workbooks.
    form : SheetForm, optional
        How the sheets are laid out.
    **options
        As of :class:`airflow_mlops.core.sources.file_source.FileSource`; bytes are those of the whole workbook.

    Raises
    ------
    DeclarationError
        If python-calamine is not installed.
    """

    def __init__(self, template: str, *, form: SheetForm | None = None, **options: Any) -> None:
        require_calamine()
        super().__init__(template, **options)
        self._form = form or SheetForm()

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files = self._files.find(partition)
        if are_unchanged(files, known):
            yield Arrival(pa.schema([]), iter(()), typed=False, origin=dict(known or {}), unchanged=True)
            return
        origin = {"files": [file.origin() for file in files], **self._origin(partition)}
        meter, broken = Meter(self._limits, partition), list[BrokenRow]()
        first_sheet = self._sheet(files[0], partition, meter)
        schema = pa.schema([pa.field(name, pa.string()) for name in first_sheet.names])
        with closing(self._batches(files, first_sheet, partition, meter, broken)) as batches:
            first = next(batches, None)
            if first is None and not broken:
                self._require_rows(files, partition)
            rows = chain([first] if first is not None else [], batches)
            yield Arrival(schema, rows, typed=False, origin=origin, broken=broken)

    def _origin(self, partition: str) -> dict[str, Any]:  # noqa: ARG002
        """Return the entries of an origin beside its files."""
        return {}

    def _require_rows(self, files: Sequence[PartitionFile], partition: str) -> None:
        """Accept a partition without rows: its file is there."""

    def _parts(self, sheet: Sheet, file: PartitionFile, partition: str) -> Iterator[TimedRows]:  # noqa: ARG002
        """Yield the rows of a sheet that are in the partition."""
        for rows in sheet.batches():
            yield TimedRows(rows.batch, np.array([], "datetime64[us]"), tuple(row for row, _ in rows.broken))

    def _sheet(self, file: PartitionFile, partition: str, meter: Meter) -> Sheet:
        try:
            with self._files.filesystem.open_input_stream(file.path, compression=None) as stream:
                content = stream.read()
        except (OSError, pa.ArrowException) as error:
            raise self._files.translate_error(error, partition, file.name) from error
        return Sheet(content, name=file.name, partition=partition, form=self._form, meter=meter)

    def _batches(
        self,
        files: Sequence[PartitionFile],
        first: Sheet,
        partition: str,
        meter: Meter,
        broken: list[BrokenRow],
    ) -> Generator[pa.RecordBatch]:
        """Yield the rows of a partition, and add its broken rows to ``broken``."""
        for file in files:
            sheet = first if file is files[0] else self._sheet(file, partition, meter)
            require_same_columns(sheet.names, first.names, f"partition {partition}: {file.name}", files[0].name)
            for part in self._parts(sheet, file, partition):
                broken.extend(part.broken)
                meter.add_rows(part.batch.num_rows + len(part.broken), len(first.names), file.name)
                if part.batch.num_rows:
                    yield part.batch if sheet.names == first.names else part.batch.select(first.names)


class XlsxTable(XlsxFiles):
    """Workbooks without a placeholder in their name; see :mod:`airflow_mlops.core.sources.time_cut`.

    Parameters
    ----------
    template : str
        Path of one workbook, or of several with a ``*``.
    time : TimeColumn
        The column that assigns rows to partitions.
    **options
        As for :class:`XlsxFiles`; rows and cells are those of the partition.
    """

    def __init__(self, template: str, *, time: TimeColumn, **options: Any) -> None:
        super().__init__(template, **options)
        self._time = time

    def newest(self, partition: str) -> np.datetime64:
        """Return the newest time of a row, NaT without one; ``partition`` is named in errors."""
        files = self._files.find(partition)
        sheets = ((file, self._sheet(file, partition, Meter(self._limits, partition))) for file in files)
        return newest_moment(
            timed.moments for file, sheet in sheets for timed in self._timed_rows(sheet, file, partition, ALWAYS)
        )

    def _origin(self, partition: str) -> dict[str, Any]:
        return dict(self._time.interval(partition).origin())

    def _require_rows(self, files: Sequence[PartitionFile], partition: str) -> None:
        raise missing_rows(partition, [file.name for file in files], self._time.interval(partition))

    def _parts(self, sheet: Sheet, file: PartitionFile, partition: str) -> Iterator[TimedRows]:
        yield from self._timed_rows(sheet, file, partition, self._time.interval(partition))

    def _timed_rows(self, sheet: Sheet, file: PartitionFile, partition: str, interval: Interval) -> Iterator[TimedRows]:
        """Yield the rows of an interval with their times; a broken row lies where the row before it does."""
        where = f"partition {partition}: {file.name}"
        position, placer = self._time.position(sheet.names, where), TimePlacer(self._time.name, where)
        for rows in sheet.batches():
            for timed in self._place(placer, rows, position):
                yield timed.within(interval)
        placer.end()

    def _place(self, placer: TimePlacer, rows: SheetRows, position: int) -> Iterator[TimedRows]:
        moments = self._time.times.moments(rows.batch.column(position), typed=False)
        return placer.place(rows.batch, moments, lines=rows.numbers, broken=rows.broken)
