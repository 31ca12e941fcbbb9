"""Expectation suites: which values are good, declared in YAML in Great Expectations' own terms.

    expectations:
      - {type: expect_column_values_to_be_between, kwargs: {column: distance, min_value: 1}}
      - {type: expect_column_mean_to_be_between, kwargs: {...}, severity: warning}

A *critical* expectation about single rows sends them to quarantine; one about the whole column or
table refuses the partition. A *warning* is told to the loop's ``notify``, *info* is recorded. Which is
which of the results, says :mod:`airflow_mlops.core.validation.severities`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_mlops.core.declaration.read_loop import read_strict_yaml
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError

Severity = Literal["critical", "warning", "info"]
_COLUMN_KEYS = frozenset({"column", "column_A", "column_B", "column_list"})


class Expectation(BaseModel):
    """One expectation, by Great Expectations' name for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: str = Field(pattern=r"^expect_[a-z_]+$")
    kwargs: dict[str, Any]
    severity: Severity = "critical"

    @property
    def column(self) -> str | None:
        """The column it concerns, or several as ``a, b``; None where it concerns the table."""
        named = [self.kwargs.get(word) for word in ("column", "column_A", "column_B")]
        named += self.kwargs.get("column_list") or []
        return ", ".join(str(name) for name in named if name is not None) or None

    @property
    def limits(self) -> str:
        """Its limits in words: ``min_value 10, max_value 6000``."""
        said = [f"{key} {value}" for key, value in self.kwargs.items() if key not in _COLUMN_KEYS]
        return ", ".join(said)[:200]


class Suite(BaseModel):
    """The expectations of a data set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    expectations: list[Expectation]


@dataclass(frozen=True)
class ExpectationResult:
    """What one expectation said.

    ``rows`` are positions of the rows that did not meet it; empty for an expectation about the whole.
    ``declared`` are its limits as they stand in the suite: ``min_value 10, max_value 6000``.
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
        """What is wrong, in the words kept beside a bad row."""
        return f"{self.column}: {self.type}" if self.column else self.type

    @property
    def said(self) -> str:
        """What is wrong and how much of it: ``distance: expect_… (12 rows)``."""
        if self.success:
            return f"{self.reason} (met)"
        much = f"{self.unexpected:,} row{'s' * (self.unexpected != 1)}" if self.unexpected else ""
        seen = f"observed {self.observed}" if self.observed else ""
        detail = ", ".join(part for part in (self.declared, much, seen) if part)
        return f"{self.reason} ({detail})" if detail else self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, without the rows."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


_NEEDS_NO_COLUMN = frozenset({"expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"})
_READS_THE_TABLE = frozenset({"expect_column_to_exist"})


def columns_of(expectations: Sequence[Expectation]) -> list[str] | None:
    """Return the columns that expectations read, in the order in which they are first mentioned.

    None means all columns: an expectation concerns the table itself, such as the set of its columns, or is
    given by a condition or a query that may mention any.
    """
    names: dict[str, None] = {}
    for one in expectations:
        mentioned = [one.kwargs[key] for key in sorted(_COLUMN_KEYS & one.kwargs.keys())]
        if one.type in _READS_THE_TABLE or one.kwargs.get("row_condition") is not None:
            return None
        if not mentioned and one.type not in _NEEDS_NO_COLUMN:
            return None
        for value in mentioned:
            names.update(dict.fromkeys(value if isinstance(value, list) else [value]))
    return list(names)


def read_suite(path: str | Path) -> list[Expectation]:
    """Return the expectations in a YAML file.

    Raises
    ------
    DeclarationError
        Naming the file and the key that is wrong.
    """
    return [expectation for expectation, _ in read_lined_suite(path)]


def read_lined_suite(path: str | Path) -> list[tuple[Expectation, int]]:
    """Return the expectations in a YAML file, each with the line on which it stands.

    Raises
    ------
    DeclarationError
        Naming the file and the key that is wrong.
    """
    data, lines = read_strict_yaml(path)
    try:
        suite = Suite.model_validate(data)
        return [(one, lines[("expectations", number)]) for number, one in enumerate(suite.expectations)]
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
