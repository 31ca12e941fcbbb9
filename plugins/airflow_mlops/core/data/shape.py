"""The shape that a partition must have, and how far an arrival is from it.

Where a contract is declared it is the shape. Without one, the first partition says what columns there
are, and every later one is held to it. Widths are widened and never narrowed (every integer becomes 64
bits wide, every text one kind of text); another kind of value is never turned into the declared one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from airflow_mlops.core.data.contract import NAME, Contract, matching
from airflow_mlops.core.data.declared_data import Data
from airflow_mlops.core.errors import PartitionRefusedError

RESERVED = ("partition",)  # what stores add to the rows of a partition


@dataclass(frozen=True)
class Rule:
    """What is asked of one column.

    ``source`` is its place in the arrival; None where it may be, and is, missing. ``text`` says that its values
    are read from text although the other columns have types.
    """

    name: str
    kind: pa.DataType
    source: int | None
    nullable: bool = True
    finite: bool = True
    mask: bool = False
    text: bool = False


@dataclass(frozen=True)
class Shape:
    """The columns of a partition in the order in which they are kept, and whose word that is."""

    rules: tuple[Rule, ...]
    typed: bool
    nulls: tuple[str, ...] = ()
    late: str = "accept"
    early: str = "accept"
    ignored: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The columns as they are kept."""
        return pa.schema([pa.field(rule.name, pa.string() if rule.mask else rule.kind) for rule in self.rules])

    @property
    def columns(self) -> dict[str, str]:
        """The columns as the ledger names them."""
        return {field.name: str(field.type) for field in self.schema}


def shape_of(
    data: Data,
    contract: Contract | None,
    arriving: pa.Schema,
    earlier: Mapping[str, str] | None,
    *,
    typed: bool,
    texts: Set[str] = frozenset(),
) -> Shape:
    """Return the shape of an arrival, or refuse it with everything that is wrong with its columns.

    Parameters
    ----------
    data : Data
        Names the key, the time and the label.
    contract : Contract, optional
        The declared columns.
    arriving : pyarrow.Schema
        The columns as they arrive.
    earlier : mapping of str to str, optional
        Columns and types of the partitions published before; None for the first.
    typed : bool
        Whether the source knows types.
    texts : set of str
        Columns of a typed source in which dates and times are text.

    Raises
    ------
    PartitionRefusedError
    """
    refuse_names(arriving)
    for role in ("key", "time", "label"):
        column = getattr(data, role)
        if contract is None and column not in arriving.names:
            raise PartitionRefusedError(
                f"column {column!r}, the declared {role}, is missing; there are {', '.join(arriving.names)}"
            )
    found = (
        shape_of_contract(contract, arriving, typed=typed, texts=texts)
        if contract
        else shape_of_itself(arriving, earlier, data.key)
    )
    if contract is not None and earlier is not None:
        refuse_evolution(contract, found.columns, earlier)
    return found


def refuse_names(arriving: pa.Schema) -> None:
    """Refuse names that stand twice, that stores need, or that a page would take for markup."""
    for name in arriving.names:
        if arriving.names.count(name) > 1:
            raise PartitionRefusedError(f"column {name!r} stands there {arriving.names.count(name)} times")
        if name in RESERVED:
            raise PartitionRefusedError(f"column {name!r} has a name that snapshots need; rename it at the source")
        if not NAME.match(name):
            raise PartitionRefusedError(
                f"column {name!r} has a name that is refused: 1 to 128 characters, none of < > \" ' ` & ; {{ }}"
            )


def shape_of_contract(contract: Contract, arriving: pa.Schema, *, typed: bool, texts: Set[str] = frozenset()) -> Shape:
    """Return the shape that a contract declares for these columns; differences are told together."""
    faults: list[str] = []
    rules: list[Rule] = []
    for name, column in contract.columns.items():
        place = arriving.get_field_index(name)
        if place < 0 and not column.optional:
            faults.append(f"column {name!r} ({column.type} in the contract) is missing")
        text = name in texts and column.type in ("date", "time") and pa.types.is_string(arriving.field(place).type)
        if place >= 0 and typed and not text and not is_of(arriving.field(place).type, column.read_as):
            faults.append(
                f"column {name!r} has the type {arriving.field(place).type}; the contract says {column.type}"
                f"{'' if column.type != 'time' else f' with zone {column.zone}'}"
            )
        must = not column.nullable or name == contract.key
        rules.append(
            Rule(name, column.read_as, None if place < 0 else place, not must, column.finite, column.mask, text)
        )  # fmt: skip
    ignored = []
    for name in arriving.names:
        denied = matching(name, contract.deny)
        if denied:
            faults.append(f"column {name!r} is denied by the contract ({denied!r}) and must not arrive")
        elif name not in contract.columns and matching(name, contract.ignore):
            ignored.append(name)
        elif name not in contract.columns:
            faults.append(f"column {name!r} ({arriving.field(name).type}) is new; the contract has no such column")
    if faults:
        raise PartitionRefusedError(
            f"the columns differ from contract {contract.contract!r}: {'; '.join(faults)}. Correct the delivery, or "
            "change the contract by review"
        )
    return Shape(tuple(rules), typed, contract.nulls, contract.late, contract.early, tuple(ignored))


