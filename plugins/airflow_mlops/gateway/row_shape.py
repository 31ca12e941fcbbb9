"""Decode and check the rows of requests: the columns of the contract with their types, finite, and no others.

Rows are decoded directly into a class that is generated from the contract, so a good row costs little. The error of a
bad row has the field and the reason. Nothing is coerced except an integer in a float column.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.frame_types import frame_of, never_null
from airflow_mlops.core.data.input_schema import InputSchema, unseen_sentence
from airflow_mlops.core.data.key_text import join_key
from airflow_mlops.core.data.masking import keyed_hash, mask_key
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.declaration.arrow_types import parse_type
from airflow_mlops.core.declaration.contract import Contract, first_match
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.declaration.key_columns import is_joined, key_columns
from airflow_mlops.core.errors import RolloutError
from airflow_mlops.gateway.row_errors import RowError, explain_error

_INT = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


@dataclass(frozen=True)
class RowField:
    """One column of a row.

    A row must have the column if it is ``required``; otherwise a missing column is null. ``masked`` is the key of the
    hash that replaces its values.
    """

    name: str
    kind: pa.DataType
    nullable: bool
    required: bool
    masked: bytes | None = None

    @property
    def numeric(self) -> bool:
        """Whether an array of floats can hold the values: numbers or booleans, not masked."""
        kind = self.kind
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        return self.masked is None and bool(number)

    @property
    def snapshot_type(self) -> pa.DataType:
        """Type of the column in snapshots, on which models are fitted."""
        return pa.string() if self.masked else self.kind

    @property
    def json_type(self) -> Any:
        """Python type that JSON is decoded to."""
        kind: Any = python_type(self.kind)
        return kind | None if self.nullable else kind


class RowShape:
    """The shape of the rows of a loop's requests.

    Parameters
    ----------
    fields : sequence of RowField
        Columns of a row, without the label.
    key, label : str
        Names of these columns. A row has every column of the key. It may have the label, which is ignored.
    contract : Contract, optional
        Gives the columns that are denied or ignored.
    no_features : set of str
        Columns that a row may have and no version sees.
    """

    def __init__(
        self,
        fields: Sequence[RowField],
        *,
        key: str,
        label: str,
        contract: Contract | None = None,
        no_features: Set[str] = frozenset(),
    ) -> None:
        self.fields, self.no_features = tuple(fields), frozenset(no_features)
        self.required = sum(field.required for field in fields)
        self.by_name = {field.name: index for index, field in enumerate(self.fields)}
        self.heads = {field.name: msgspec.json.encode(field.name) + b":" for field in fields}
        self._contract, self._masked = (
            contract,
            [(f"f{index}", field) for index, field in enumerate(fields) if field.masked],
        )
        self._decimals = [(f"f{index}", field) for index, field in enumerate(fields) if pa.types.is_decimal(field.kind)]
        self._never_null = never_null(contract, key)
        self._key, self.label = key, label
        self._key_parts = [(f"f{self.by_name[name]}", fields[self.by_name[name]]) for name in key_columns(key)]
        self.key_of = self._join_key if is_joined(key) else attrgetter(f"f{self.by_name[key]}")
        members: list[Any] = [
            (f"f{index}", field.json_type) if field.required else (f"f{index}", field.json_type | None, None)
            for index, field in enumerate(self.fields)
        ]
        names = {f"f{index}": field.name for index, field in enumerate(self.fields)}
        self.row_class: Any = msgspec.defstruct(
            "Row",
            [*members, ("label", Any, None)],
            rename={**names, "label": label},
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        row: Any = self.row_class
        self._kinds: Any = row | list[row]
        self._decode = msgspec.json.Decoder(self._kinds).decode

    def decode_rows(self, body: bytes | bytearray) -> tuple[list[Any], bool]:
        """Return the rows of a body, and whether the body is a single row and not a list.

        Raises
        ------
        RowError
            For the first fault.
        """
        try:
            decoded = self._decode(body) if not self.ignores_columns else self._decode_without_ignored(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise explain_error(error, body, self._contract) from None
        except RecursionError:
            raise RowError("the body is nested too deeply") from None
        single = not isinstance(decoded, list)
        rows = [decoded] if single else decoded
        if not rows:
            raise RowError("the list of rows is empty")
        if self._decimals or self._masked:
            self._check_and_mask(rows)
        return rows, single

    def value_getter(self, names: Sequence[str]) -> Any:
        """Return a function from a row to its values in some columns: a tuple, or a bare value for a single column."""
        return attrgetter(*(f"f{self.by_name[name]}" for name in names))

    def is_compatible(self, other: RowShape) -> bool:
        """Return whether rows decoded in either shape are rows of the other, if they have what it requires."""
        return [(field.name, field.kind, field.masked) for field in self.fields] == [
            (field.name, field.kind, field.masked) for field in other.fields
        ]

    def refuse_unseen(self, rows: Sequence[Any], schema: InputSchema, columns: Sequence[str], *, number: str) -> None:
        """Raise RowError if a row has a value that is none of the levels of a version.

        Parameters
        ----------
        columns : sequence of str
            Columns to check: those with ``unseen: error`` in the contract.
        number : str
            Number of the version, for the message.

        Raises
        ------
        RowError
            For the first such value.
        """
        for name in [name for name in columns if name in schema.known]:
            known, member = schema.known[name], f"f{self.by_name[name]}"
            for index, row in enumerate(rows):
                value = getattr(row, member)
                if value is not None and value not in known:
                    sentence = unseen_sentence(name, value, number, schema.levels[name])
                    raise RowError(sentence, field=name, row=index if len(rows) > 1 else None)

    def to_frame(self, rows: Sequence[Any]) -> pd.DataFrame:
        """Return rows as a frame with the columns and types of snapshots."""
        columns = {
            field.name: pa.array([getattr(row, f"f{index}") for row in rows], field.snapshot_type)
            for index, field in enumerate(self.fields)
        }
        if is_joined(self._key):
            columns[str(self._key)] = pa.array([self.key_of(row) for row in rows], pa.string())
        return frame_of(pa.table(columns), self._never_null)

    def _join_key(self, row: Any) -> str:
        """Return the text of a row's key, as snapshots have it."""
        return join_key([text_of(getattr(row, member), field.snapshot_type) for member, field in self._key_parts])

    @property
    def ignores_columns(self) -> bool:
        """Whether the contract ignores columns, so that a row may have more than these."""
        return self._contract is not None and bool(self._contract.ignore)

    def _decode_without_ignored(self, body: bytes | bytearray) -> Any:
        """Decode a body without the columns that the contract ignores."""
        raw = msgspec.json.decode(body)
        patterns = self._contract.ignore if self._contract else ()
        rows = raw if isinstance(raw, list) else [raw]
        for row in rows:
            if isinstance(row, dict):
                for name in [name for name in row if name not in self.by_name and first_match(name, patterns)]:
                    del row[name]
        return msgspec.convert(raw, self._kinds, builtin_types=())

    def _check_and_mask(self, rows: list[Any]) -> None:
        """Check the digits of decimals, and mask the masked columns, in place."""
        for index, row in enumerate(rows):
            for member, field in self._decimals:
                value = getattr(row, member)
                if value is not None:
                    try:
                        pa.scalar(value, field.kind)
                    except (pa.ArrowInvalid, ValueError):
                        place = index if len(rows) > 1 else None
                        raise RowError(f"{value} is no {field.kind}", field=field.name, row=place) from None
            for member, field in self._masked:
                value = getattr(row, member)
                if value is not None and field.masked:
                    setattr(row, member, keyed_hash(text_of(value, field.kind), field.masked))


