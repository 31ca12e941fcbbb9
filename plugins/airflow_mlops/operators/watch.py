"""Operators of the stage watch: drift, performance and the decision to retrain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class DetectDriftOperator(StageOperator):
    """Compare the inputs of a scored partition with the champion's training window; returns the verdict."""

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.watch.detect_drift import detect_drift

        return detect_drift(workspace, partition)


class MeasurePerformanceOperator(StageOperator):
    """Measure the served predictions of a partition on the labels that have arrived; returns the verdict."""

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.watch.measure_performance import measure_performance

        return measure_performance(workspace, partition)


class MeasureRegretOperator(StageOperator):
    """Measure what the champion has lost on a partition against a fresh model, which it fits; returns the numbers.

    Only where ``retrain.policy`` asks for regret; otherwise it skips.
    """

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.watch.measure_regret import measure_regret

        found = measure_regret(workspace, partition)
        self.log.info("regret %s: %s", found["regret"], found["reason"])
        return found


class DecideRetrainOperator(StageOperator):
    """Decide whether the newest partition asks for a retrain, record it, and say why.

    :param trigger: who asks: ``watch`` or ``nightly``

    The asset in ``emits`` gets an event only while a decided retrain has not been picked up; its
    extra ``decision`` is the number of the ledger record.
    """

    template_fields: Sequence[str] = ("partition",)

    def __init__(self, *, trigger: Literal["watch", "nightly"], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trigger = trigger

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.watch.decide_retrain import decide_and_record, decision_to_emit

        record = decide_and_record(workspace, partition, trigger=self.trigger)
        self.log.info("retrain %s: %s", record.details["retrain"], record.details["reason"])
        wanted = decision_to_emit(workspace, partition)
        if wanted is not None:
            self.emit(context, decision=wanted.sequence, cause=wanted.details["cause"])
        return {
            "record": record.sequence,
            **{name: record.details[name] for name in ("retrain", "cause", "reason")},
        }
