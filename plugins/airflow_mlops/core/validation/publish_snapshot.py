"""Publish a snapshot: from this ledger record on, the partition may be used."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.data.take_snapshot import SnapshotManifest
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.validation.validate_snapshot import ValidatedSnapshot
from airflow_mlops.core.workspace import Workspace


def publish_snapshot(workspace: Workspace, manifest: SnapshotManifest, validated: ValidatedSnapshot) -> dict[str, Any]:
    """Record that a partition may be used, and return what the record says.

    Publishing the same content again changes nothing. Where it replaces other content, the record names the
    versions of the model that were made from that.
    """
    details = {
        "version": validated.version, "digest": validated.digest, "rows": validated.rows,
        "quarantined": validated.quarantined, "quarantine_version": validated.quarantine_version,
        "report": validated.report, "suite": validated.suite, "warnings": list(validated.warnings),
        "arrived_version": manifest.version, "arrived_digest": manifest.content,
        "snapshot_digest": manifest.digest, "snapshot_rows": manifest.rows,
        "rejected": manifest.rejected, "rejected_version": manifest.rejected_version,
        "columns": manifest.columns, "contract": manifest.contract, "origin": manifest.origin,
        "profile": manifest.profile, "bins": manifest.bins, "late": manifest.late,
        "erased": manifest.erased, "mask_key": manifest.mask_key,
        "ignored": list(manifest.ignored),
    }  # fmt: skip
    return record_publication(workspace, manifest.partition, details)


def record_publication(workspace: Workspace, partition: str, details: dict[str, Any]) -> dict[str, Any]:
    """Record a publication of a partition, numbered; the one that stands, if its content is the same."""
    state = workspace.state()
    known = state.published.get(partition)
    number = 1 if known is None else known["publication"]
    if known is not None and (known["arrived_digest"], known["digest"]) != (
        details["arrived_digest"],
        details["digest"],
    ):
        number += 1
        details = {
            **details,
            "replaces": known["digest"],
            "outdated": outdated_versions(state, partition, known["digest"]),
        }
    # Numbered, so that content which comes back after another one is published again.
    operation = f"snapshot:{partition}:{number}:{details['arrived_digest']}:{details['digest'][:16]}"
    evidence = tuple(str(details[name]) for name in ("report", "profile") if details[name])
    record = workspace.record_fact(
        workspace.draft("snapshot_published", operation, partition, evidence=evidence, **details)
    )  # fmt: skip
    return {"partition": partition, "record": record.sequence, **record.details}


def outdated_versions(state: LoopState, partition: str, digest: str) -> list[str]:
    """Return the versions of the model that were fitted or judged on this content of a partition."""
    found = []
    for version in state.versions.values():
        window = version.details["window"]
        pins = [*window["fitted"], *window["holdout"]]
        if any(pin["partition"] == partition and pin["digest"] == digest for pin in pins):
            found.append(version.number)
    return found
