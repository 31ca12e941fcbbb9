"""The contract of a data set: which columns there are, what they are, and who may see them.

    contract: flights
    key: flight_id
    time: scheduled_departure
    evolution: additive            # or none
    deny: ["*passenger*"]          # must never arrive
    columns:
      flight_id: {type: text, nullable: false}
      scheduled_departure: {type: time}
      distance: {type: float, unit: statute mile}
      seat_holder: {type: text, privacy: personal, mask: true}

What values are good is the expectation suite's to say; neither repeats the other. A contract stands in the
repository, is read strictly like a loop, and holds wherever rows are used: at ingest, at training, at serving.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.declaration.declared import Listed
from airflow_mlops.core.declaration.read_loop import line_of, read_strict_yaml
from airflow_mlops.core.declaration.validation_errors import nearest
from airflow_mlops.core.errors import DeclarationError

_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
_ARROW: dict[str, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
}
NAME = re.compile(r"^[^\x00-\x1f<>\"'`&{};]{1,128}$")
"""What a column may be called: a report shows names on a page, so nothing that a page would take for markup."""

_strict = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


class Column(BaseModel):
    """One column: what it holds and who may see it."""

    model_config = _strict

    type: Annotated[str, Field(pattern=r"^(text|int|float|bool|date|time|decimal\(\d{1,2}, ?\d{1,2}\))$")] = Field(
        description="text, int, float, bool, date, time or decimal(digits, places)"
    )
    nullable: bool = Field(default=True, description="whether a row without a value is good")
    optional: bool = Field(default=False, description="whether the whole column may be missing; it is null then")
    finite: bool = Field(default=True, description="whether NaN and infinity make a row bad")
    zone: Literal["UTC", "none"] = Field(
        default="UTC", description="of a time: UTC for moments, in whichever zone they arrive; none for local clocks"
    )
    unit: str | None = Field(default=None, description="unit of the values, for people")
    privacy: Literal["none", "personal", "sensitive"] = Field(
        default="none", description="personal identifies somebody; sensitive tells something about them"
    )
    mask: bool = Field(default=False, description="replaced by a keyed hash before anything is written")
    feature: bool = Field(default=True, description="whether a model may see it")
    description: str | None = Field(default=None, description="what the column means, for people")

    @property
    def arrow(self) -> pa.DataType:
        """The type in which the column is kept."""
        if self.mask:
            return pa.string()
        return self.read_as

    @property
    def read_as(self) -> pa.DataType:
        """The type as which the values are read, before they are masked."""
        decimal = _DECIMAL.fullmatch(self.type)
        if decimal:
            return pa.decimal128(int(decimal[1]), int(decimal[2]))
        if self.type == "time":
            return pa.timestamp("us", tz="UTC" if self.zone == "UTC" else None)
        return _ARROW[self.type]


class Contract(BaseModel):
    """The columns of a data set and the rules about them."""

    model_config = _strict

    contract: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="name of the data set")
    description: str | None = Field(default=None, description="what the data set holds, for people")
    key: str = Field(description="column that tells rows apart; never null, never twice in a partition")
    time: str = Field(description="column with the time of the row")
    subject: str | None = Field(
        default=None, description="column that names the person a row is about; the key if not given"
    )
    columns: dict[str, Column] = Field(min_length=2, description="what each column holds, by its name")
    deny: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="patterns of names that must never arrive; * stands for anything"
    )
    ignore: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="patterns of names that may arrive and are left out"
    )
    evolution: Literal["none", "additive"] = Field(
        default="none", description="additive: columns that may be null can be added to this contract later"
    )
    nulls: Annotated[tuple[str, ...], Listed] = Field(
        default=("",), description="texts that mean null where the source carries no types"
    )
    late: Literal["accept", "quarantine"] = Field(
        default="accept", description="what becomes of rows whose time lies before the partition"
    )
    early: Literal["accept", "quarantine"] = Field(
        default="quarantine", description="what becomes of rows whose time lies after the partition"
    )

    @model_validator(mode="after")
    def _roles_are_columns(self) -> Contract:
        for role in ("key", "time", "subject"):
            name = getattr(self, role)
            if name is not None and name not in self.columns:
                raise ValueError(f"{role}: {name!r} is none of the columns; {nearest(name, list(self.columns))}")
        for name, column in self.columns.items():
            if not NAME.match(name):
                raise ValueError(
                    f"columns: {name!r} is no name for a column: 1 to 128 characters, none of < > \" ' ` & ; {{ }}"
                )
            denied = matching(name, self.deny)
            if denied:
                raise ValueError(f"columns: {name!r} is declared and denied at once, by {denied!r}")
            if (
                column.privacy == "personal"
                and column.feature
                and not column.mask
                and name not in (self.key, self.time)
            ):
                raise ValueError(f"columns: {name!r} is personal: declare mask: true, or feature: false")
        if self.columns[self.time].type not in ("time", "date") or self.columns[self.time].mask:
            raise ValueError(f"time: {self.time!r} must be a column of type time or date, not masked")
        return self

    @property
    def schema(self) -> pa.Schema:
        """The columns as they are kept, in the order of the contract."""
        return pa.schema([pa.field(name, column.arrow) for name, column in self.columns.items()])

    @property
    def hidden(self) -> frozenset[str]:
        """Columns that a model never sees."""
        return frozenset(name for name, column in self.columns.items() if not column.feature)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as JSON values, by the names a user writes."""
        return self.model_dump(mode="json", exclude_none=True)


def matching(name: str, patterns: tuple[str, ...]) -> str | None:
    """Return the first of ``patterns`` that ``name`` matches, whatever the case of its letters."""
    return next((pattern for pattern in patterns if fnmatchcase(name.lower(), pattern.lower())), None)


def read_contract(path: str | Path) -> Contract:
    """Return the contract in a YAML file.

    Raises
    ------
    DeclarationError
        Naming the file, the line and the key that is wrong.
    """
    data, lines = read_strict_yaml(path)
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        fault = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            model = Column if len(fault["loc"]) > 1 else Contract
            message = f"unknown key; {nearest(str(fault['loc'][-1]), list(model.model_fields))}"
        raise DeclarationError(message, file=str(path), line=line_of(lines, where), key=where or None) from None


def contract_of(data: Data, root: Path) -> Contract | None:
    """Return the contract that a loop's data declares, below the project folder ``root``; None where it declares none.

    Raises
    ------
    DeclarationError
        If it cannot be read, or names another key, time or label than the loop.
    """
    if data.contract is None:
        return None
    contract = read_contract(root / data.contract)
    for role in ("key", "time"):
        ours, theirs = getattr(data, role), getattr(contract, role)
        if ours != theirs:
            raise DeclarationError(
                f"the contract says {role}: {theirs!r}, the loop says {ours!r}", file=data.contract, key=role
            )
    if data.label not in contract.columns and data.labels is None:
        raise DeclarationError(
            f"the loop's label {data.label!r} is none of the contract's columns", file=data.contract, key="columns"
        )
    return contract
