"""Expectation suites: which values are good, declared in YAML in Great Expectations' own terms.

    expectations:
      - {type: expect_column_values_to_be_between, kwargs: {column: distance, min_value: 1}}
      - {type: expect_column_mean_to_be_between, kwargs: {...}, severity: warning}

A *critical* expectation about single rows sends them to quarantine; one about the whole column or
table refuses the partition. *warning* and *info* are recorded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.loop_file import read_strict_yaml

Severity = Literal["critical", "warning", "info"]


class Expectation(BaseModel):
    """One expectation, by Great Expectations' name for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: str = Field(pattern=r"^expect_[a-z_]+$")
    kwargs: dict[str, Any]
    severity: Severity = "critical"


class Suite(BaseModel):
    """The expectations of a data set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    expectations: list[Expectation]


@dataclass(frozen=True)
class ExpectationResult:
    """What one expectation said.

    ``rows`` are positions of the rows that did not meet it; empty for an expectation about the whole.
    """

    type: str
    column: str | None
    severity: str
    success: bool
    unexpected: int
    by_row: bool
    rows: tuple[int, ...] = ()
    observed: str = ""

    @property
    def reason(self) -> str:
        """What is wrong, in the words kept beside a bad row."""
        return f"{self.column}: {self.type}" if self.column else self.type

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, without the rows."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


def read_suite(path: str | Path) -> list[Expectation]:
    """Return the expectations in a YAML file.

    Raises
    ------
    DeclarationError
        Naming the file and the key that is wrong.
    """
    data, lines = read_strict_yaml(path)
    try:
        return list(Suite.model_validate(data).expectations)
    except ValidationError as error:
        fault = error.errors()[0]
        at = tuple(fault["loc"])
        while at and at not in lines:
            at = at[:-1]
        raise DeclarationError(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}",
            file=str(path),
            line=lines.get(at, 1),
        ) from None
