"""Publish a snapshot: from this ledger record on, the partition may be used."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.data.take_snapshot import SnapshotManifest
from airflow_mlops.core.validation.validate_snapshot import ValidatedSnapshot
from airflow_mlops.core.workspace import Workspace


def publish_snapshot(workspace: Workspace, manifest: SnapshotManifest, validated: ValidatedSnapshot) -> dict[str, Any]:
    """Record that a partition may be used, and return what the record says.

    Publishing the same content again changes nothing.
    """
    details = {
        "version": validated.version,
        "digest": validated.digest,
        "rows": validated.rows,
        "quarantined": validated.quarantined,
        "report": validated.report,
        "arrived_version": manifest.version,
        "arrived_digest": manifest.digest,
        "columns": manifest.columns,
    }
    partition = manifest.partition
    # Numbered, so that content which comes back after another one is published again.
    known = workspace.state().published.get(partition, {"publication": 0, "arrived_digest": None})
    number = known["publication"] + (known["arrived_digest"] != manifest.digest)
    operation = f"snapshot:{partition}:{number}:{manifest.digest}"
    draft = workspace.draft("snapshot_published", operation, partition, evidence=(validated.report,), **details)
    record = workspace.record_fact(draft)
    return {"partition": partition, "record": record.sequence, **record.details}
