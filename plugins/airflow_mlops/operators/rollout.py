"""Operators of the stage rollout: score a partition, start a rollout, enter and analyse a stage, roll back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import DownstreamTasksSkipped

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.operators.links import ModelPageLink
from airflow_mlops.operators.stage import StageOperator
from airflow_mlops.operators.stage_lineage import StageRun, rollout_datasets

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.ledger.data_details import PredictionsPublished
    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.ports.batch_predictor import BatchPredictor
    from airflow_mlops.core.rollout.rollback import StageOutcome
    from airflow_mlops.core.workspace import Workspace


class ScorePartitionOperator(StageOperator):
    """Predict the rows of a partition with the champion, and a challenger under way, without its labels.

    Older partitions that were published anew since, as by a release from quarantine, are scored again by
    the champion from before them. Skips while there is no champion from before the partition: only the ledger is read
    then, and no library of data or models imported.

    :param poll_seconds: longest pause between two polls of a job that predicts elsewhere
    :param deferrable: whether to wait for such a job in the triggerer, without a worker slot, or in the worker

    A task that is killed stops the jobs that it has started.
    """

    predictor: BatchPredictor | None = None
    waited: Sequence[str] = ()

    def __init__(self, *, poll_seconds: float = 15.0, deferrable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_seconds = poll_seconds
        self.deferrable = deferrable

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.serving_state import require_champion

        require_champion(workspace, partition)
        from airflow_mlops.core.rollout.score_partition import corrected_partitions

        for corrected in corrected_partitions(workspace, partition):
            again = self._score(workspace, corrected)
            self.log.info("scored %s again, which was published anew: %s rows", corrected, again.rows)
        return {"partition": partition, **self._score(workspace, partition).to_json()}

    def _score(self, workspace: Workspace, partition: str) -> PredictionsPublished:
        """Score a partition, or defer the task until the jobs that do it have ended."""
        from airflow_mlops.core.errors import TransformUnderWayError
        from airflow_mlops.core.rollout.score_partition import score_partition
        from airflow_mlops.hooks.ports import batch_predictor

        self.predictor = batch_predictor(
            workspace, poll_seconds=self.poll_seconds, wait=not self.deferrable, waited=self.waited
        )
        try:
            return score_partition(workspace, partition, self.predictor)
        except TransformUnderWayError as under_way:
            self._wait_for_jobs(workspace, list(under_way.jobs))

    def _wait_for_jobs(self, workspace: Workspace, jobs: list[str]) -> NoReturn:
        """Defer the task until jobs have ended."""
        from airflow_mlops.triggers.transform_jobs import TransformJobsTrigger

        assert workspace.loop.score is not None
        connection = workspace.loop.score.runs_on.connection
        trigger = TransformJobsTrigger(job_names=jobs, poll_seconds=self.poll_seconds, aws_conn_id=connection)
        self.defer(trigger=trigger, method_name="go_on", kwargs={"jobs": jobs})

    def go_on(self, context: Context, event: dict[str, Any] | None = None, *, jobs: list[str]) -> Any:
        """Record the predictions of jobs that have ended."""
        self.log.info("SageMaker jobs %s: %s", ", ".join(jobs), (event or {}).get("statuses"))
        self.waited = jobs
        return self.execute(context)

    def on_kill(self) -> None:
        """Stop the jobs."""
        if self.predictor is not None:
            self.predictor.stop()

    def lineage(self, run: StageRun) -> Datasets:
        """Return the snapshot, the versions and the predictions."""
        from airflow_mlops.core.lineage.model_lineage import score_lineage

        return score_lineage(run.workspace, run.partition)


class StartRolloutOperator(StageOperator):
    """Start the rollout of the candidate, or go on with the one under way; returns the version.

    :param promote_first: whether to promote a version that has no champion to be compared with at once, and to skip
        every task downstream; the asset in ``emits`` then gets an event. By default, in a run without a partition and
        where a stage asks for a person, the tasks of the stages do it: the first one that nobody has to let begin.
    """

    operator_extra_links = (ModelPageLink(),)

    def __init__(self, *, promote_first: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.promote_first = promote_first
        self.rollout_ended = False

    def execute(self, context: Context) -> Any:
        """See the class."""
        version = super().execute(context)
        following = sorted(self.get_flat_relative_ids(upstream=False))
        if self.rollout_ended and following:
            # Airflow keeps no result of a task that ends by an exception.
            context["ti"].xcom_push(key="return_value", value=version)
            raise DownstreamTasksSkipped(tasks=following)
        return version

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> str:
        """See the class."""
        from airflow_mlops.core.ledger.rollout_details import RolloutStarted
        from airflow_mlops.core.rollout.roll_out import roll_out_first, start_rollout

        # In a run without a partition the event of an alias has none either, and would start no Dag of a partition.
        at_once = self.promote_first and context["dag_run"].partition_key is not None
        outcome = roll_out_first(workspace, partition) if at_once else None
        if outcome is not None:
            self.log.info("version %s: %s", outcome.version, outcome.reason)
            self.emit(context, version=outcome.version)
            self.rollout_ended = True
            return outcome.version
        version = start_rollout(workspace, partition)
        started = next(workspace.ledger.records(RolloutStarted, newest_first=True), None)
        for sentence in started.details.plan if started else ():
            self.log.info("%s", sentence)
        return version

    def lineage(self, run: StageRun) -> Datasets:
        """Return the version and the endpoint."""
        return rollout_datasets(run, run.result)


class _AtStageOperator(StageOperator):
    """The base of operators for one stage of a rollout."""

    operator_extra_links = (ModelPageLink(),)
    template_fields: Sequence[str] = ("partition", "version")

    def __init__(self, *, version: Any, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.index = index

    def log_outcome(self, outcome: StageOutcome) -> dict[str, Any]:
        """Log where the rollout stands, and return it as JSON values."""
        self.log.info("version %s at %s: %s", outcome.version, outcome.stage, outcome.reason)
        return outcome.to_dict()

    def lineage(self, run: StageRun) -> Datasets:
        """Return the version and the endpoint."""
        return rollout_datasets(run, str(self.version))


class AdvanceRolloutOperator(_AtStageOperator):
    """Enter a stage of the rollout and apply its traffic; the stage live is the promotion.

    Skips if the stage is not due, and fails if the version was rolled back or the target does not serve the traffic.

    :param version: what :class:`StartRolloutOperator` returned
    :param index: position of the stage in the declaration, from 0
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.roll_out import enter_stage

        outcome = enter_stage(workspace, str(self.version), self.index, partition)
        return self.log_outcome(outcome)


