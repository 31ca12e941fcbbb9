"""Operators of the stage evaluation: judge the candidates, require the gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.links import MlflowRunLink, ModelPageLink
from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace
    from airflow_mlops.operators.stage_lineage import StageRun


class EvaluateCandidatesOperator(StageOperator):
    """Judge the candidates and the champion on the same holdout; returns the best one's report.

    The log and the XCom ``gates`` show all its gates as a table.

    :param fits: what the mapped :class:`FitCandidateOperator` tasks returned
    """

    operator_extra_links = (ModelPageLink(), MlflowRunLink())
    template_fields: Sequence[str] = ("partition", "fits")

    def __init__(self, *, fits: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fits = fits

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
        from airflow_mlops.core.training.assemble import stored_request

        fits = [self.fits[index] for index in range(len(self.fits))]
        evaluated = evaluate_candidates(workspace, stored_request(workspace, fits[0]["request"]), fits)
        if evaluated.get("run"):
            self.note_mlflow_page(MlflowRunLink.name, evaluated["run"])
        show_gates(self, workspace, evaluated, context)
        return evaluated

    def lineage(self, run: StageRun) -> Datasets:
        """Return the holdout, the candidates and the champion."""
        from airflow_mlops.core.lineage.model_lineage import evaluation_lineage
        from airflow_mlops.core.training.assemble import stored_request

        fits = [self.fits[index] for index in range(len(self.fits))]
        return evaluation_lineage(run.workspace, stored_request(run.workspace, fits[0]["request"]).window, fits)


class RequireGatesOperator(StageOperator):
    """Fail, with the numbers, unless all gates of a candidate passed.

    The log and the XCom ``gates`` show all gates as a table, whether they passed or not.

    :param evaluated: what :class:`EvaluateCandidatesOperator` returned
    """

    operator_extra_links = (ModelPageLink(),)
    template_fields: Sequence[str] = ("partition", "evaluated")

    def __init__(self, *, evaluated: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluated = evaluated

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> None:
        """See the class."""
        from airflow_mlops.core.evaluation.evaluate_candidates import require_gates
        from airflow_mlops.core.training.assemble import stored_request

        show_gates(self, workspace, self.evaluated, context)
        require_gates(workspace, stored_request(workspace, self.evaluated["request"]), self.evaluated)

    def lineage(self, run: StageRun) -> Datasets:
        """Return the holdout, the candidate and the champion."""
        from airflow_mlops.core.lineage.model_lineage import evaluation_lineage
        from airflow_mlops.core.training.assemble import stored_request

        window = stored_request(run.workspace, self.evaluated["request"]).window
        return evaluation_lineage(run.workspace, window, [self.evaluated])


def show_gates(operator: StageOperator, workspace: Workspace, evaluated: dict[str, Any], context: Context) -> None:
    """Log all gates of a candidate, the passed ones too, and push the table as the XCom ``gates``."""
    from airflow_mlops.core.evaluation.gate_report import gate_table

    report = workspace.evidence.get(evaluated["report"])
    baseline = (
        "this is the first run: there is no champion to compare with"
        if report["first_run"]
        else (report["champion_failed"] or f"compared with version {report['champion']} on the same rows")
    )
    for entry in report["candidates"]:
        if "error" in entry:
            operator.log.warning("candidate %s could not be judged: %s", entry["candidate"], entry["error"])
    table = gate_table(evaluated["gates"])
    operator.log.info(
        "candidate %s, %s rows; %s; %s\n%s",
        evaluated["candidate"],
        report["rows"],
        baseline,
        report["looks"]["words"],
        table,
    )
    for gate in evaluated["gates"]:
        operator.log.info("gate %s: %s", gate["verdict"], gate["reason"])
    context["ti"].xcom_push(key="gates", value=table)
