"""The records of a ledger and the rows of a table, for a comparison of two engines."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.workspace import Workspace


def facts(workspace: Workspace) -> list[tuple[Any, ...]]:
    """Return the records of a ledger without their times and hashes."""
    return [fact(record) for record in workspace.ledger.records()]


def fact(record: Record[Any]) -> tuple[Any, ...]:
    """Return a record without its time and hashes."""
    return record.sequence, record.kind, record.operation, record.partition, record.evidence, record.details.to_json()


def rows_of(workspace: Workspace, table: str) -> dict[str, tuple[pa.Schema, str]]:
    """Return the columns and the rows of each partition of a table, in their order; as text, a NaN equals a NaN."""
    partitions = getattr(workspace, table)
    rows = {key: partitions.read(key) for key in partitions.partitions()}
    return {key: (partition.schema, repr(partition.to_pylist())) for key, partition in rows.items()}