def text_of(value: Any, kind: pa.DataType) -> str:
    """Return the one text of a value, as :func:`format_column` writes it."""
    return value if isinstance(value, str) else str(format_column(pa.array([value], kind))[0].as_py())


def python_type(kind: pa.DataType) -> Any:
    """Return the Python type of the values of a column."""
    if pa.types.is_timestamp(kind):
        return Annotated[datetime, msgspec.Meta(tz=bool(kind.tz))]
    if pa.types.is_date(kind):
        return date
    if pa.types.is_decimal(kind):
        return Decimal
    if pa.types.is_boolean(kind):
        return bool
    if pa.types.is_integer(kind):
        return _INT
    return float if pa.types.is_floating(kind) else str


def request_shape(
    data: Data,
    contract: Contract | None,
    recorded: dict[str, str] | None,
    *,
    secret: str | None = None,
    hidden: Set[str] | None = None,
) -> RowShape:
    """Return the shape of a loop's rows, by its contract or by the columns that a version was fitted on.

    Parameters
    ----------
    recorded : dict of str to str, optional
        Columns and types as in the ledger; needed without a contract.
    secret : str, optional
        Secret that masks columns; needed if the contract masks any.
    hidden : set of str, optional
        Columns that no version in traffic sees, so that a row may lack them; by default those that the contract hides.

    Raises
    ------
    RolloutError
        If there is neither a contract nor a record of the columns.
    """
    if contract is not None:
        unneeded = (contract.hidden if hidden is None else hidden) | (set() if data.features else {data.time})
        keys = data.key_columns
        fields = [
            RowField(
                name,
                column.source_type,
                nullable=column.nullable and name not in keys,
                required=name in keys or not (column.optional or name in unneeded),
                masked=mask_key(secret, name) if column.mask else None,
            )
            for name, column in contract.columns.items()
            if name != data.label
        ]
        no_features = (contract.hidden if hidden is None else hidden) | data.key_and_time
        return RowShape(fields, key=data.key, label=data.label, contract=contract, no_features=no_features)
    if not recorded:
        raise RolloutError("the loop has no contract and the version has no record of its columns: prepare it again")
    fields = []
    for name, text in recorded.items():
        kind = parse_type(text)
        if kind is None:
            raise RolloutError(f"column {name!r} is recorded as {text!r}, which is not a type of a column")
        is_key = name in data.key_columns
        if name != data.label and (is_key or name != data.key):
            optional = name == data.time and not data.features and not is_key
            fields.append(RowField(name, kind, nullable=not is_key, required=not optional))
    return RowShape(fields, key=data.key, label=data.label, no_features=data.key_and_time)
