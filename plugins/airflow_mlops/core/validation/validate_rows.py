"""Validate rows that belong to no loop: of a file, or of a data frame that somebody has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceMissingError, SourceUnreadableError
from airflow_mlops.core.validation.port import Validator
from airflow_mlops.core.validation.severities import Routed, route, told
from airflow_mlops.core.validation.suite import (
    Expectation,
    ExpectationResult,
    Suite,
    columns_of,
    read_suite,
)


@dataclass(frozen=True)
class Findings:
    """What a validation says, as its report tells it."""

    subject: str
    rows: int | None
    results: tuple[ExpectationResult, ...]

    @property
    def routed(self) -> Routed:
        """What failed, by what follows from it."""
        return route(self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values: what was validated, how much, and what failed by severity."""
        failed = self.routed.to_dict()
        return {"subject": self.subject, "rows": self.rows, "expectations": len(self.results), **failed}


def require_critical(findings: Findings) -> None:
    """Raise :class:`PartitionRefusedError` where a critical expectation failed: column, limit, number, all of them."""
    critical = findings.routed.critical
    if critical:
        of = "" if findings.rows is None else f" of {findings.rows:,} rows"
        raise PartitionRefusedError(
            f"{findings.subject}: {len(critical)} of {len(findings.results)} expectations failed{of}: {told(critical)}"
        )


def expectations_in(declared: str | Path | Iterable[Any], root: Path) -> list[Expectation]:
    """Return expectations given as the path of a suite, or as a list of mappings with ``type`` and ``kwargs``.

    Raises
    ------
    DeclarationError
        If one of them is not well formed, or there is none: nothing would be validated.
    """
    if isinstance(declared, str | Path):
        found = read_suite(root / declared)
    else:
        try:
            found = list(Suite.model_validate({"expectations": list(declared)}).expectations)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise DeclarationError(fault["msg"], key=where) from None
    if not found:
        raise DeclarationError("the suite holds no expectation; nothing would be validated", key="expectations")
    return found


def validate_rows(subject: str, rows: pa.Table, expectations: Sequence[Expectation], validator: Validator) -> Findings:
    """Return what the expectations say of rows; nothing is raised for failed data."""
    return Findings(subject, rows.num_rows, tuple(validator.check(rows, expectations)))


def table_of(rows: Any) -> pa.Table:
    """Return an Arrow table, a pandas frame or a path's rows as an Arrow table.

    Raises
    ------
    SourceUnreadableError
        If it is nothing of that kind.
    """
    import pandas as pd

    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pd.DataFrame):
        try:
            return pa.Table.from_pandas(rows, preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise SourceUnreadableError(f"the data frame holds mixed values: {error}") from error
    raise SourceUnreadableError(
        f"rows must be the path of a file, a pandas data frame or an Arrow table, not {type(rows).__name__}"
    )


def read_file(path: Path, expectations: Sequence[Expectation]) -> pa.Table:
    """Return the rows of a Parquet or CSV file, those columns only that the expectations read.

    A CSV file carries no types: they are told from its values, and an empty field is null.

    Raises
    ------
    SourceMissingError, SourceUnreadableError
        If the file is not there, or is not what its name says.
    PartitionRefusedError
        If it has no column that an expectation reads, or more rows than a partition may hold by default.
    """
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    if not path.exists():
        raise SourceMissingError(f"{path} is not there")
    asked = columns_of(expectations)
    try:
        if ".csv" in path.suffixes:
            read = pc.read_csv(path, convert_options=pc.ConvertOptions(null_values=[""], strings_can_be_null=True))
            return read.select(_held(path, read.column_names, asked))
        footer = pq.ParquetFile(path)
        if asked == [] and footer.schema_arrow.names:
            asked = footer.schema_arrow.names[:1]  # without any column, an expectation still counts the rows
        held = _held(path, footer.schema_arrow.names, asked)
        _refuse_huge(path, footer.metadata.num_rows, len(held))
        return footer.read(columns=held)
    except (pa.ArrowException, OSError) as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error}") from error


def _refuse_huge(path: Path, rows: int, columns: int) -> None:
    """Refuse a file from its footer: a small one may hold hundreds of millions of rows."""
    limits = Limits()
    if rows > limits.rows or rows * columns > limits.cells:
        raise PartitionRefusedError(
            f"{path} holds {rows:,} rows, {columns} columns of them to be read; the limits are {limits.rows:,} rows "
            f"and {limits.cells:,} cells; validate it in the database it came from, or a part at a time"
        )


def _held(path: Path, names: list[str], asked: list[str] | None) -> list[str]:
    missing = sorted(set(asked or ()) - set(names))
    if missing:
        raise PartitionRefusedError(
            f"{path} has no column {missing[0]!r}, so it could not be evaluated; it has {', '.join(names)}"
        )
    return names if asked is None else [name for name in names if name in asked]
