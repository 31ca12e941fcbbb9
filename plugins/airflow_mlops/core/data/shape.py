"""The shape that a partition must have, and how far an arrival is from it.

Where a contract is declared it is the shape. Without one, the first partition says what columns there
are, and every later one is held to it. Widths are widened and never narrowed (every integer becomes 64
bits wide, every text one kind of text); another kind of value is never turned into the declared one.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import pyarrow as pa

from airflow_mlops.core.data.contract_over_time import refuse_evolution
from airflow_mlops.core.declaration.arrow_types import canonical_type, is_compatible, parse_type
from airflow_mlops.core.declaration.contract import COLUMN_NAME, Contract, first_match
from airflow_mlops.core.declaration.data import Data
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
    for role in ("key", "time", "label") if data.labels is None else ("key", "time"):
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
        if not COLUMN_NAME.match(name):
            raise PartitionRefusedError(
                f"column {name!r} has a name that is refused: 1 to 128 characters, none of < > \" ' ` & ; {{ }}"
                f"{'; is that the delimiter which the file has?' if len(arriving) == 1 else ''}"
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
        if place >= 0 and typed and not text and not is_compatible(arriving.field(place).type, column.source_type):
            faults.append(
                f"column {name!r} has the type {arriving.field(place).type}; the contract says {column.type}"
                f"{'' if column.type != 'time' else f' with zone {column.zone}'}"
            )
        must = not column.nullable or name == contract.key
        rules.append(
            Rule(name, column.source_type, None if place < 0 else place, not must, column.finite, column.mask, text)
        )
    ignored = []
    for name in arriving.names:
        denied = first_match(name, contract.deny)
        if denied:
            faults.append(f"column {name!r} is denied by the contract ({denied!r}) and must not arrive")
        elif name not in contract.columns and first_match(name, contract.ignore):
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
            kind = parse_type(earlier[field.name])
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
