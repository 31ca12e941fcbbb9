"""What a row of a request must be: the columns of the contract, of their types, finite, and nothing else.

Rows are decoded straight into a class that is made of the contract, so that a good row costs little. A bad one is
told with the field and the reason. Nothing is coerced, but for a whole number where the contract says float.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.masking import keyed_hash, mask_key
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.declaration.arrow_types import parse_type
from airflow_mlops.core.declaration.contract import Contract, first_match
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.errors import RolloutError
from airflow_mlops.gateway.row_errors import RowError, in_words

_INT = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


@dataclass(frozen=True)
class RowField:
    """One column of a row.

    ``required`` says that a row must name it; where it may be missing, it is null then. ``masked`` is the key that
    replaces its values by a hash.
    """

    name: str
    kind: pa.DataType
    nullable: bool
    required: bool
    masked: bytes | None = None

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers or truth values, as an array of floats holds them."""
        kind = self.kind
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        return self.masked is None and bool(number)

    @property
    def kept_as(self) -> pa.DataType:
        """The type of the column in snapshots, which models were fitted on."""
        return pa.string() if self.masked else self.kind

    @property
    def decoded_as(self) -> Any:
        """The type that JSON is decoded to."""
        kind: Any = python_type(self.kind)
        return kind | None if self.nullable else kind


class RowShape:
    """The rows of a loop's requests.

    Parameters
    ----------
    fields : sequence of RowField
        Columns that a row holds, but for the label.
    key, label : str
        Names of these columns. A row may name the label, which is not looked at.
    contract : Contract, optional
        Says which further columns are denied or ignored.
    """

    def __init__(self, fields: Sequence[RowField], *, key: str, label: str, contract: Contract | None = None) -> None:
        self.fields = tuple(fields)
        self.by_name = {field.name: at for at, field in enumerate(self.fields)}
        self._contract, self._masked = contract, [(f"f{at}", one) for at, one in enumerate(fields) if one.masked]
        self._decimals = [(f"f{at}", one) for at, one in enumerate(fields) if pa.types.is_decimal(one.kind)]
        self.key_of = attrgetter(f"f{self.by_name[key]}")
        members: list[Any] = [
            (f"f{at}", one.decoded_as) if one.required else (f"f{at}", one.decoded_as | None, None)
            for at, one in enumerate(self.fields)
        ]
        names = {f"f{at}": one.name for at, one in enumerate(self.fields)}
        self.row_class: Any = msgspec.defstruct(
            "Row", [*members, ("label", Any, None)], rename={**names, "label": label}, forbid_unknown_fields=True,
            kw_only=True, gc=False,
        )  # fmt: skip
        row: Any = self.row_class
        self._kinds: Any = row | list[row]
        self._decode = msgspec.json.Decoder(self._kinds).decode

    def rows_of(self, body: bytes | bytearray) -> tuple[list[Any], bool]:
        """Return the rows of a body, and whether it is a single one that stands alone.

        Raises
        ------
        RowError
            For the first thing wrong with them.
        """
        try:
            found = self._decode(body) if not self._ignores else self._leaving_out(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise in_words(error, body, self._contract) from None
        except RecursionError:
            raise RowError("the body is nested too deeply") from None
        single = not isinstance(found, list)
        rows = [found] if single else found
        if not rows:
            raise RowError("the list of rows is empty")
        if self._decimals or self._masked:
            self._finish(rows)
        return rows, single

    def values_of(self, names: Sequence[str]) -> Any:
        """Return what takes a row and gives its values in the columns ``names``: a tuple, or the one value."""
        return attrgetter(*(f"f{self.by_name[name]}" for name in names))

    def frame(self, rows: Sequence[Any]) -> pd.DataFrame:
        """Return rows as the frame that snapshots give: its columns and their types are the same."""
        columns = {
            one.name: pa.array([getattr(row, f"f{at}") for row in rows], one.kept_as)
            for at, one in enumerate(self.fields)
        }
        made: pd.DataFrame = pa.table(columns).to_pandas()
        return made

    @property
    def _ignores(self) -> bool:
        return self._contract is not None and bool(self._contract.ignore)

    def _leaving_out(self, body: bytes | bytearray) -> Any:
        """Decode a body whose rows may hold columns that the contract ignores."""
        raw = msgspec.json.decode(body)
        patterns = self._contract.ignore if self._contract else ()
        rows = raw if isinstance(raw, list) else [raw]
        for row in rows:
            if isinstance(row, dict):
                for name in [one for one in row if one not in self.by_name and first_match(one, patterns)]:
                    del row[name]
        return msgspec.convert(raw, self._kinds, builtin_types=())

    def _finish(self, rows: list[Any]) -> None:
        """Hold decimals to their digits, and mask what is to be masked."""
        for at, row in enumerate(rows):
            for member, one in self._decimals:
                value = getattr(row, member)
                if value is not None:
                    try:
                        pa.scalar(value, one.kind)
                    except (pa.ArrowInvalid, ValueError):
                        place = at if len(rows) > 1 else None
                        raise RowError(f"{value} is no {one.kind}", field=one.name, row=place) from None
            for member, one in self._masked:
                value = getattr(row, member)
                if value is not None and one.masked:
                    text = format_column(pa.array([value], one.kind))[0].as_py()
                    setattr(row, member, keyed_hash(text, one.masked))


def python_type(kind: pa.DataType) -> Any:
    """Return the type that a value of a column is decoded to."""
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


def shape_of_requests(
    data: Data, contract: Contract | None, recorded: dict[str, str] | None, *, secret: str | None = None
) -> RowShape:
    """Return what a loop's rows must be: by its contract, or by the columns that a version was fitted on.

    Parameters
    ----------
    recorded : dict of str to str, optional
        Columns and their types as the ledger names them; needed without a contract.
    secret : str, optional
        What masks columns; needed where the contract masks any.

    Raises
    ------
    RolloutError
        If there is neither a contract nor a record of the columns.
    """
    if contract is not None:
        hidden = contract.hidden | (set() if data.features else {data.time})
        fields = [
            RowField(
                name, column.source_type, nullable=column.nullable and name != data.key,
                required=name == data.key or not (column.optional or name in hidden),
                masked=mask_key(secret, name) if column.mask else None,
            )
            for name, column in contract.columns.items() if name != data.label
        ]  # fmt: skip
        return RowShape(fields, key=data.key, label=data.label, contract=contract)
    if not recorded:
        raise RolloutError("the loop has no contract, and the version says nothing of its columns: prepare it again")
    fields = []
    for name, text in recorded.items():
        kind = parse_type(text)
        if kind is None:
            raise RolloutError(f"column {name!r} is recorded as {text!r}, which is no type of a column")
        if name != data.label:
            optional = name == data.time and not data.features
            fields.append(RowField(name, kind, nullable=name != data.key, required=not optional))
    return RowShape(fields, key=data.key, label=data.label)
