"""The shape of a partition: its columns and their rules, and the check of an arrival against them.

The contract gives the shape. Without one, the first partition does, and every later partition must have its columns.
Values are widened and never narrowed (every integer becomes 64 bits wide, every text one type of text), and a value of
another kind is never converted.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import pyarrow as pa

from airflow_mlops.core.data.contract_over_time import refuse_evolution
from airflow_mlops.core.declaration.arrow_types import canonical_type, is_compatible, parse_type
from airflow_mlops.core.declaration.contract import COLUMN_NAME, RESERVED_NAMES, Contract, first_match, normal_name
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.declaration.key_columns import is_joined, key_columns
from airflow_mlops.core.errors import PartitionRefusedError


@dataclass(frozen=True)
class Rule:
    """The rules of one column.

    ``source`` is its position in the arrival; None for an optional column that is missing. ``text`` is true if its
    values are parsed from text although the source has types. ``format`` and ``clock`` are the form of its times, and
    the zone of those that state none. ``levels`` are the values outside of which a row is bad. ``joins`` are the
    columns that a key column is made of.
    """

    name: str
    kind: pa.DataType
    source: int | None
    nullable: bool = True
    finite: bool = True
    mask: bool = False
    text: bool = False
    format: str | None = None
    clock: str | None = None
    levels: tuple[str, ...] | None = None
    joins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shape:
    """The columns of a partition in the order in which they are stored, and the rules of the contract for rows."""

    rules: tuple[Rule, ...]
    typed: bool
    nulls: tuple[str, ...] = ()
    late: str = "accept"
    early: str = "accept"
    ignored: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The stored columns."""
        return pa.schema([pa.field(rule.name, pa.string() if rule.mask else rule.kind) for rule in self.rules])

    @property
    def columns(self) -> dict[str, str]:
        """The stored columns and their types, by their names in the ledger."""
        return {field.name: str(field.type) for field in self.schema}


def derive_shape(
    data: Data,
    contract: Contract | None,
    arriving: pa.Schema,
    earlier: Mapping[str, str] | None,
    *,
    typed: bool,
    texts: Set[str] = frozenset(),
    untyped: Set[str] = frozenset(),
) -> Shape:
    """Return the shape of an arrival.

    Parameters
    ----------
    data : Data
        The declared key, time and label.
    contract : Contract, optional
        The declared columns.
    arriving : pyarrow.Schema
        The columns as they arrive.
    earlier : mapping of str to str, optional
        Columns and types of the partitions published before; None for the first.
    typed : bool
        Whether the source has types.
    texts : set of str
        Columns of a typed source in which dates and times are text.
    untyped : set of str
        Columns of a typed source in which every value is text.

    Raises
    ------
    PartitionRefusedError
        With every difference between the columns and the contract, or the partitions before.
    """
    refuse_names(arriving if contract is None else unknown_columns(contract, arriving))
    roles = [*(("key", name) for name in data.key_columns), ("time", data.time)]
    for role, column in [*roles, ("label", data.label)] if data.labels is None else roles:
        if contract is None and column not in arriving.names:
            raise PartitionRefusedError(
                f"column {column!r}, the declared {role}, is missing; there are {', '.join(arriving.names)}"
            )
    shape = (
        shape_from_contract(contract, arriving, typed=typed, texts=texts, untyped=untyped, nulls=data.text_form.nulls)
        if contract
        else shape_from_rows(arriving, earlier, data)
    )
    if contract is not None and earlier is not None:
        refuse_evolution(contract, shape.columns, earlier)
    return shape


def unknown_columns(contract: Contract, arriving: pa.Schema) -> pa.Schema:
    """Return the arriving columns that the contract neither reads under another name nor ignores."""
    renamed = {normal_name(str(column.from_)) for column in contract.columns.values() if column.from_ is not None}
    return pa.schema(
        [
            field
            for field in arriving
            if normal_name(field.name) not in renamed
            and (normal_name(field.name) in contract.columns or first_match(field.name, contract.ignore) is None)
        ]
    )


def refuse_names(arriving: pa.Schema) -> None:
    """Raise PartitionRefusedError for names that repeat, are reserved by stores, or hold characters of markup."""
    names = [normal_name(name) for name in arriving.names]
    for name in names:
        if names.count(name) > 1:
            raise PartitionRefusedError(f"column {name!r} stands there {names.count(name)} times")
        if name in RESERVED_NAMES:
            raise PartitionRefusedError(
                f"column {name!r} has a name that snapshots need; declare it in the contract under another name, with "
                f"from: {name!r}, or ignore it"
            )
        if not COLUMN_NAME.match(name):
            raise PartitionRefusedError(
                f"column {name!r} has a name that is refused: 1 to 128 characters, none of < > \" ' ` & ; {{ }}; "
                f"declare it in the contract under another name, with from: {name!r}, or ignore it"
                f"{'; is that the delimiter which the file has?' if len(arriving) == 1 else ''}"
            )