class AnalyseRolloutOperator(_AtStageOperator):
    """Analyse a stage of the rollout: it passes, holds, or rolls back (fails).

    On batch a stage that holds skips, and the next partition analyses it again. On live traffic the task waits until
    the next planned analysis is due, or gross breakage needs a rollback at once; it skips if the stage is not the open
    one, such as after the task was cleared by itself.

    :param version: what :class:`StartRolloutOperator` returned
    :param index: position of the stage in the declaration, from 0
    :param poll_seconds: pause between two polls of the target
    :param deferrable: whether to wait in the triggerer, without a worker slot, or in the worker
    """

    def __init__(self, *, poll_seconds: float = 15.0, deferrable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_seconds = poll_seconds
        self.deferrable = deferrable

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.run_analysis import can_wait, run_analysis

        while True:
            try:
                outcome = run_analysis(workspace, str(self.version), self.index, partition)
            except NotReadyError as error:
                if not can_wait(workspace, str(self.version), self.index, partition):
                    raise
                self._wait(workspace, str(error))
                continue
            return self.log_outcome(outcome)

    def _wait(self, workspace: Workspace, reason: str) -> None:
        self.log.info("%s", reason)
        if not self.deferrable:
            import time

            time.sleep(self.poll_seconds)
            return
        from airflow_mlops.triggers.rollout import LookDueTrigger

        trigger = LookDueTrigger(
            loop=workspace.loop.to_dict(),
            root=self.root,
            version=str(self.version),
            index=self.index,
            poll_seconds=self.poll_seconds,
            connections=[self.lake_conn_id, self.ledger_conn_id, self.registry_conn_id],
        )
        self.defer(trigger=trigger, method_name="look_again")

    def look_again(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Resume the analysis after the trigger has fired."""
        self.log.info("woken: %s", (event or {}).get("reason"))
        return self.execute(context)


class RunRolloutStageOperator(_AtStageOperator):
    """Enter and analyse a stage of the rollout in one task: it passes, holds (skips), or rolls back (fails).

    The short form of :class:`AdvanceRolloutOperator` and :class:`AnalyseRolloutOperator` for the target batch, where
    there is nothing to wait for in between.

    :param version: what :class:`StartRolloutOperator` returned
    :param index: position of the stage in the declaration, from 0
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.roll_out import run_rollout_step

        outcome = run_rollout_step(workspace, str(self.version), self.index, partition)
        return self.log_outcome(outcome)


class RollBackModelOperator(StageOperator):
    """Roll back the rollout under way or, if there is none, the champion; needs neither challenger nor registry.

    A run takes back one version: a retry of the task finishes that rollback, and takes nothing else back.

    :param reason: why, for the ledger
    :param to: number of the version that shall serve; the champion before this one if not given
    """

    template_fields: Sequence[str] = ("partition", "reason", "to")

    def __init__(self, *, reason: str, to: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason
        self.to = to

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.manual_rollback import roll_back_now

        task = context["ti"]
        attempt = f"{task.dag_id}/{task.task_id}/{task.run_id}"
        rollback = roll_back_now(workspace, reason=self.reason, to=self.to or None, attempt=attempt)
        self.log.warning("version %s was taken back; version %s serves", rollback.version, rollback.champion)
        for note in rollback.notes:
            self.log.warning("%s", note)
        return {"version": rollback.version, "champion": rollback.champion, "notes": list(rollback.notes)}

    def lineage(self, run: StageRun) -> Datasets:
        """Return the version that was taken back and the endpoint."""
        return rollout_datasets(run, run.result["version"] if run.result else run.version)
