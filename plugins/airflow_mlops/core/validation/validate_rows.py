"""Validate rows outside of any loop: those of a file or of a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceMissingError, SourceUnreadableError
from airflow_mlops.core.validation.severities import RoutedFailures, route_failures, summarise_results
from airflow_mlops.core.validation.suite import (
    Expectation,
    ExpectationResult,
    Suite,
    Validator,
    columns_read,
    read_suite,
)


@dataclass(frozen=True)
class Findings:
    """The results of a validation, with its subject and its number of rows."""

    subject: str
    rows: int | None
    results: tuple[ExpectationResult, ...]

    @property
    def routed(self) -> RoutedFailures:
        """The failed results by consequence."""
        return route_failures(self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values: subject, number of rows, and summaries of failures by severity."""
        failed = self.routed.to_dict()
        return {"subject": self.subject, "rows": self.rows, "expectations": len(self.results), **failed}


def require_critical(findings: Findings) -> None:
    """Raise PartitionRefusedError if a critical expectation failed, with a summary of each of them."""
    critical = findings.routed.critical
    if critical:
        extent = "" if findings.rows is None else f" of {findings.rows:,} rows"
        raise PartitionRefusedError(
            f"{findings.subject}: {len(critical)} of {len(findings.results)} expectations failed{extent}: "
            f"{summarise_results(critical)}"
        )


def parse_expectations(declared: str | Path | Iterable[Any], root: Path) -> list[Expectation]:
    """Return the expectations of a suite's path, or of a list of mappings with ``type`` and ``kwargs``.

    Raises
    ------
    DeclarationError
        If an expectation is malformed, or there is none.
    """
    if isinstance(declared, str | Path):
        expectations = read_suite(root / declared)
    else:
        try:
            expectations = list(Suite.model_validate({"expectations": list(declared)}).expectations)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise DeclarationError(fault["msg"], key=where) from None
    if not expectations:
        raise DeclarationError("the suite holds no expectation; nothing would be validated", key="expectations")
    return expectations


def validate_rows(subject: str, rows: pa.Table, expectations: Sequence[Expectation], validator: Validator) -> Findings:
    """Return the results of expectations on rows; failed data raises no error."""
    return Findings(subject, rows.num_rows, tuple(validator.check(rows, expectations)))


def to_table(rows: Any) -> pa.Table:
    """Return an Arrow table, a record batch or a pandas frame as an Arrow table.

    Raises
    ------
    SourceUnreadableError
        If it is of another type, or a column of the frame mixes types.
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
    """Return the rows of a Parquet or CSV file, with only the columns that the expectations read.

    A CSV file carries no types: they are inferred from its values, and an empty field is null.

    Raises
    ------
    SourceMissingError, SourceUnreadableError
        If the file does not exist, or is not of the format that its name states.
    PartitionRefusedError
        If it lacks a column that an expectation reads, or exceeds the default limits of a partition.
    """
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    if not path.exists():
        raise SourceMissingError(f"{path} is not there")
    needed = columns_read(expectations)
    try:
        if ".csv" in path.suffixes:
            table = pc.read_csv(path, convert_options=pc.ConvertOptions(null_values=[""], strings_can_be_null=True))
            return table.select(_select_columns(path, table.column_names, needed))
        file = pq.ParquetFile(path)
        if needed == [] and file.schema_arrow.names:
            needed = file.schema_arrow.names[:1]  # an expectation on the number of rows still needs one column
        columns = _select_columns(path, file.schema_arrow.names, needed)
        _refuse_huge(path, file.metadata.num_rows, len(columns))
        return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error}") from error


def _refuse_huge(path: Path, rows: int, columns: int) -> None:
    """Raise PartitionRefusedError for a file over the limits; a small file may hold hundreds of millions of rows."""
    limits = Limits()
    if rows > limits.rows or rows * columns > limits.cells:
        raise PartitionRefusedError(
            f"{path} holds {rows:,} rows, {columns} columns of them to be read; the limits are {limits.rows:,} rows "
            f"and {limits.cells:,} cells; validate it in the database it came from, or a part at a time"
        )


def _select_columns(path: Path, names: list[str], needed: list[str] | None) -> list[str]:
    """Return the names of a file that are needed, all of them for None."""
    missing = sorted(set(needed or ()) - set(names))
    if missing:
        raise PartitionRefusedError(
            f"{path} has no column {missing[0]!r}, so it could not be evaluated; it has {', '.join(names)}"
        )
    return names if needed is None else [name for name in names if name in needed]
