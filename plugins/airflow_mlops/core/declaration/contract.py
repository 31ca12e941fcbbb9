"""The contract of a data set: its columns, their types, and who may see them.

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

The contract covers types and privacy, the expectation suite covers values. A contract lives in the repository, is
read as strictly as a loop, and applies wherever rows are used: at ingest, in training and in serving.
"""

from __future__ import annotations

import re
import unicodedata
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from airflow_mlops.core.declaration.arrow_types import CONTRACT_TYPES
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.declaration.declared import Listed
from airflow_mlops.core.declaration.key_columns import Key, is_joined, key_columns, write_key
from airflow_mlops.core.declaration.read_loop import line_of, read_strict_yaml
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError

_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
COLUMN_NAME = re.compile(r"^[^\x00-\x1f<>\"'`&{};]{1,128}$")
"""Valid column names. Reports show them in HTML, so characters of markup are excluded."""

RESERVED_NAMES = ("partition",)
"""Names of columns that stores add to the rows of a partition."""

_strict = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


def _require_texts(levels: Any) -> Any:
    others = [level for level in levels if not isinstance(level, str)] if isinstance(levels, tuple | list) else []
    if others:
        raise ValueError(
            f"{others[0]!r} is no text, and a category is text; write the level in quotes, as it stands in the rows"
        )
    return levels


def _require_known_policy(word: Any) -> Any:
    if word is None or word == "error":
        return word
    advice = "write null without quotes" if word == "null" else "write null, the default, or error"
    raise ValueError(f"{word!r} is no word for values that are no level; {advice}")


class Column(BaseModel):
    """One column: its type, its nullability and its privacy."""

    model_config = _strict

    type: Annotated[str, Field(pattern=r"^(text|category|int|float|bool|date|time|decimal\(\d{1,2}, ?\d{1,2}\))$")] = (
        Field(description="text, category, int, float, bool, date, time or decimal(digits, places)")
    )
    from_: str | None = Field(
        default=None, alias="from", max_length=1024, description="name with which it arrives; its own if not given"
    )
    nullable: bool = Field(default=True, description="whether a row may lack a value")
    optional: bool = Field(default=False, description="whether the whole column may be missing; it is null then")
    finite: bool = Field(default=True, description="whether NaN and infinity make a row bad")
    zone: Annotated[str, Field(pattern=r"^(UTC|none|[A-Za-z_]+(/[A-Za-z0-9_+-]+)+)$")] = Field(
        default="UTC",
        description="of a time: UTC for moments, in whichever zone they arrive; Europe/Berlin or another for moments "
        "that state no zone and are clocks there; none for local clocks that stay clocks",
    )
    format: str | None = Field(
        default=None,
        description="of a date or time in text: its form, as strptime has it (%d.%m.%Y %H:%M); ISO 8601 if not given",
    )
    unit: str | None = Field(default=None, description="unit of the values, for people")
    privacy: Literal["none", "personal", "sensitive"] = Field(
        default="none", description="personal identifies a person; sensitive describes one"
    )
    mask: bool = Field(default=False, description="replaced by a keyed hash before anything is written")
    feature: bool = Field(default=True, description="whether a model may see it")
    known_ahead: bool = Field(
        default=False,
        description="of a date or time that may lie after the row's: whether it is known when a prediction is made, as "
        "a due date is; it is a feature then, and no leak",
    )
    levels: Annotated[tuple[str, ...] | None, BeforeValidator(_require_texts), Listed] = Field(
        default=None,
        description="of a category: its values, in their order; those of the training window, sorted, if not given",
    )
    unseen: Annotated[Literal["error"] | None, BeforeValidator(_require_known_policy)] = Field(
        default=None,
        description="of a category: what becomes of a value that is none of its levels; null: it is null for the model "
        "and counted; error: a bad row where levels are declared, and nothing is predicted from it",
    )
    description: str | None = Field(default=None, description="what the column means, for people")

    @model_validator(mode="after")
    def _require_category(self) -> Column:
        if self.type != "category":
            given = "levels" if self.levels is not None else "unseen" if self.unseen is not None else None
            if given is not None:
                raise ValueError(
                    f"{given} goes with a category; the type is {self.type}; declare type: category, or leave {given} "
                    "out"
                )
        elif self.levels is not None:
            _require_legal_levels(self.levels, mask=self.mask)
        return self

    @model_validator(mode="after")
    def _require_known_zone(self) -> Column:
        if self.clock is not None:
            try:
                ZoneInfo(self.clock)
            except (ValueError, OSError, KeyError):
                raise ValueError(f"zone: {self.zone!r} is no zone of the tz database, like Europe/Berlin") from None
        return self

    @model_validator(mode="after")
    def _require_time_known_ahead(self) -> Column:
        if self.known_ahead and self.type not in ("date", "time"):
            raise ValueError(
                f"known_ahead: true goes with a date or a time; the type is {self.type}; leave known_ahead out, and "
                "declare feature: false if the value is known only after the event"
            )
        return self

    @model_validator(mode="after")
    def _require_legal_format(self) -> Column:
        if self.format is None:
            return self
        if self.type not in ("date", "time"):
            raise ValueError(f"format: {self.format!r} goes with a date or a time; the type is {self.type}")
        has_zone = "%z" in self.format or "%Z" in self.format
        if self.type == "time" and self.zone == "UTC" and not has_zone:
            raise ValueError(
                f"format: {self.format!r} has no zone (%z), so it is no moment; declare the zone of its clocks, "
                "as in zone: Europe/Berlin, or zone: none for clocks that stay clocks"
            )
        if has_zone and (self.type == "date" or self.zone == "none"):
            raise ValueError(f"format: {self.format!r} has a zone, and a {self.type} with zone {self.zone} has none")
        return self

    @property
    def clock(self) -> str | None:
        """The zone of times that state none; None if they must state one, or have none."""
        return None if self.zone in ("UTC", "none") or self.type != "time" else self.zone

    @property
    def stored_type(self) -> pa.DataType:
        """The type in which the column is stored; a mask is text."""
        if self.mask:
            return pa.string()
        return self.source_type

    @property
    def source_type(self) -> pa.DataType:
        """The type of the values as they are read, before masking."""
        decimal = _DECIMAL.fullmatch(self.type)
        if decimal:
            return pa.decimal128(int(decimal[1]), int(decimal[2]))
        if self.type == "time":
            return pa.timestamp("us", tz=None if self.zone == "none" else "UTC")
        return CONTRACT_TYPES["text" if self.type == "category" else self.type]


