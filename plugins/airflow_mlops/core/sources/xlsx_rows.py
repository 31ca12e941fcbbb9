"""Read the rows of a sheet of an Excel workbook as texts, from which the contract reads its types."""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.errors import DeclarationError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, BrokenRow
from airflow_mlops.core.sources.size_limits import Meter


def require_calamine() -> None:
    """Raise DeclarationError, which names the extra to install, unless python-calamine is installed.

    Raises
    ------
    DeclarationError
        If it is not.
    """
    if importlib.util.find_spec("python_calamine") is None:
        raise DeclarationError(
            "kind xlsx needs python-calamine, which is not installed: pip install 'airflow-mlops[excel]'",
            key="data.source.kind",
        )


@dataclass(frozen=True)
class SheetForm:
    """How a sheet is laid out, and how its cells are written for the contract.

    Parameters
    ----------
    sheet : str, optional
        Name of the sheet; the first one if not given.
    skip_rows : int
        Rows above the header that are skipped.
    names : sequence of str, optional
        Names of the columns where no row of the sheet has them.
    types : mapping of str to pyarrow.DataType
        Types of the columns in the contract, by the names with which they arrive.
    formats : mapping of str to str
        Formats of dates and times in the contract.
    required : sequence of str
        Columns without whose value a row is broken: key and time.
    """

    sheet: str | None = None
    skip_rows: int = 0
    names: Sequence[str] | None = None
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    required: Sequence[str] = ()


@dataclass(frozen=True)
class SheetRows:
    """Some rows of a sheet, and the rows among them that are broken, each with its number."""

    batch: pa.RecordBatch
    numbers: np.ndarray[Any, np.dtype[np.int64]]
    broken: tuple[tuple[BrokenRow, int], ...]


