"""Notice the delivery of one partition under the name of another: rows of another time, or rows that are there already.

It needs no history but the newest partitions, so that it holds from the first partition on.
"""

from __future__ import annotations

from airflow_mlops.core.data.take_snapshot import SnapshotManifest
from airflow_mlops.core.workspace import Workspace

MOST = 0.5
"""Share of the rows from which on those that lie before the partition are a warning."""
COMPARED = 6
"""How many partitions, the newest before this one and the newest of all, are compared with it."""


def misplaced_warnings(workspace: Workspace, manifest: SnapshotManifest) -> list[str]:
    """Return a warning if most rows lie before the partition, and one if another partition has the same rows."""
    warnings = []
    arrived = manifest.rows + manifest.rejected
    if manifest.late > MOST * arrived:
        start = workspace.loop.data.schedule.previous(manifest.partition)
        warnings.append(
            f"{manifest.late:,} of {arrived:,} rows lie before the partition, which goes from {start} to "
            f"{manifest.partition}: is this the delivery of another partition, or is it named by another tick than the "
            "one that closes it?"
        )
    published = workspace.state().published
    others = {*published.last(COMPARED, until=manifest.partition), *published.last(COMPARED)} - {manifest.partition}
    same = [key for key in sorted(others) if published[key].arrived_digest == manifest.content]
    return warnings + [
        f"the rows are those of partition {key}, every one: is it the same delivery twice?" for key in same
    ]