def _require_legal_levels(levels: tuple[str, ...], *, mask: bool) -> None:
    if not levels:
        raise ValueError("levels: the list is empty, so every value would be refused; name the levels, or leave it out")
    if mask:
        raise ValueError("levels: with mask: true only hashes of the values are kept; leave one of the two out")
    twice = next((level for level in levels if levels.count(level) > 1), None)
    if twice is not None:
        raise ValueError(f"levels: {twice!r} stands there {levels.count(twice)} times; name every level once")
    empty = next((level for level in levels if not level.strip()), None)
    if empty is not None:
        raise ValueError(f"levels: {empty!r} has no character that can be seen; leave it out, and declare it in nulls")


class Contract(BaseModel):
    """The columns of a data set and the rules for rows and unknown columns."""

    model_config = _strict

    contract: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="name of the data set")
    description: str | None = Field(default=None, description="what the data set holds, for people")
    key: Key = Field(
        description="column that tells rows apart, or a list of columns that do together; never null, never twice in a "
        "partition"
    )
    time: str = Field(description="column with the time of the row")
    subject: str | None = Field(
        default=None, description="column that names the person a row is about; the key if not given"
    )
    columns: dict[str, Column] = Field(min_length=2, description="the columns by name")
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
    def _require_roles(self) -> Contract:
        keys = [("key", name) for name in key_columns(self.key)]
        for role, name in (*keys, ("time", self.time), ("subject", self.subject)):
            if name is not None and name not in self.columns:
                raise ValueError(f"{role}: {name!r} is none of the columns; {suggest_name(name, list(self.columns))}")
        return self

    @model_validator(mode="after")
    def _require_joinable_key(self) -> Contract:
        if not is_joined(self.key):
            return self
        taken = next((name for name in self.columns if name.casefold() == self.key.casefold()), None)
        if taken is not None:
            raise ValueError(
                f"columns: {taken!r} is the name of the column that holds the whole key; give it another, and say "
                f"from: {taken!r}"
            )
        optional = next((name for name in key_columns(self.key) if self.columns[name].optional), None)
        if optional is not None:
            raise ValueError(f"key: {optional!r} is optional, and a row without a part of its key is no row")
        return self

    @model_validator(mode="after")
    def _require_legal_columns(self) -> Contract:
        for name, column in self.columns.items():
            if not COLUMN_NAME.match(name):
                raise ValueError(
                    f"columns: {name!r} is no name for a column: 1 to 128 characters, none of < > \" ' ` & ; {{ }}"
                )
            denied = first_match(name, self.deny)
            if denied:
                raise ValueError(f"columns: {name!r} is declared and denied at once, by {denied!r}")
            # Key and time are no features, so that they need no mask to be kept from a model.
            if (
                column.privacy == "personal"
                and column.feature
                and not column.mask
                and name not in (*key_columns(self.key), self.time)
            ):
                raise ValueError(f"columns: {name!r} is personal: declare mask: true, or feature: false")
        return self

    @model_validator(mode="after")
    def _require_distinct_columns(self) -> Contract:
        stored: dict[str, str] = {}
        arriving: dict[str, str] = {}
        for name, column in self.columns.items():
            twin = stored.setdefault(name.casefold(), name)
            if twin != name:
                raise ValueError(
                    f"columns: {twin!r} and {name!r} differ only in case, and tables keep one of them; rename one, and "
                    "say from: with the name that arrives"
                )
            if name in RESERVED_NAMES:
                raise ValueError(
                    f"columns: {name!r} is a name that snapshots need; give it another, and say from: {name!r}"
                )
            arrives = normal_name(column.from_ if column.from_ is not None else name)
            other = arriving.setdefault(arrives, name)
            if other != name:
                raise ValueError(f"columns: {other!r} and {name!r} both arrive as {arrives!r}")
        return self

    @model_validator(mode="after")
    def _require_seen_categories(self) -> Contract:
        keys = [("key", name) for name in key_columns(self.key)]
        for role, name in (*keys, ("subject", self.subject)):
            if name is not None and self.columns[name].type == "category":
                raise ValueError(f"{role}: {name!r} is a category, which a model sees as such; declare type: text")
        return self

    @property
    def arriving(self) -> dict[str, str]:
        """The names with which the columns arrive, in Unicode's form NFC, by their own names."""
        return {
            name: normal_name(column.from_ if column.from_ is not None else name)
            for name, column in self.columns.items()
        }

    @model_validator(mode="after")
    def _require_time_type(self) -> Contract:
        if self.columns[self.time].type not in ("time", "date") or self.columns[self.time].mask:
            raise ValueError(f"time: {self.time!r} must be a column of type time or date, not masked")
        return self

    @property
    def schema(self) -> pa.Schema:
        """The stored columns, in the order of the contract."""
        return pa.schema([pa.field(name, column.stored_type) for name, column in self.stored.items()])

    @property
    def stored(self) -> dict[str, Column]:
        """The columns of snapshots: those declared, and the key column of a key of several columns."""
        if not is_joined(self.key):
            return self.columns
        return {**self.columns, str(self.key): Column(type="text", nullable=False)}

    @property
    def personal(self) -> frozenset[str]:
        """Names of the stored columns that are personal, sensitive, masked or the subject, and a key of such ones."""
        names = {name for name, column in self.columns.items() if column.privacy != "none" or column.mask}
        names |= set() if self.subject is None else {self.subject}
        parts = {*key_columns(self.key)} if is_joined(self.key) else set()
        return frozenset(names | ({str(self.key)} if parts & names else set()))

    @property
    def hidden(self) -> frozenset[str]:
        """Names of the columns that a model never sees."""
        return frozenset(name for name, column in self.columns.items() if not column.feature)

    @property
    def known_ahead(self) -> frozenset[str]:
        """Names of the dates and times that are known when a prediction is made, though they may lie after it."""
        return frozenset(name for name, column in self.columns.items() if column.known_ahead)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as JSON values, under the keys of its YAML file."""
        return self.model_dump(mode="json", exclude_none=True)


def normal_name(name: str) -> str:
    """Return a name in Unicode's form NFC, so that an accent is the same however it was typed.

    >>> normal_name("cafe" + chr(0x301)) == "caf" + chr(0xE9)
    True
    """
    return unicodedata.normalize("NFC", name)


def first_match(name: str, patterns: tuple[str, ...]) -> str | None:
    """Return the first of ``patterns`` that ``name`` matches, ignoring case; None if it matches none."""
    return next((pattern for pattern in patterns if fnmatchcase(name.lower(), pattern.lower())), None)


def read_contract(path: str | Path) -> Contract:
    """Return the contract in a YAML file.

    Raises
    ------
    DeclarationError
        If it is no contract; names the file, the line and the key.
    """
    data, lines = read_strict_yaml(path)
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        # A misspelt key is two faults: name the unknown key, for the missing one follows from it.
        fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            model = Column if len(fault["loc"]) > 1 else Contract
            message = f"unknown key; {suggest_name(str(fault['loc'][-1]), list(model.model_fields))}"
        raise DeclarationError(message, file=str(path), line=line_of(lines, where), key=where or None) from None


def load_contract(data: Data, root: Path) -> Contract | None:
    """Return the contract that ``data`` declares, a file below the project folder ``root``; None without one.

    Raises
    ------
    DeclarationError
        If it cannot be read, or its key, time or label differs from the loop's.
    """
    if data.contract is None:
        return None
    contract = read_contract(root / data.contract)
    for role in ("key", "time"):
        in_loop, in_contract = (write_key(getattr(declared, role)) for declared in (data, contract))
        if in_loop != in_contract:
            raise DeclarationError(
                f"the contract says {role}: {in_contract!r}, the loop says {in_loop!r}", file=data.contract, key=role
            )
    if data.label not in contract.columns and data.labels is None:
        raise DeclarationError(
            f"the loop's label {data.label!r} is none of the contract's columns", file=data.contract, key="columns"
        )
    return contract
