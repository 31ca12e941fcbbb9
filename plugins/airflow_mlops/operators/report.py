"""The operator that renders the report about a partition for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_mlops.operators.links import ModelPageLink
from airflow_mlops.operators.notified import base_address
from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace
    from airflow_mlops.operators.stage_lineage import StageRun


class ReportLink(BaseOperatorLink):
    """The button of a task in the Airflow UI that opens its report."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the page, empty if none was rendered; Airflow calls this when the task ends."""
        return str(getattr(operator, "drawn_at", ""))


class RenderReportOperator(StageOperator):
    """Render and store the report about a scored partition with an alarm; skips without an alarm.

    :param always: whether to render it without an alarm, too
    :param evidently: whether to render Evidently's page of the inputs, too; by default if the inputs alarmed, or
        ``always``, and the extra ``evidently`` is installed

    Returns the digest of each page by its engine, and the address where the Airflow UI serves it; the task has a button
    that opens it. If Evidently's page cannot be rendered, that is logged and the task succeeds.
    """

    operator_extra_links = (ReportLink(), ModelPageLink())

    def __init__(self, *, always: bool = False, evidently: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.always = always
        self.evidently = evidently
        self.drawn_at = ""

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.errors import NotReadyError
        from airflow_mlops.core.report.kept_reports import alarming_checks, keep_report

        alarms = alarming_checks(workspace, partition)
        if not alarms and not self.always:
            raise NotReadyError(f"nothing alarmed on {partition}")
        reason = f"alarm: {', '.join(alarms)}" if alarms else "drawn on every partition"
        digests = {"own": keep_report(workspace, partition, reason)}
        self.drawn_at = f"{base_address()}/airflow-mlops/reports/{workspace.loop.model}/{partition}"
        self.log.info("the page is served at %s", self.drawn_at)
        about_inputs = self.always or "drift" in alarms
        digests |= self._evidently(workspace, partition, reason) if self.wants_evidently(about_inputs) else {}
        return {"partition": partition, "page": self.drawn_at, **digests}

    def lineage(self, run: StageRun) -> Datasets:
        """Return the predictions with the verdicts on them."""
        from airflow_mlops.core.lineage.model_lineage import watch_lineage

        return watch_lineage(run.workspace, run.partition)

    def wants_evidently(self, about_inputs: bool) -> bool:
        """Return whether to render Evidently's page, given whether the report is about the inputs."""
        from airflow_mlops.core.watch.drift.evidently_extra import evidently_is_installed

        return self.evidently if self.evidently is not None else about_inputs and evidently_is_installed()

    def _evidently(self, workspace: Workspace, partition: str, reason: str) -> dict[str, str]:
        """Return the digest of Evidently's page by its engine; empty if it cannot be rendered, which is logged."""
        from airflow_mlops.core.errors import MlopsError
        from airflow_mlops.core.report.kept_reports import keep_report

        try:
            return {"evidently": keep_report(workspace, partition, reason, engine="evidently")}
        except MlopsError as error:
            if error.retryable:
                raise
            self.log.warning("Evidently's page was not drawn: %s", error)
            return {}
