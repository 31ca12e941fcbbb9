"""Apply retention: expire partitions beyond it, and delete files that nothing needs.

Every version of a table that a registered model was made from, that is published, or that was scored, stays
readable. So a partition pinned by a model outlives its retention, and expires with the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_mlops.core.data.point_in_time import history_pins
from airflow_mlops.core.ledger.data_details import PartitionsExpired
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace

TABLES = ("snapshots", "predictions", "quarantine")


@dataclass
class RetentionResult:
    """Partitions that expired, and numbers of deleted files, by table."""

    expired: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


def apply_retention(workspace: Workspace, *, after_hours: int = 24) -> RetentionResult:
    """Expire partitions beyond their retention, record that, and delete the files that nothing needs.

    Parameters
    ----------
    after_hours : int
        Files that became unneeded more recently stay until the next run: an ingest may still use them.
    """
    state, result = workspace.state(), RetentionResult()
    for name in TABLES:
        keys = expired_partitions(workspace, state, name)
        if keys:
            result.expired[name] = keys
    if result.expired:
        newest = state.published.newest()
        operation = f"expired:{newest}:{state.sequence}"
        tables = {name: tuple(keys) for name, keys in result.expired.items()}
        workspace.record_fact(workspace.draft(PartitionsExpired(tables=tables), operation, newest))
    # The record is written before the effect: the next run removes here what a crash left in a table.
    state = workspace.state()
    for name in TABLES:
        table = getattr(workspace, name)
        present = table.partitions()
        for partition in sorted(set(state.expired(name)) & set(present)):
            table.write(partition, table.read(partition).slice(0, 0))
        keep = needed_pins(state, name)
        if name == "snapshots" and workspace.loop.data.features is not None:
            keep = [*keep, *history_pins(workspace.ledger, state)]
        result.files[name] = table.vacuum(keep, after_hours=after_hours)
    return result


def expired_partitions(workspace: Workspace, state: LoopState, table: str) -> list[str]:
    """Return the partitions of a table that are beyond its retention."""
    keep = getattr(workspace.loop.data.retention, table)
    if keep is None or state.published.count() <= keep:
        return []
    oldest = state.published.last(keep)[0]
    if table == "quarantine":
        return sorted(key for key in workspace.quarantine.partitions() if key < oldest)
    return (state.published if table == "snapshots" else state.scored).keys(before=oldest)


def needed_pins(state: LoopState, table: str) -> list[tuple[str, int]]:
    """Return the pairs of partition and version of a table that the ledger still refers to."""
    if table == "predictions":
        return sorted({(key, scored.version) for key, scored in state.scored.items()})
    names = ("quarantine_version", "rejected_version") if table == "quarantine" else ("version", "arrived_version")
    versions = ((key, getattr(published, name)) for key, published in state.published.items() for name in names)
    pins = {(key, int(version)) for key, version in versions if version is not None}
    if table == "snapshots":
        windows = (version.details.window for _, version in state.versions.items())
        pins |= {(pin.partition, pin.version) for window in windows for pin in window.pins}
        pins |= {(key, scored.snapshot_version) for key, scored in state.scored.items()}
    return sorted(pins)


def versions_made_from(state: LoopState, partition: str, version: int) -> list[str]:
    """Return the versions of the model that were fitted or evaluated on this version of a partition."""
    pinned = (partition, version)
    return [
        number
        for number, model in state.versions.items()
        if any((pin.partition, pin.version) == pinned for pin in model.details.window.pins)
    ]