def shape_from_contract(
    contract: Contract,
    arriving: pa.Schema,
    *,
    typed: bool,
    texts: Set[str] = frozenset(),
    untyped: Set[str] = frozenset(),
    nulls: tuple[str, ...] | None = None,
) -> Shape:
    """Return the shape that a contract declares for these columns; see :func:`derive_shape`.

    ``nulls`` are the texts that mean null; those of the contract if None.
    """
    faults: list[str] = []
    rules: list[Rule] = []
    places = {normal_name(name): place for place, name in enumerate(arriving.names)}
    for name, column in contract.columns.items():
        place = places.get(contract.arriving[name])
        if place is None:
            if not column.optional:
                arrives = "" if column.from_ is None else f", which arrives as {column.from_!r},"
                faults.append(f"column {name!r}{arrives} ({column.type} in the contract) is missing")
            rules.append(_rule_from_contract(contract, name, None, text=False))
            continue
        kind = arriving.field(place).type
        text = name in untyped or (name in texts and column.type in ("date", "time") and pa.types.is_string(kind))
        is_clock = column.clock is not None and pa.types.is_timestamp(kind) and kind.tz is None
        if typed and not text and not is_clock and not is_compatible(kind, column.source_type):
            zone = f" with zone {column.zone}" if column.type == "time" else ""
            faults.append(f"column {name!r} has the type {kind}; the contract says {column.type}{zone}")
        rules.append(_rule_from_contract(contract, name, place, text=text))
    new_faults, ignored = _sort_new_columns(contract, arriving)
    faults += new_faults
    if faults:
        raise PartitionRefusedError(
            f"the columns differ from contract {contract.contract!r}: {'; '.join(faults)}. Correct the delivery, or "
            "change the contract by review"
        )
    nulls = contract.nulls if nulls is None else nulls
    rules += key_rules(contract.key)
    return Shape(tuple(rules), typed, nulls, contract.late, contract.early, tuple(ignored))


def _rule_from_contract(contract: Contract, name: str, source: int | None, *, text: bool) -> Rule:
    column = contract.columns[name]
    # A row without its time belongs to no partition, as one without its key is no row.
    is_required = not column.nullable or name in (*key_columns(contract.key), contract.time)
    return Rule(
        name,
        column.source_type,
        source,
        not is_required,
        column.finite,
        column.mask,
        text,
        column.format,
        column.clock,
        column.levels if column.unseen == "error" else None,
    )


def key_rules(key: str) -> list[Rule]:
    """Return the rule of the key column of a key of several columns; none for a key of one column."""
    return [Rule(str(key), pa.string(), None, nullable=False, joins=key_columns(key))] if is_joined(key) else []


def _sort_new_columns(contract: Contract, arriving: pa.Schema) -> tuple[list[str], list[str]]:
    """Return the faults of columns that the contract does not declare, and the names of those that it ignores."""
    faults, ignored = [], []
    declared = set(contract.arriving.values())
    for name in arriving.names:
        denied = first_match(name, contract.deny)
        if denied is not None:
            faults.append(f"column {name!r} is denied by the contract ({denied!r}) and must not arrive")
        elif normal_name(name) not in declared and first_match(name, contract.ignore) is not None:
            ignored.append(name)
        elif normal_name(name) not in declared:
            faults.append(f"column {name!r} ({arriving.field(name).type}) is new; the contract has no such column")
    return faults, ignored


def shape_from_rows(arriving: pa.Schema, earlier: Mapping[str, str] | None, data: Data) -> Shape:
    """Return the shape of typed rows without a contract; see :func:`derive_shape`."""
    joined = key_rules(data.key)
    rules, faults = [], case_twins(arriving.names)
    faults += [
        f"column {name!r} has the name of the column that holds the whole key {', '.join(data.key_columns)}: declare a "
        "contract that names it otherwise with from:, or ignores it"
        for name in arriving.names
        if joined and name.casefold() == data.key.casefold()
    ]
    for place, field in enumerate(arriving):
        kind = canonical_type(field.type)
        if earlier is not None and field.name in earlier and pa.types.is_null(field.type):
            kind = parse_type(earlier[field.name])
        if kind is None:
            faults.append(
                f"column {field.name!r} holds nothing but nulls, which have no type: declare a contract"
                if pa.types.is_null(field.type)
                else f"column {field.name!r} has the type {field.type}; text, numbers, booleans, dates, times are kept"
            )
            continue
        rules.append(Rule(field.name, kind, place, nullable=field.name not in data.key_and_time))
    rules += joined
    if earlier is not None:
        types = {rule.name: str(rule.kind) for rule in rules}
        faults += _differences(types, earlier, [*arriving.names, *types])
    if faults:
        raise PartitionRefusedError("; ".join(faults))
    return Shape(tuple(rules), typed=True)


def case_twins(names: list[str]) -> list[str]:
    """Return the faults of names that differ from an earlier one only in case."""
    first: dict[str, str] = {}
    return [
        f"columns {first[name.casefold()]!r} and {name!r} differ only in case, and tables keep one of them: declare a "
        "contract that names one with from:, or ignores it"
        for name in names
        if first.setdefault(name.casefold(), name) != name
    ]


def _differences(types: Mapping[str, str], earlier: Mapping[str, str], arriving: list[str]) -> list[str]:
    """Return the differences between the columns of a partition and of those before; ``arriving`` are all names."""
    faults = []
    for name, before in earlier.items():
        if name not in arriving:
            faults.append(f"column {name!r} ({before} in the partitions before) is missing")
        elif name in types and types[name] != before:
            faults.append(f"column {name!r} has the type {types[name]}; the partitions before have {before}")
    new = [name for name in types if name not in earlier]
    return faults + [f"column {name!r} is new; the partitions before have no such column" for name in new]