class Sheet:
    """A sheet whose header has been read.

    Parameters
    ----------
    content : bytes
        The workbook.
    name : str
        Name of the file, for errors.
    partition : str
        Key of the partition, for errors.
    form : SheetForm
        How the sheet is laid out.
    meter : Meter
        Counts the decompressed bytes before they are read: a workbook is held in memory as a whole.

    Attributes
    ----------
    names : list of str
        Names of the columns.

    Raises
    ------
    SourceUnreadableError
        If the workbook, the sheet or its header cannot be read.
    """

    def __init__(self, content: bytes, *, name: str, partition: str, form: SheetForm, meter: Meter) -> None:
        self._name, self._partition, self._form = name, partition, form
        with self._translate_errors():
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                meter.add_bytes(sum(entry.file_size for entry in archive.infolist()), name)
            self._sheet = self._open(content)
        self._name = f"{name}, sheet {self._sheet.name!r}"
        self._first_column = self._sheet.start[1] if self._sheet.start else 0
        self._rows = enumerate(self._sheet.iter_rows(), 1)
        self._before = 0
        self.names = list(form.names) if form.names is not None else self._header()

    def batches(self) -> Iterator[SheetRows]:
        """Yield the rows behind the header, at most ``BATCH_ROWS`` at once; rows without any value are left out."""
        texts: list[list[str]] = []
        numbers: list[int] = []
        broken: list[tuple[BrokenRow, int]] = []
        for number, cells in self._data_rows():
            row = [self._text(name, cell) for name, cell in zip(self._names_of(cells), cells, strict=True)]
            outside, row = any(row[: self._before]), row[self._before :]
            row += [""] * (len(self.names) - len(row))
            reason = self._reason(row, outside=outside)
            if reason is not None:
                broken.append((BrokenRow(_csv_line(row), reason, f"{self._name}, row {number}"), number))
                continue
            texts.append(row[: len(self.names)])
            numbers.append(number)
            if len(texts) == BATCH_ROWS:
                yield self._pack(texts, numbers, broken)
                texts, numbers, broken = [], [], []
        yield self._pack(texts, numbers, broken)

    def _open(self, content: bytes) -> Any:
        from python_calamine import CalamineWorkbook

        workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
        sheet_name = self._form.sheet
        if sheet_name is None:
            return workbook.get_sheet_by_index(0)
        if sheet_name not in workbook.sheet_names:
            raise self._unreadable(f"there is no sheet {sheet_name!r}; there are {', '.join(workbook.sheet_names)}")
        return workbook.get_sheet_by_name(sheet_name)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        from python_calamine import CalamineError, PasswordError

        try:
            yield
        except PasswordError:
            raise self._unreadable("it is protected by a password; deliver it without one") from None
        except (CalamineError, zipfile.BadZipFile) as error:
            raise self._unreadable(f"it is no xlsx workbook: {error}") from error

    def _header(self) -> list[str]:
        """Return the names in the first row with a value below the skipped rows."""
        first = next(self._data_rows(), None)
        if first is None:
            raise self._unreadable("it is empty: there is not even a header")
        number, cells = first
        names = [self._text("", cell) for cell in cells]
        self._before = next(place for place, name in enumerate(names) if name)
        while not names[-1]:
            names.pop()
        merged = [
            f"{_cell(start)}:{_cell(end)}"
            for start, end in self._sheet.merged_cell_ranges or ()
            if start[0] <= number - 1 <= end[0]
        ]
        if merged:
            raise self._unreadable(
                f"the cells {', '.join(merged)} of its header are merged; split them and name each column, or skip the "
                "rows of titles with skip_rows"
            )
        empty = [
            _cell((number - 1, self._first_column + place))
            for place, name in enumerate(names)
            if place >= self._before and not name.strip()
        ]
        if empty:
            raise self._unreadable(
                f"the cells {', '.join(empty)} of its header are empty; name each column, or skip the rows above the "
                "header with skip_rows"
            )
        return names[self._before :]

    def _data_rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield the rows with a value and their numbers, from the place that was reached."""
        for number, cells in self._rows:
            if number > self._form.skip_rows and any(cell != "" for cell in cells):
                yield number, cells

    def _names_of(self, cells: Sequence[Any]) -> list[str]:
        """Return the names of the columns of some cells, empty for cells beside the columns."""
        names = [""] * self._before + self.names
        return [*names[: len(cells)], *[""] * (len(cells) - len(names))]

    def _reason(self, row: Sequence[str], *, outside: bool) -> str | None:
        """Return why a row is broken; None if it is not."""
        if outside or any(row[len(self.names) :]):
            return f"has a value beside the {len(self.names)} columns of the header"
        missing = [name for name in self._form.required if name in self.names and not row[self.names.index(name)]]
        return f"has no value in {' and '.join(map(repr, missing))}" if missing else None

    def _pack(self, texts: list[list[str]], numbers: list[int], broken: list[tuple[BrokenRow, int]]) -> SheetRows:
        columns = [pa.array(column, pa.string()) for column in zip(*texts, strict=True)] or [
            pa.array([], pa.string()) for _ in self.names
        ]
        batch = pa.RecordBatch.from_arrays(columns, names=self.names)
        return SheetRows(batch, np.array(numbers, np.int64), tuple(broken))

    def _text(self, name: str, cell: Any) -> str:
        """Return a cell as the contract reads its column."""
        if isinstance(cell, str):
            return cell
        if isinstance(cell, bool):
            return "true" if cell else "false"
        if isinstance(cell, int | float):
            return str(np.format_float_positional(cell, trim="-"))
        if isinstance(cell, date):
            return self._date_text(name, cell)
        return str(cell)

    def _date_text(self, name: str, cell: date) -> str:
        """Return a date or time in the format of the contract, or as its type is written."""
        kind, declared = self._form.types.get(name), self._form.formats.get(name)
        moment = cell if isinstance(cell, datetime) else datetime.combine(cell, time.min)
        if declared is not None:
            return moment.strftime(declared)
        if kind is not None and pa.types.is_timestamp(kind):
            return moment.isoformat(" ")
        if kind is not None and pa.types.is_date(kind) and moment.time() == time.min:
            return moment.date().isoformat()
        return moment.isoformat(" ") if isinstance(cell, datetime) else cell.isoformat()

    def _unreadable(self, reason: str) -> SourceUnreadableError:
        return SourceUnreadableError(f"partition {self._partition}: {self._name} cannot be read: {reason}")


def _csv_line(row: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(row)
    return line.getvalue()


def _cell(place: tuple[int, int]) -> str:
    """Return the name of a cell.

    >>> _cell((0, 0)), _cell((9, 27))
    ('A1', 'AB10')
    """
    row, column = place
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row + 1}"
