"""Tidy the lake: let go of partitions beyond their retention, and of files that nothing needs any more.

Every version of a table that a registered model was made from, that is published, or that was scored, stays
readable; so what is pinned for a model outlives its retention, and goes when the model does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_mlops.core.data.point_in_time import looked_back_on
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace

TABLES = ("snapshots", "predictions", "quarantine")


@dataclass
class Tidied:
    """Partitions that expired and files that were deleted, by table."""

    expired: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


def tidy_lake(workspace: Workspace, *, after_hours: int = 24) -> Tidied:
    """Expire what is beyond its retention, record it, and delete the files that nothing needs.

    Parameters
    ----------
    after_hours : int
        Files that became needless less long ago stay for the next time: an ingest may be under way.
    """
    state, done = workspace.state(), Tidied()
    for name in TABLES:
        gone = expired(workspace, state, name)
        if gone:
            done.expired[name] = gone
    if done.expired:
        newest = max(state.published)
        operation = f"expired:{newest}:{state.sequence}"
        workspace.record_fact(workspace.draft("partitions_expired", operation, newest, tables=done.expired))
        fault_point("expired")
    # The record stands before the effect: what a crash left in a table is taken out here by the next run.
    state = workspace.state()
    for name in TABLES:
        table = getattr(workspace, name)
        present = table.partitions()
        for partition in sorted(state.expired.get(name, set()) & set(present)):
            table.write(partition, table.read(partition).slice(0, 0))
        keep = needed(state, name)
        if name == "snapshots" and workspace.loop.data.features is not None:
            keep = [*keep, *looked_back_on(workspace.ledger.records(), state.published)]
        done.files[name] = table.vacuum(keep, after_hours=after_hours)
    return done


def expired(workspace: Workspace, state: LoopState, table: str) -> list[str]:
    """Return the partitions of a table that are older than the newest that its retention keeps."""
    keep = getattr(workspace.loop.data.retention, table)
    published = sorted(state.published)
    if keep is None or len(published) <= keep:
        return []
    oldest = published[-keep]
    present = {"snapshots": state.published, "predictions": state.scored}.get(table)
    keys = workspace.quarantine.partitions() if present is None else present
    return sorted(key for key in keys if key < oldest)


def needed(state: LoopState, table: str) -> list[tuple[str, int]]:
    """Return the partitions of a table, each in a version, that something refers to."""
    if table == "predictions":
        return sorted({(key, int(scored["version"])) for key, scored in state.scored.items()})
    names = ("quarantine_version", "rejected_version") if table == "quarantine" else ("version", "arrived_version")
    found = {
        (key, int(known[name])) for key, known in state.published.items() for name in names if known[name] is not None
    }
    if table == "snapshots":
        found |= {
            (str(pin["partition"]), int(pin["version"]))
            for version in state.versions.values()
            for part in ("fitted", "holdout")
            for pin in version.details["window"][part]
        }
        found |= {(key, int(scored["snapshot_version"])) for key, scored in state.scored.items()}
    return sorted(found)


def made_from(state: LoopState, partition: str, version: int) -> list[str]:
    """Return the versions of the model that were fitted or judged on a partition in this version of the snapshots."""
    return [
        model.number
        for model in state.versions.values()
        for part in ("fitted", "holdout")
        for pin in model.details["window"][part]
        if (str(pin["partition"]), int(pin["version"])) == (partition, version)
    ]
