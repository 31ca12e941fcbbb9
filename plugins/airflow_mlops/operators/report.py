"""The operator that draws what a person opens after an alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_mlops.core.workspace import Workspace


class ReportLink(BaseOperatorLink):
    """The button of a task in the Airflow UI that opens the page which it has drawn."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the page, empty where none was drawn; Airflow asks when the task ends."""
        return str(getattr(operator, "drawn_at", ""))


class RenderReportOperator(StageOperator):
    """Draw the page about a scored partition on which something alarmed, and keep it; without an alarm it skips.

    :param always: draw it whether something alarmed or not
    :param evidently: draw Evidently's page of the inputs too; by default where the inputs alarmed, or ``always``, and
        the extra ``evidently`` is installed

    Returns the digest of each page by its engine, and where the Airflow UI serves it; the task has a button that opens
    it. That Evidently's page cannot be drawn is told and fails nothing.
    """

    operator_extra_links = (ReportLink(),)

    def __init__(self, *, always: bool = False, evidently: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.always = always
        self.evidently = evidently
        self.drawn_at = ""

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.errors import NotReadyError
        from airflow_mlops.core.report.kept_reports import alarms_on, keep_report

        alarmed = alarms_on(workspace, partition)
        if not alarmed and not self.always:
            raise NotReadyError(f"nothing alarmed on {partition}")
        why = f"alarm: {', '.join(alarmed)}" if alarmed else "drawn on every partition"
        kept = {"own": keep_report(workspace, partition, why)}
        self.drawn_at = f"{base_address()}/airflow-mlops/reports/{workspace.loop.model}/{partition}"
        self.log.info("the page is served at %s", self.drawn_at)
        about_inputs = self.always or "drift" in alarmed
        kept |= self._evidently(workspace, partition, why) if self.wants_evidently(about_inputs) else {}
        return {"partition": partition, "page": self.drawn_at, **kept}

    def wants_evidently(self, about_inputs: bool) -> bool:
        """Whether Evidently's page is to be drawn, where the inputs are what a person wants to see or not."""
        from airflow_mlops.core.watch.drift.evidently_extra import evidently_is_installed

        return self.evidently if self.evidently is not None else about_inputs and evidently_is_installed()

    def _evidently(self, workspace: Workspace, partition: str, why: str) -> dict[str, str]:
        """Return the digest of Evidently's page; none where it cannot be drawn, which is told."""
        from airflow_mlops.core.errors import MlopsError
        from airflow_mlops.core.report.kept_reports import keep_report

        try:
            return {"evidently": keep_report(workspace, partition, why, engine="evidently")}
        except MlopsError as error:
            if error.retryable:
                raise
            self.log.warning("Evidently's page was not drawn: %s", error)
            return {}


def base_address() -> str:
    """Return where the Airflow UI is, as it is configured; empty where it is not, so that addresses are relative."""
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
