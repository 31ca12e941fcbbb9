"""Profile a snapshot in the pass that takes it, on the bins that the loop's first partition gave."""

from __future__ import annotations

from airflow_mlops.core.data.row_hash import HashedRows
from airflow_mlops.core.governance.state import LoopState
from airflow_mlops.core.workspace import Workspace

import pyarrow as pa


class SnapshotProfiler:
    def __init__(self, workspace: Workspace, state: LoopState) -> None:
        pass

    def update(self, batch: pa.RecordBatch, hashed: HashedRows) -> None:
        pass

    def keep(self, partition: str, version: int) -> tuple[str | None, str | None]:
        return None, None
