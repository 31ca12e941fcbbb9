"""Validate a snapshot: split good rows from bad, keep the bad with every reason, or refuse it all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.take_snapshot import SnapshotManifest, refusing
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.validation.port import Validator
from airflow_mlops.core.validation.suite import ExpectationResult, read_suite
from airflow_mlops.core.workspace import Workspace

REASONS = "reasons"


@dataclass(frozen=True)
class ValidatedSnapshot:
    """A snapshot whose good rows may be published. ``rows + quarantined`` is what arrived."""

    partition: str
    version: int
    digest: str
    rows: int
    quarantined: int
    report: str

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as JSON values."""
        return dict(vars(self))


def validate_snapshot(workspace: Workspace, manifest: SnapshotManifest, validator: Validator) -> ValidatedSnapshot:
    """Check the declared expectations on a snapshot and put its bad rows into quarantine.

    Raises
    ------
    PartitionRefusedError
        If an expectation about the whole partition fails, or more rows are bad than declared
        (``data.tolerance``). The ledger says so; the bad rows are kept all the same.
    """
    partition = manifest.partition
    known = workspace.state(as_of=partition).published.get(partition)
    if known is not None and manifest.adopted:
        names = ("version", "digest", "rows", "quarantined", "report")
        return ValidatedSnapshot(partition, **{name: known[name] for name in names})
    data = workspace.loop.data
    rows = workspace.snapshots.read(partition, version=manifest.version)
    with refusing(workspace, partition, "validation"):
        expectations = read_suite(workspace.root / data.expectations) if data.expectations else []
        results = validator.check(rows, expectations)
        reasons = reasons_by_row(results)
        report = workspace.evidence.put(
            {
                "partition": partition,
                "arrived": manifest.digest,
                "rows": rows.num_rows,
                "bad_rows": len(reasons),
                "expectations": [result.to_dict() for result in results],
            }
        )
        if reasons:
            workspace.quarantine.write(partition, bad_rows(rows, reasons))
        refuse_whole(results, len(reasons), rows.num_rows, data.tolerance)
    good = rows.filter(pa.array(np.isin(np.arange(rows.num_rows), list(reasons), invert=True)))
    version = workspace.snapshots.write(partition, good) if reasons else manifest.version
    digest = content_digest(good) if reasons else manifest.digest
    return ValidatedSnapshot(partition, version, digest, good.num_rows, len(reasons), report)


def reasons_by_row(results: list[ExpectationResult]) -> dict[int, list[str]]:
    """Return every reason against each bad row, by its position; only critical ones count."""
    reasons: dict[int, list[str]] = {}
    for result in results:
        if result.severity == "critical":
            for row in result.rows:
                reasons.setdefault(row, []).append(result.reason)
    return reasons


def bad_rows(rows: pa.Table, reasons: dict[int, list[str]]) -> pa.Table:
    """Return the bad rows with a column of their reasons as JSON text."""
    positions = sorted(reasons)
    column = pa.array([json.dumps(reasons[position]) for position in positions], pa.string())
    return rows.take(positions).append_column(REASONS, column)


def refuse_whole(results: list[ExpectationResult], bad: int, rows: int, tolerance: float) -> None:
    """Raise :class:`PartitionRefusedError` where the partition as a whole must not be used."""
    for result in results:
        if not result.success and result.severity == "critical" and not result.by_row:
            raise PartitionRefusedError(f"{result.reason} failed for the whole partition; observed {result.observed}")
    if bad > tolerance * rows:
        worst = max((result for result in results if result.by_row), key=lambda result: result.unexpected)
        raise PartitionRefusedError(
            f"{bad:,} of {rows:,} rows are bad ({bad / rows:.2%}); the declared tolerance is {tolerance:.2%}; "
            f"most often {worst.reason} ({worst.unexpected:,} rows); all of them are in quarantine"
        )
