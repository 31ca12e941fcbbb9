"""Operators that ask a person for approval: they wait in ``awaiting_input``, without a worker slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from airflow_mlops.operators.links import ModelPageLink
from airflow_mlops.operators.notified import call_notifiers
from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.workspace import Workspace

APPROVE, REJECT = "Approve", "Reject"


class ApproveVersionOperator(StageOperator, HITLOperator):
    """Ask a person to approve the rollout of the waiting version, once; the answer is recorded in the ledger.

    Somebody who started a run that made the version cannot approve it: the task fails with that reason, and the next
    partition asks again. If rejected, the version is quarantined and the downstream tasks are skipped. Skips if no
    version waits.
    """

    operator_extra_links = (ModelPageLink(),)
    template_fields: Sequence[str] = ("partition",)

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("subject", "May this version be rolled out?")
        super().__init__(options=[APPROVE, REJECT], params={"reason": ""}, **kwargs)

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """Ask, unless the version was approved before."""
        from airflow_mlops.core.rollout.approvals import people_behind, record_question, version_to_approve

        version = version_to_approve(workspace, partition)
        approval = workspace.state().approved.get(version.number)
        if approval is not None:
            return {"version": version.number, "by": approval.details.by}
        starters = sorted({*people_behind(workspace.ledger, version), *filter(None, [started_by(context)])})
        self.subject = f"May version {version.number} of {workspace.loop.model} be rolled out?"
        self.body = format_question(workspace, version, starters)
        record_question(workspace, version, self.subject)
        self.notify_waiting(workspace, context)
        return self.ask(context, version.number)

    def ask(self, context: Context, version: str) -> NoReturn:
        """Defer the task until a person answers about a version."""
        try:
            HITLOperator.execute(self, context)
        except TaskAwaitingInput as waits:
            # The answer may come weeks later, when another version waits: it is about the one that was shown.
            waits.kwargs = {**(waits.kwargs or {}), "shown_version": version}
            raise
        raise AssertionError("unreachable: the task waits")

    def execute_complete(
        self, context: Context, event: dict[str, Any], *, shown_version: str = "none"
    ) -> dict[str, Any]:
        """Record the answer of a person about the version that was shown."""
        answer: Any = HITLOperator.execute_complete(self, context, event)
        names = names_of(answer["responded_by_user"])
        with self.opened(context) as (workspace, partition):
            from airflow_mlops.core.rollout.approvals import record_approval, record_rejection, version_to_approve

            version = version_to_approve(workspace, partition, expected=shown_version)
            if answer["chosen_options"] != [APPROVE]:
                person, reason = names[0] if names else "nobody", str((answer["params_input"] or {}).get("reason", ""))
                record_rejection(workspace, version, person, reason)
                raise AirflowSkipException(f"version {version.number} was rejected by {person}")
            record_approval(workspace, version, names, started_by=started_by(context))
        return {"version": version.number, "by": names[0]}

    def notify_waiting(self, workspace: Workspace, context: Context) -> None:
        """Call the loop's notifiers, since nobody opens the page by chance."""
        waits = UserWarning(f"waiting for a person: {self.subject}")
        call_notifiers(workspace.loop.callbacks, self.root, {**context, "exception": waits})