def shape_of_itself(arriving: pa.Schema, earlier: Mapping[str, str] | None, key: str) -> Shape:
    """Return the shape of typed rows without a contract, held against the partitions before."""
    rules, faults = [], []
    for place, field in enumerate(arriving):
        kind = canonical_type(field.type)
        if earlier is not None and field.name in earlier and pa.types.is_null(field.type):
            kind = type_named(earlier[field.name])
        if kind is None:
            faults.append(
                f"column {field.name!r} holds nothing but nulls, which have no type: declare a contract"
                if pa.types.is_null(field.type)
                else f"column {field.name!r} has the type {field.type}; text, numbers, booleans, dates, times are kept"
            )
            continue
        rules.append(Rule(field.name, kind, place, nullable=field.name != key))
    found = {rule.name: str(rule.kind) for rule in rules}
    for name, before in (earlier or {}).items():
        if name not in arriving.names:
            faults.append(f"column {name!r} ({before} in the partitions before) is missing")
        elif name in found and found[name] != before:
            faults.append(f"column {name!r} has the type {found[name]}; the partitions before have {before}")
    if earlier is not None:
        faults += [
            f"column {name!r} is new; the partitions before have no such column"
            for name in found
            if name not in earlier
        ]
    if faults:
        raise PartitionRefusedError("; ".join(faults))
    return Shape(tuple(rules), typed=True)


def held_to_contract(rows: pa.Table, contract: Contract, where: str, *, but: str | None = None) -> pa.Table:
    """Return rows that are about to be used with the columns of the contract of today.

    Columns that came later than the rows are null; columns that the contract no longer has are left out,
    and so is the column ``but``.

    Raises
    ------
    PartitionRefusedError
        If a column that may not be null is missing, or is of another type.
    """
    columns: dict[str, Any] = {}
    for name, column in contract.columns.items():
        if name == but:
            continue
        if name not in rows.column_names:
            if not column.nullable:
                raise PartitionRefusedError(
                    f"{where}: column {name!r} is missing, and the contract wants a value of it"
                )
            columns[name] = pa.nulls(rows.num_rows, column.arrow)
        elif rows.schema.field(name).type != column.arrow:
            raise PartitionRefusedError(
                f"{where}: column {name!r} is kept as {rows.schema.field(name).type}; the contract says {column.type}"
            )
        elif not column.nullable and rows.column(name).null_count:
            raise PartitionRefusedError(
                f"{where}: column {name!r} is null in {rows.column(name).null_count:,} rows, and the contract forbids "
                "it; ingest the partition again"
            )
        else:
            columns[name] = rows.column(name)
    return pa.table(columns)


def refuse_evolution(contract: Contract, now: Mapping[str, str], earlier: Mapping[str, str]) -> None:
    """Refuse a contract that is not the one before, but for additions where it allows them."""
    faults = [f"- {name!r} ({kind}) was dropped" for name, kind in earlier.items() if name not in now]
    faults += [
        f"~ {name!r} was {kind}, is {now[name]}" for name, kind in earlier.items() if name in now and now[name] != kind
    ]
    for name in now:
        if name in earlier:
            continue
        if contract.evolution != "additive":
            faults.append(f"+ {name!r} ({now[name]}) is new, and the contract does not say evolution: additive")
        elif not contract.columns[name].nullable:
            faults.append(f"+ {name!r} ({now[name]}) is new and not nullable, and earlier partitions have no value")
    if faults:
        raise PartitionRefusedError(
            f"contract {contract.contract!r} has changed in a way that partitions published before do not meet: "
            f"{'; '.join(faults)}"
        )


def is_of(found: pa.DataType, declared: pa.DataType) -> bool:
    """Return whether values of a type are, without changing what they say, of the declared one."""
    if pa.types.is_null(found):
        return True
    kind = canonical_type(found)
    if kind is not None and pa.types.is_decimal(kind) and pa.types.is_decimal(declared):
        return bool(kind.scale <= declared.scale and kind.precision - kind.scale <= declared.precision - declared.scale)
    return bool(kind == declared)


def canonical_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the one type in which values of this kind are kept; None where there is none."""
    if pa.types.is_dictionary(kind):
        return canonical_type(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pa.types.is_date(kind):
        return pa.date32()
    return kind if pa.types.is_boolean(kind) or pa.types.is_decimal128(kind) else None


_NAMED = {
    str(kind): kind
    for kind in (
        pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.timestamp("us"),
        pa.timestamp("us", tz="UTC"),
    )
}  # fmt: skip


def type_named(text: str) -> pa.DataType | None:
    """Return the canonical type that the ledger names; None where it is none."""
    decimal = re.fullmatch(r"decimal128\((\d+), (-?\d+)\)", text)
    return pa.decimal128(int(decimal[1]), int(decimal[2])) if decimal else _NAMED.get(text)
