"""Publish a snapshot: the ledger record that makes the partition usable."""

from __future__ import annotations

from dataclasses import replace

from airflow_mlops.core.data.origin import EVIDENCE
from airflow_mlops.core.data.take_snapshot import SnapshotManifest, personal_columns
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.validation.validate_snapshot import ValidatedSnapshot
from airflow_mlops.core.workspace import Workspace


def publish_snapshot(
    workspace: Workspace, manifest: SnapshotManifest, validated: ValidatedSnapshot
) -> Record[SnapshotPublished]:
    """Publish a validated snapshot, and return the record.

    Publishing the same content again changes nothing. If it replaces other content, the record names the versions of
    the model that were made from the old content.
    """
    details = SnapshotPublished(
        version=validated.version,
        digest=validated.digest,
        rows=validated.rows,
        quarantined=validated.quarantined,
        quarantine_version=validated.quarantine_version,
        report=validated.report,
        suite=validated.suite,
        warnings=validated.warnings,
        arrived_version=manifest.version,
        arrived_digest=manifest.content,
        snapshot_digest=manifest.digest,
        snapshot_rows=manifest.rows,
        rejected=manifest.rejected,
        rejected_version=manifest.rejected_version,
        columns=manifest.columns,
        contract=manifest.contract,
        origin=manifest.origin,
        profile=manifest.profile,
        bins=manifest.bins,
        late=manifest.late,
        erased=manifest.erased,
        mask_key=manifest.mask_key,
        ignored=manifest.ignored,
    )
    return record_publication(workspace, manifest.partition, details)


def record_publication(workspace: Workspace, partition: str, details: SnapshotPublished) -> Record[SnapshotPublished]:
    """Record the publication of a partition and return the record; the existing one if the content is the same.

    If it replaces other content, it names the versions of the model that were made from the old content.
    """
    state = workspace.state()
    previous = state.published.get(partition)
    number = 1 if previous is None else previous.publication or 1
    if previous is not None and (previous.arrived_digest, previous.digest) != (details.arrived_digest, details.digest):
        number += 1
        outdated = tuple(outdated_versions(state, partition, previous.digest))
        details = replace(details, replaces=previous.digest, outdated=outdated)
    # Numbered, so that content which returns after other content is published again.
    operation = f"snapshot:{partition}:{number}:{details.arrived_digest}:{details.digest[:16]}"
    evidence = tuple(digest for digest in (details.report, details.profile, details.origin.get(EVIDENCE)) if digest)
    # What stays in quarantine after a release may have come under an earlier contract.
    personal = tuple(sorted({*personal_columns(workspace), *(details.personal or ())}))
    details = replace(details, publication=None, personal=personal)
    return workspace.record_fact(workspace.draft(details, operation, partition, evidence=evidence))


def outdated_versions(state: LoopState, partition: str, digest: str) -> list[str]:
    """Return the versions of the model that were fitted or evaluated on this content of a partition."""
    pinned = (partition, digest)
    return [
        number
        for number, version in state.versions.items()
        if any((pin.partition, pin.digest) == pinned for pin in version.details.window.pins)
    ]
