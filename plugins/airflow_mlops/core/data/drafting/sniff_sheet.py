"""Guess where the header of a sheet is: the first of its rows that has a value in the most columns."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

from airflow_mlops.core.errors import SourceMissingError, SourceUnreadableError
from airflow_mlops.core.sources.xlsx_rows import SheetForm, require_calamine

SAMPLE_ROWS = 50


def sniff_sheet(file: Path, sheet: str | None = None) -> SheetForm:
    """Return the guessed layout of a sheet.

    Parameters
    ----------
    file : Path
        The workbook.
    sheet : str, optional
        Name of the sheet; the first one if not given.

    Raises
    ------
    DeclarationError
        If python-calamine is not installed.
    SourceMissingError, SourceUnreadableError
        If the file is not there, or cannot be read. What is wrong inside a workbook is for its source to say.
    """
    require_calamine()
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(file.read_bytes()))
        opened = workbook.get_sheet_by_index(0) if sheet is None else workbook.get_sheet_by_name(sheet)
        rows = list(islice(opened.iter_rows(), SAMPLE_ROWS))
    except FileNotFoundError as error:
        raise SourceMissingError(f"{file} is not there") from error
    except OSError as error:
        raise SourceUnreadableError(f"{file} cannot be read: {error.strerror}") from error
    except CalamineError:
        return SheetForm(sheet)
    counts = [sum(cell != "" for cell in cells) for cells in rows]
    header = counts.index(max(counts)) if counts else 0
    return SheetForm(sheet, skip_rows=header if any(counts[:header]) else 0)
