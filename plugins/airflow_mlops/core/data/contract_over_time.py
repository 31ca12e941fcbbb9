"""A contract that changes: what later partitions may add, and what earlier ones are to those who use them today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from airflow_mlops.core.declaration.contract import Contract
from airflow_mlops.core.errors import PartitionRefusedError


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
            columns[name] = pa.nulls(rows.num_rows, column.stored_type)
        elif rows.schema.field(name).type != column.stored_type:
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
