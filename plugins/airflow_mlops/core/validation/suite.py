"""Expectation suites: which values are good, declared in YAML in the terms of Great Expectations.

    expectations:
      - {type: expect_column_values_to_be_between, kwargs: {column: distance, min_value: 1}}
      - {type: expect_column_mean_to_be_between, kwargs: {...}, severity: warning}

A *critical* expectation about single rows sends them to quarantine; one about the whole column or table refuses the
partition. A *warning* calls the loop's ``notify``, an *info* is recorded; see
:mod:`airflow_mlops.core.validation.severities`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_mlops.core.declaration.data import Severity
from airflow_mlops.core.declaration.read_loop import read_strict_yaml
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError

_COLUMN_KEYS = frozenset({"column", "column_A", "column_B", "column_list"})


class Expectation(BaseModel):
    """One expectation, under its name in Great Expectations."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: str = Field(pattern=r"^expect_[a-z_]+$")
    kwargs: dict[str, Any]
    severity: Severity = "critical"

    @property
    def column(self) -> str | None:
        """The column it concerns, or several as ``a, b``; None if it concerns the table."""
        names = [self.kwargs.get(key) for key in ("column", "column_A", "column_B")]
        names += self.kwargs.get("column_list") or []
        return ", ".join(str(name) for name in names if name is not None) or None

    @property
    def limits(self) -> str:
        """Its limits in words: ``min_value 10, max_value 6000``."""
        limits = [f"{key} {value}" for key, value in self.kwargs.items() if key not in _COLUMN_KEYS]
        return ", ".join(limits)[:200]


class Suite(BaseModel):
    """The expectations of a data set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    expectations: list[Expectation]


@dataclass(frozen=True)
class ExpectationResult:
    """The result of one expectation.

    ``rows`` are the positions of the rows that failed it; empty for an expectation about the whole data. ``declared``
    are its limits in the suite: ``min_value 10, max_value 6000``.
    """

    type: str
    column: str | None
    severity: str
    success: bool
    unexpected: int
    by_row: bool
    rows: tuple[int, ...] = ()
    observed: str = ""
    declared: str = ""

    @property
    def reason(self) -> str:
        """The reason that is stored beside a bad row: the column and the expectation."""
        return f"{self.column}: {self.type}" if self.column else self.type

    @property
    def summary(self) -> str:
        """The reason with its extent: ``distance: expect_… (12 rows)``."""
        if self.success:
            return f"{self.reason} (met)"
        count = f"{self.unexpected:,} row{'s' * (self.unexpected != 1)}" if self.unexpected else ""
        observed = f"observed {self.observed}" if self.observed else ""
        detail = ", ".join(part for part in (self.declared, count, observed) if part)
        return f"{self.reason} ({detail})" if detail else self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, without the rows."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


def met_expectation(expectation: Expectation) -> ExpectationResult:
    """Return the result of an expectation that is met; it has no figures."""
    return ExpectationResult(
        type=expectation.type,
        column=expectation.column,
        severity=expectation.severity,
        success=True,
        unexpected=0,
        by_row=False,
        declared=expectation.limits,
    )


class Validator(Protocol):
    """A validation engine."""

    def check(self, rows: pa.Table, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
        """Return one result for each expectation, in order.

        Raises
        ------
        PartitionRefusedError
            If the engine cannot evaluate an expectation, which is not the same as data that fails it.
        """


_READS_NO_COLUMN = frozenset({"expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"})
_READS_THE_TABLE = frozenset({"expect_column_to_exist"})


def columns_read(expectations: Sequence[Expectation]) -> list[str] | None:
    """Return the columns that expectations read, in the order of their first mention; None for all columns.

    All columns are read if an expectation concerns the table itself, such as the set of its columns, or has a condition
    or a query that may mention any.
    """
    names: dict[str, None] = {}
    for expectation in expectations:
        columns = named_columns(expectation)
        if expectation.type in _READS_THE_TABLE or expectation.kwargs.get("row_condition") is not None:
            return None
        if not columns and expectation.type not in _READS_NO_COLUMN:
            return None
        names.update(dict.fromkeys(columns))
    return list(names)


def named_columns(expectation: Expectation) -> list[str]:
    """Return the columns that the arguments of an expectation name."""
    values = [expectation.kwargs[key] for key in sorted(_COLUMN_KEYS & expectation.kwargs.keys())]
    return [name for value in values for name in (value if isinstance(value, list) else [value])]


def read_suite(path: str | Path) -> list[Expectation]:
    """Return the expectations in a YAML file.

    Raises
    ------
    DeclarationError
        If the file is no suite; names the file, the line and the key.
    """
    return [expectation for expectation, _ in read_suite_with_lines(path)]


def read_suite_with_lines(path: str | Path) -> list[tuple[Expectation, int]]:
    """Return the expectations in a YAML file with their lines; see :func:`read_suite`."""
    data, lines = read_strict_yaml(path)
    try:
        suite = Suite.model_validate(data)
        return [(expectation, lines[("expectations", number)]) for number, expectation in enumerate(suite.expectations)]
    except ValidationError as error:
        fault = error.errors()[0]
        at = tuple(fault["loc"])
        while at and at not in lines:
            at = at[:-1]
        message = fault["msg"]
        if fault["type"] == "extra_forbidden":
            model = Expectation if len(fault["loc"]) > 1 else Suite
            message = f"unknown key; {suggest_name(str(fault['loc'][-1]), list(model.model_fields))}"
        raise DeclarationError(
            f"{'.'.join(str(part) for part in fault['loc'])}: {message}",
            file=str(path),
            line=lines.get(at, 1),
        ) from None
