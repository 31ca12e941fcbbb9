"""Operators of the stage training: assemble the request, fit each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.errors import FitUnderWayError
    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.ports.step_runner import StepRunner
    from airflow_mlops.core.workspace import Workspace
    from airflow_mlops.operators.stage_lineage import StageRun


class AssembleTrainingOperator(StageOperator):
    """Pick up the open decision to retrain, pin the window and list the candidates.

    Returns one assignment for each candidate, to map over: its name and the digest of the request,
    which is stored as evidence. Skips if no decision is open.

    :param by_hand: whether the run itself asks for a retrain if none is open, by the same policy; by
        default it does if a person started it
    """

    def __init__(self, *, by_hand: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by_hand = by_hand

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> list[dict[str, Any]]:
        """See the class."""
        from airflow_mlops.core.retrain.decide_retrain import decide_by_hand
        from airflow_mlops.core.training.assemble import assemble_training

        by_hand = context["dag_run"].run_type == "manual" if self.by_hand is None else self.by_hand
        if by_hand:
            decide_by_hand(workspace, partition)
        request = assemble_training(workspace, partition)
        for name, reason in (request.refused or {}).items():
            self.log.warning("candidate %s is not fitted: %s", name, reason)
        digest = workspace.evidence.put(request.to_dict())
        return [{"request": digest, "candidate": name} for name in request.candidates]

    def lineage(self, run: StageRun) -> Datasets:
        """Return the partitions of the window."""
        from airflow_mlops.core.lineage.model_lineage import window_lineage
        from airflow_mlops.core.training.assemble import stored_request

        digests = {assignment["request"] for assignment in run.result or []}
        windows = [stored_request(run.workspace, digest).window for digest in digests]
        return window_lineage(run.workspace, windows)


class FitCandidateOperator(StageOperator):
    """Fit one candidate on the pinned window, on the declared runner; returns the digest of its model file.

    Where there are several, one whose fit fails is left out: the task succeeds and returns its ``error``, and the
    evaluation judges the others.

    :param assignment: one of those that :class:`AssembleTrainingOperator` returned
    :param poll_seconds: longest pause between two polls of a job that runs elsewhere
    :param deferrable: whether to wait for such a job in the triggerer, without a worker slot, or in the worker

    A task that is killed stops the process or the job that it has started.
    """

    template_fields: Sequence[str] = ("partition", "assignment")
    runner: StepRunner | None = None
    first: int | None = None

    def __init__(self, *, assignment: Any, poll_seconds: float = 15.0, deferrable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.assignment = assignment
        self.poll_seconds = poll_seconds
        self.deferrable = deferrable

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.errors import FitUnderWayError
        from airflow_mlops.core.training.assemble import stored_request
        from airflow_mlops.core.training.fit_candidate import fit_candidate
        from airflow_mlops.hooks.ports import step_runner

        digest, candidate = self.assignment["request"], self.assignment["candidate"]
        self.runner = step_runner(workspace, poll_seconds=self.poll_seconds, wait=not self.deferrable, first=self.first)
        try:
            fitted = fit_candidate(workspace, stored_request(workspace, digest), candidate, self.runner)
        except FitUnderWayError as under_way:
            self._wait_for_job(workspace, under_way)
        if "error" in fitted:
            self.log.error("candidate %s is left out, and the others go on: %s", fitted["candidate"], fitted["error"])
        return {"request": digest, **fitted}

    def _wait_for_job(self, workspace: Workspace, under_way: FitUnderWayError) -> NoReturn:
        """Defer the task until a job has ended."""
        from airflow_mlops.core.declaration.train import OnSageMaker
        from airflow_mlops.triggers.training_job import TrainingJobTrigger

        place = workspace.loop.train.runs_on
        assert isinstance(place, OnSageMaker)
        trigger = TrainingJobTrigger(
            job_name=under_way.job, poll_seconds=self.poll_seconds, aws_conn_id=place.connection
        )
        self.defer(trigger=trigger, method_name="go_on", kwargs={"first": under_way.first})

    def go_on(self, context: Context, event: dict[str, Any] | None = None, *, first: int) -> Any:
        """Fetch the model of a job that has ended, or start the next job."""
        self.log.info("SageMaker job: %s", (event or {}).get("status"))
        self.first = first
        return self.execute(context)

    def on_kill(self) -> None:
        """Stop the process or job of the fit."""
        if self.runner is not None:
            self.runner.stop()

    def lineage(self, run: StageRun) -> Datasets:
        """Return the fitted partitions and the candidate."""
        from airflow_mlops.core.lineage.model_lineage import fit_lineage
        from airflow_mlops.core.training.assemble import stored_request

        request = stored_request(run.workspace, self.assignment["request"])
        return fit_lineage(run.workspace, request.of_candidate(self.assignment["candidate"]).window, run.result)
