"""Evolve a contract: refuse incompatible changes, and read earlier partitions under the present contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from airflow_mlops.core.declaration.contract import Contract
from airflow_mlops.core.errors import PartitionRefusedError


def refuse_evolution(contract: Contract, now: Mapping[str, str], earlier: Mapping[str, str]) -> None:
    """Raise PartitionRefusedError if the columns changed in a way that the contract does not allow.

    Parameters
    ----------
    contract : Contract
        The present contract.
    now, earlier : mapping of str to str
        Types by column, of this partition and of the partitions published before.

    Raises
    ------
    PartitionRefusedError
        If a column was dropped or changed its type, or was added although ``evolution`` is not ``additive``.
    """
    faults = [f"- {name!r} ({kind}) was dropped" for name, kind in earlier.items() if name not in now]
    faults += [
        f"~ {name!r} was {kind}, is {now[name]}" for name, kind in earlier.items() if name in now and now[name] != kind
    ]
    for name in now:
        if name in earlier:
            continue
        if contract.evolution != "additive":
            faults.append(f"+ {name!r} ({now[name]}) is new, and the contract does not say evolution: additive")
        elif not contract.stored[name].nullable:
            faults.append(f"+ {name!r} ({now[name]}) is new and not nullable, and earlier partitions have no value")
    if faults:
        raise PartitionRefusedError(
            f"contract {contract.contract!r} has changed in a way that partitions published before do not meet: "
            f"{'; '.join(faults)}"
        )


def apply_contract(rows: pa.Table, contract: Contract, where: str, *, but: str | None = None) -> pa.Table:
    """Return stored rows with the columns of the present contract.

    Columns that are younger than the rows are null; columns that the contract no longer has are left out.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows of one partition, shape (n_rows, n_columns).
    contract : Contract
        The present contract.
    where : str
        Name of the partition, for the error.
    but : str, optional
        Column to leave out.

    Raises
    ------
    PartitionRefusedError
        If a column is missing or null that may not be null, or has another type.
    """
    columns: dict[str, Any] = {}
    for name, column in contract.stored.items():
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
