"""Operators of the stage rollout: score a partition, start a rollout, run one of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class ScorePartitionOperator(StageOperator):
    """Predict the rows of a partition with the champion, and a challenger under way, without its labels.

    Older partitions that were published anew since, as by a release from quarantine, are scored again by
    the champion from before them. Skips while there is no champion from before the partition.
    """

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.score_partition import corrected_partitions, score_partition

        for corrected in corrected_partitions(workspace, partition):
            again = score_partition(workspace, corrected)
            self.log.info("scored %s again, which was published anew: %s rows", corrected, again["rows"])
        return score_partition(workspace, partition)


class StartRolloutOperator(StageOperator):
    """Start the rollout of the candidate, or go on with the one under way; returns the version."""

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> str:
        """See the class."""
        from airflow_mlops.core.rollout.roll_out import start_rollout

        return start_rollout(workspace, partition)


class RunRolloutStageOperator(StageOperator):
    """Enter a stage of the rollout and look: goes on, holds (skips), or rolls back (fails).

    :param version: what :class:`StartRolloutOperator` returned
    :param index: position of the stage in the declaration, from 0
    """

    template_fields: Sequence[str] = ("partition", "version")

    def __init__(self, *, version: Any, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.index = index

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.roll_out import run_stage

        outcome = run_stage(workspace, str(self.version), self.index, partition)
        self.log.info("version %s at %s: %s", outcome.version, outcome.stage, outcome.reason)
        return outcome.to_dict()
