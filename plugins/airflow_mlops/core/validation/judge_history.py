"""Check a snapshot against the loop's history, and its features for leakage of the label."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
from airflow_mlops.core.data.take_snapshot import SnapshotManifest
from airflow_mlops.core.validation.finding import Finding
from airflow_mlops.core.validation.history_checks import check_history
from airflow_mlops.core.validation.leakage import check_leakage
from airflow_mlops.core.workspace import Workspace

HISTORY = 26
"""Largest number of earlier partitions to compare with; older ones say little about the present."""
SAMPLE_ROWS = 50_000


def judge_history(workspace: Workspace, manifest: SnapshotManifest) -> list[Finding]:
    """Return the findings of the declared checks of a snapshot, as of its partition."""
    data, contract = workspace.loop.data, workspace.contract
    published = workspace.state(before=manifest.partition).published
    earlier = [load_profile(workspace, str(published[key].profile)) for key in published.last(HISTORY)]
    assert manifest.profile is not None, "a snapshot that is validated was profiled"
    findings = check_history(load_profile(workspace, manifest.profile), earlier, data.checks, label=data.label)
    leaks = check_leakage(
        sample_rows(workspace, manifest),
        data.checks.leakage,
        label=data.label,
        key=data.key,
        time=data.time,
        hidden=workspace.hidden | data.key_and_time,
        known_ahead=contract.known_ahead if contract else frozenset(),
        classes=workspace.loop.class_names,
    )
    return [*findings, *leaks]


def load_profile(workspace: Workspace, digest: str) -> PartitionProfile:
    """Return the profile that is stored as evidence under ``digest``."""
    return PartitionProfile.from_dict(workspace.evidence.get(digest))


def sample_rows(workspace: Workspace, manifest: SnapshotManifest) -> pa.Table:
    """Return a uniform sample of the rows of a snapshot in random order; the same for the same snapshot."""
    random = np.random.default_rng(manifest.rows)
    chosen = np.sort(random.choice(manifest.rows, min(manifest.rows, SAMPLE_ROWS), replace=False))
    parts, start = [], 0
    for batch in workspace.snapshots.batches(manifest.partition, version=manifest.version):
        positions = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
        parts.append(batch.take(pa.array(positions)))
        start += batch.num_rows
    return pa.Table.from_batches(parts).take(pa.array(random.permutation(len(chosen))))