class ApproveStageOperator(ApproveVersionOperator):
    """Ask a person to approve a stage of the rollout under way, once; the answer is recorded in the ledger.

    Somebody who started a run that made the version cannot approve it. If rejected, the version is rolled back.

    :param index: position of the stage in the declaration, from 0
    """

    def __init__(self, *, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.index = index

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """Ask, unless the stage was approved before."""
        from airflow_mlops.core.rollout.approvals import people_behind, record_question
        from airflow_mlops.core.rollout.control_rollout import stage_to_approve

        rollout, stage = stage_to_approve(workspace, self.index, partition), workspace.loop.rollout.stages[self.index]
        version = rollout.version
        if rollout.stage >= self.index or self.index in rollout.approved:
            return {"version": version.number, "stage": stage.name}
        starters = sorted({*people_behind(workspace.ledger, version), *filter(None, [started_by(context)])})
        self.subject = f"May version {version.number} of {workspace.loop.model} go on to {stage.name}?"
        self.body = "\n\n".join([format_analyses(workspace), format_question(workspace, version, starters)])
        record_question(workspace, version, self.subject, step=stage.name)
        self.notify_waiting(workspace, context)
        return self.ask(context, version.number)

    def execute_complete(
        self, context: Context, event: dict[str, Any], *, shown_version: str = "none"
    ) -> dict[str, Any]:
        """Record the answer of a person about the version that was shown."""
        answer: Any = HITLOperator.execute_complete(self, context, event)
        names = names_of(answer["responded_by_user"])
        with self.opened(context) as (workspace, _):
            from airflow_mlops.core.rollout.control_rollout import approve_stage
            from airflow_mlops.core.rollout.manual_rollback import roll_back_now

            stage = workspace.loop.rollout.stages[self.index]
            if answer["chosen_options"] != [APPROVE]:
                person, reason = names[0] if names else "nobody", str((answer["params_input"] or {}).get("reason", ""))
                state = workspace.state()
                if state.rollout is not None and state.rollout.version.number == shown_version:
                    message = f"{stage.name}: rejected by {person}" + (f": {reason}" if reason else "")
                    roll_back_now(workspace, reason=message, only=shown_version)
                raise AirflowSkipException(f"version {shown_version} was rejected by {person} before {stage.name}")
            approve_stage(workspace, self.index, names, version=shown_version, started_by=started_by(context))
        return {"version": shown_version, "stage": stage.name, "by": names[0]}


def format_analyses(workspace: Workspace) -> str:
    """Return the verdicts of the rollout under way as a Markdown list."""
    from airflow_mlops.core.ledger.rollout_details import StageAnalysed
    from airflow_mlops.core.report.page_html import escape_markdown

    rollout = workspace.state().rollout
    if rollout is None:
        return ""
    analyses = (record.details for record in workspace.ledger.records(StageAnalysed, after=rollout.record))
    return "\n".join(
        f"- {analysis.name}: {analysis.verdict}: {escape_markdown(analysis.reason)}"
        for analysis in analyses
        if analysis.rollout == rollout.record
    )


def names_of(user: dict[str, Any] | None) -> tuple[str, ...]:
    """Return name and id of the person who answered."""
    return tuple(str((user or {})[part]) for part in ("name", "id") if (user or {}).get(part))


def started_by(context: Context) -> str | None:
    """Return the name of the person who started the run; None if an asset or the clock did."""
    name = context["dag_run"].triggering_user_name
    return None if name is None else str(name)


def format_question(workspace: Workspace, version: Version, starters: list[str]) -> str:
    """Return the question as Markdown: the reason of the version, its gates, and who cannot approve it."""
    # Reasons hold values of the user's data, which may hold anything.
    from airflow_mlops.core.report.page_html import escape_markdown

    decision = workspace.ledger.record(version.chosen_by)
    reason = str(decision.details.reason) if decision else "unknown"
    report, name = version.judged_in
    candidates = workspace.evidence.get(str(report))["candidates"]
    entry = next(candidate for candidate in candidates if candidate["candidate"] == name)
    recalled = "" if version.recall is None else f", and recalled as of {version.recall.partition}"
    lines = [
        f"Made as of {version.partition}{recalled}, because: {escape_markdown(reason)}.",
        "",
        *(f"- {gate['verdict']}: {escape_markdown(gate['reason'])}" for gate in entry["gates"]),
        "",
        f"The whole story: `airflow-mlops card {workspace.loop.model} {version.number}`.",
    ]
    if starters:
        lines += ["", f"Cannot approve it, having started it: {escape_markdown(', '.join(starters))}."]
    return "\n".join(lines)
