"""Operators of the stage data: take a snapshot of a partition, publish it, tidy the lake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace
    from airflow_mlops.operators.stage_lineage import StageRun


class TakeSnapshotOperator(StageOperator):
    """Read a partition from its source and keep it as it arrived; returns its manifest.

    Skips where nothing has arrived yet; fails, and records the refusal, where it cannot be used. Fails, too, in a run
    whose key is missing or no tick of ``data.every``.
    """

    def partition_of(self, workspace: Workspace, context: Context) -> str:
        """Return the key of the run; see :meth:`StageOperator.require_partition`."""
        return self.require_partition(workspace, context)

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.validation.judge_in_database import take_judged_snapshot

        return take_judged_snapshot(workspace, partition).to_dict()

    def lineage(self, run: StageRun) -> Datasets:
        """Return the source and the snapshot."""
        from airflow_mlops.core.lineage.data_lineage import snapshot_lineage

        return snapshot_lineage(run.workspace, run.names, run.result)


class PublishSnapshotOperator(StageOperator):
    """Publish a validated partition for use, with a record in the ledger.

    :param manifest: what :class:`TakeSnapshotOperator` returned
    :param validated: what :class:`ValidateSnapshotOperator` returned
    """

    template_fields: Sequence[str] = ("partition", "manifest", "validated")

    def __init__(self, *, manifest: Any, validated: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.validated = validated

    def partition_of(self, workspace: Workspace, context: Context) -> str:
        """Return the partition of the manifest."""
        return str(self.manifest["partition"])

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.data.take_snapshot import SnapshotManifest
        from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
        from airflow_mlops.core.validation.validate_snapshot import ValidatedSnapshot

        published = publish_snapshot(
            workspace, SnapshotManifest.from_dict(self.manifest), ValidatedSnapshot.from_dict(self.validated)
        )
        names = ("version", "digest", "rows", "quarantined")
        figures = {name: getattr(published.details, name) for name in names}
        return {"partition": published.partition, "record": published.sequence, **figures}

    def lineage(self, run: StageRun) -> Datasets:
        """Return the source and the published snapshot."""
        from airflow_mlops.core.lineage.data_lineage import publication_lineage

        return publication_lineage(run.workspace, run.names, run.partition)


class TidyLakeOperator(StageOperator):
    """Delete partitions beyond ``data.retention`` and files that nothing needs; returns their numbers.

    The partitions that a registered version of the model was fitted on stay.
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.data.apply_retention import apply_retention

        retention = apply_retention(workspace)
        return {
            "expired": {table: len(partitions) for table, partitions in retention.expired.items()},
            "files": retention.files,
        }
