"""Take a snapshot: read a partition from its source, check its structure, keep it in full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.errors import DataError, NotReadyError, PartitionRefusedError
from airflow_mlops.core.governance.state import LoopState
from airflow_mlops.core.loop import Loop
from airflow_mlops.core.workspace import Workspace

RESERVED = ("partition", "reasons")  # what stores and the quarantine add to the rows of a partition


@dataclass(frozen=True)
class SnapshotManifest:
    """A partition as it arrived: where it is kept and what it holds."""

    partition: str
    version: int
    digest: str
    rows: int
    columns: dict[str, str]
    adopted: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return asdict(self)


def take_snapshot(workspace: Workspace, partition: str) -> SnapshotManifest:
    """Keep the rows of a partition as they arrived and return their manifest.

    The same content again adopts the snapshot that was published before.

    Raises
    ------
    SourceMissingError
        If there is nothing yet.
    DataError
        If what is there cannot be read or used; the ledger says so too.
    """
    with refusing(workspace, partition, "snapshot"):
        rows = workspace.source.read(partition)
        state = workspace.state(as_of=partition)
        check_structure(rows, workspace.loop, earlier_columns(state, partition))
        digest = content_digest(rows)
        known = state.published.get(partition)
        adopted = known is not None and known["arrived_digest"] == digest
        version = int(known["arrived_version"]) if known and adopted else workspace.snapshots.write(partition, rows)
    return SnapshotManifest(partition, version, digest, rows.num_rows, columns_of(rows), adopted=adopted)


@contextmanager
def refusing(workspace: Workspace, partition: str, stage: str) -> Iterator[None]:
    """Record in the ledger that a partition was refused, and let the error go on."""
    try:
        yield
    except NotReadyError:
        raise
    except DataError as error:
        reason = str(error)
        # Numbered like publications, so that the same fault after a good delivery is told again.
        number = workspace.state().published.get(partition, {"publication": 0})["publication"]
        operation = f"refused:{partition}:{number}:{sha256(reason.encode()).hexdigest()[:16]}"
        workspace.record_fact(workspace.draft("partition_refused", operation, partition, stage=stage, reason=reason))
        raise


def check_structure(rows: pa.Table, loop: Loop, earlier: dict[str, str] | None) -> None:
    """Refuse a table that cannot be a partition of this loop, naming the column and the rule.

    Parameters
    ----------
    rows : pyarrow.Table
        The rows as they arrived.
    loop : Loop
        Names the key, the time and the label.
    earlier : dict of str to str, or None
        Columns and types of the partitions published before; None for the first.

    Raises
    ------
    PartitionRefusedError
    """
    if rows.num_rows == 0:
        raise PartitionRefusedError("the partition is empty: 0 rows arrived")
    twice = sorted({name for name in rows.column_names if rows.column_names.count(name) > 1})
    if twice:
        raise PartitionRefusedError(f"column {twice[0]!r} stands there {rows.column_names.count(twice[0])} times")
    for name in RESERVED:
        if name in rows.column_names:
            raise PartitionRefusedError(f"column {name!r} has a name that snapshots need; rename it at the source")
    for role in ("key", "time", "label"):
        column = getattr(loop.data, role)
        if column not in rows.column_names:
            raise PartitionRefusedError(
                f"column {column!r}, the declared {role}, is missing; the file has {', '.join(rows.column_names)}"
            )
    if earlier is not None:
        check_columns(columns_of(rows), earlier)
    check_key(rows.column(loop.data.key), loop.data.key)


def check_columns(found: dict[str, str], earlier: dict[str, str]) -> None:
    """Refuse columns that are missing, new, or of another type than in the partitions before."""
    for name, kind in earlier.items():
        if name not in found:
            raise PartitionRefusedError(f"column {name!r} ({kind} in the partitions before) is missing")
        if found[name] != kind:
            raise PartitionRefusedError(
                f"column {name!r} has the type {found[name]}; the partitions before have {kind}"
            )
    new = sorted(set(found) - set(earlier))
    if new:
        raise PartitionRefusedError(f"column {new[0]!r} is new; the partitions before have no such column")


def check_key(column: pa.ChunkedArray, name: str) -> None:
    """Refuse keys that are null or stand there more than once."""
    if column.null_count:
        raise PartitionRefusedError(f"key {name!r} is null in {column.null_count:,} of {len(column):,} rows")
    counts = pc.value_counts(column)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        example = repeated[0].as_py()
        raise PartitionRefusedError(
            f"key {name!r} is not unique: {len(repeated):,} keys repeat, "
            f"for example {example['values']!r} {example['counts']} times"
        )


def columns_of(rows: pa.Table) -> dict[str, str]:
    """Return the name and type of each column, with one word for all ways to hold text."""
    return {field.name: str(field.type).replace("large_string", "string") for field in rows.schema}


def earlier_columns(state: LoopState, partition: str) -> dict[str, str] | None:
    """Return the columns of the oldest partition published up to this one, or None.

    A partition that is replaced keeps its own columns: a store would change types without a word.
    """
    before = [key for key in state.published if key <= partition]
    return dict(state.published[min(before)]["columns"]) if before else None
