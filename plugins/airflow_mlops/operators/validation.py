"""Operator of the stage validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class ValidateSnapshotOperator(StageOperator):
    """Check the declared expectations on a snapshot; bad rows go to quarantine with their reasons.

    :param manifest: what :class:`TakeSnapshotOperator` returned

    Fails, and records the refusal, where more rows are bad than declared.
    """

    template_fields: Sequence[str] = ("partition", "manifest")

    def __init__(self, *, manifest: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.data.take_snapshot import SnapshotManifest
        from airflow_mlops.core.validation.gx_validator import GxValidator
        from airflow_mlops.core.validation.validate_snapshot import validate_snapshot

        return validate_snapshot(workspace, SnapshotManifest.from_dict(self.manifest), GxValidator()).to_dict()
