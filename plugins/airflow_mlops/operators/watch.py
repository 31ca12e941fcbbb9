"""Operators of the stage watch: drift, performance and the decision to retrain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import Asset

from airflow_mlops.operators.notified import Notify, call_notifiers
from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace
    from airflow_mlops.operators.stage_lineage import StageRun


class ProfilePartitionOperator(StageOperator):
    """Profile a partition on the bins of the champion's training window, and store the profile as evidence.

    :param conn_id: connection of a database that counts a table instead of the partition's features
    :param table: name of that table, whose columns are the features, as the database has it
    :param schema: schema of the table
    :param time: column of the table by which a row belongs to the partition; all rows if not given

    Returns the digest of the profile, its rows, and the columns that are missing, new or of another type. Profiles on
    the same bins can be added.
    """

    template_fields: Sequence[str] = ("partition", "table", "schema")

    def __init__(
        self,
        *,
        conn_id: str | None = None,
        table: str | None = None,
        schema: str | None = None,
        time: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.table = table
        self.schema = schema
        self.time = time

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.errors import DeclarationError
        from airflow_mlops.core.watch.drift.profile_partition import profile_partition, profile_table

        if (self.conn_id is None) != (self.table is None):
            raise DeclarationError("conn_id and table go together: the database, and what it counts")
        if self.conn_id is None or self.table is None:
            return profile_partition(workspace, partition)
        from airflow_mlops.hooks.connections import database_url

        url = database_url(self.conn_id)
        return profile_table(workspace, partition, url, self.table, schema=self.schema, time=self.time)

    def lineage(self, run: StageRun) -> Datasets:
        """Return the table that was counted, or else the snapshot."""
        from airflow_mlops.core.lineage.data_lineage import snapshot_of_partition
        from airflow_mlops.core.lineage.rule_results import table_lineage
        from airflow_mlops.hooks.connections import database_address

        if self.conn_id is None:
            return snapshot_of_partition(run.workspace, run.partition)
        return table_lineage(database_address(self.conn_id), table=self.table, schema=self.schema)


class DetectDriftOperator(StageOperator):
    """Compare the inputs of a scored partition with the champion's training window; returns the verdict."""

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.watch.drift.detect_drift import detect_drift

        return {"partition": partition, **detect_drift(workspace, partition).to_json()}

    def lineage(self, run: StageRun) -> Datasets:
        """Return the predictions with the verdicts on them."""
        from airflow_mlops.core.lineage.model_lineage import watch_lineage

        return watch_lineage(run.workspace, run.partition)


class MeasurePerformanceOperator(StageOperator):
    """Measure the served predictions of a partition on the labels that have arrived; returns the verdict.

    Earlier partitions whose labels have come since, or were corrected, are judged again first.
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.watch.performance.measure_performance import measure_performance, rejudge_performance

        again = rejudge_performance(workspace, partition)
        for key, performance in again:
            self.log.info("judged again: %s: %s", key, performance.message)
        judged_again = {"judged_again": [key for key, _ in again]} if again else {}
        return {"partition": partition, **measure_performance(workspace, partition).to_json(), **judged_again}

    def lineage(self, run: StageRun) -> Datasets:
        """Return the predictions with the verdicts on them."""
        from airflow_mlops.core.lineage.model_lineage import watch_lineage

        return watch_lineage(run.workspace, run.partition)


class MeasureRegretOperator(StageOperator):
    """Measure the regret of the champion on a partition against a fresh model, which it fits; returns the numbers.

    Skips unless ``retrain.policy`` uses regret. Earlier partitions whose labels have come since are measured again
    first.
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.watch.measure_regret import measure_regret, measure_regret_again

        for key, again in measure_regret_again(workspace, partition):
            self.log.info("measured again: %s: %s, %s", key, again.regret, again.message)
        measured = measure_regret(workspace, partition)
        self.log.info("regret %s: %s", measured.regret, measured.message)
        return {"partition": partition, **measured.to_json()}

    def lineage(self, run: StageRun) -> Datasets:
        """Return the predictions with the verdicts on them."""
        from airflow_mlops.core.lineage.model_lineage import watch_lineage

        return watch_lineage(run.workspace, run.partition)


class RunChecksOperator(StageOperator):
    """Run the checks that ``watch.checks`` declares on a scored partition; returns verdict and message of each.

    A check that cannot be run has the verdict ``insufficient data`` and fails nothing. Checks of earlier partitions
    whose labels have come since, or were corrected, are run again first.
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.watch.checks.run_checks import rejudge_checks, run_checks

        for key, again in rejudge_checks(workspace, partition):
            self.log.info("judged again: %s: %s: %s: %s", key, again.check, again.verdict, again.message)
        checks = run_checks(workspace, partition)
        for name, check in checks.items():
            self.log.info("%s: %s: %s", name, check.verdict, check.message)
        return {name: {"verdict": check.verdict, "message": check.message} for name, check in checks.items()}

    def lineage(self, run: StageRun) -> Datasets:
        """Return the predictions with the verdicts on them."""
        from airflow_mlops.core.lineage.model_lineage import watch_lineage

        return watch_lineage(run.workspace, run.partition)


class DecideRetrainOperator(StageOperator):
    """Decide whether the newest partition needs a retrain, and record the decision with its reason.

    :param trigger: origin of the decision: ``watch``, ``nightly`` or, after :class:`RecordOutsideAlarmOperator`,
        ``outside``

    The asset in ``emits`` gets an event only while a decided retrain has not been picked up; its
    extra ``decision`` is the number of the ledger record.
    """

    template_fields: Sequence[str] = ("partition",)

    def __init__(self, *, trigger: Literal["watch", "nightly", "outside"], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trigger = trigger

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.retrain.decide_retrain import decide_and_record, decision_to_emit, escalate

        record = decide_and_record(workspace, partition, trigger=self.trigger)
        self.log.info("retrain %s: %s", record.details.retrain, record.details.reason)
        late = self._log_out_of_order(workspace) if workspace.is_historical(str(record.partition)) else {}
        escalated = escalate(workspace, record)
        if escalated is not None:
            warning = RuntimeWarning(escalated.details.reason)
            call_notifiers(workspace.loop.callbacks, self.root, {**context, "exception": warning})
        decision = decision_to_emit(workspace, partition)
        if decision is not None:
            self.emit(context, decision=decision.sequence, cause=decision.details.cause)
        return {
            "record": record.sequence,
            "retrain": record.details.retrain,
            "cause": record.details.cause,
            "reason": record.details.reason,
            **late,
        }

    def _log_out_of_order(self, workspace: Workspace) -> dict[str, Any]:
        """Warn of partitions that are silent only because a newer one came first; return them for the XCom."""
        from airflow_mlops.core.watch.judge_in_order import describe_out_of_order, partitions_out_of_order

        partitions = partitions_out_of_order(workspace)
        if not partitions:
            return {}
        self.log.warning("%s", describe_out_of_order(partitions))
        return {"out_of_order": partitions}

    def lineage(self, run: StageRun) -> Datasets:
        """Return the predictions with the verdicts on them."""
        from airflow_mlops.core.lineage.model_lineage import watch_lineage

        return watch_lineage(run.workspace, run.partition)


class RecordOutsideAlarmOperator(StageOperator):
    """Record the alarms of an outside monitor as the check ``outside``; returns the verdicts on the new ones.

    :param watched: asset whose events hold the alarms; the newest 100 events are read, so that none is lost while no
        run was started
    :param alarms: alarms from a task of your own instead: a list of mappings with ``id``, and optionally ``message``
        and ``partition``

    An event is that of an asset watcher, whose ``payload`` is the answer of the monitor, or one that was sent over
    Airflow's API with the answer as its ``extra``. Unreadable alarms are logged, and the others are recorded.
    """

    template_fields: Sequence[str] = ("partition", "alarms")

    def __init__(self, *, watched: Asset | None = None, alarms: Any = None, **kwargs: Any) -> None:
        if watched is not None:
            kwargs["inlets"] = [*kwargs.get("inlets", []), watched]
        super().__init__(**kwargs)
        self.watched = watched
        self.alarms = alarms

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> list[dict[str, Any]]:
        """See the class."""
        from airflow_mlops.core.errors import DataError
        from airflow_mlops.core.ledger.watch_details import OutsideAlarm
        from airflow_mlops.core.retrain.outside_alarms import read_alarms, record_outside_alarms

        answers = [] if self.alarms is None else [self.alarms]
        if self.watched is not None:
            events = list(context["inlet_events"][self.watched].ascending(False).limit(100))
            extras = [event.extra or {} for event in reversed(events)]
            answers += [extra.get("payload", extra) for extra in extras]
        alarms: list[OutsideAlarm] = []
        for answer in answers:
            try:
                accepted, refused = read_alarms(answer)
            except DataError as error:
                accepted, refused = [], [str(error)]
            alarms += accepted
            for problem in refused:
                self.log.warning("not read: %s", problem)
        recorded = record_outside_alarms(workspace, alarms)
        for key, check in recorded.items():
            self.log.info("%s: %s: %s", key, check.verdict, check.message)
        return [
            {"partition": key, "verdict": check.verdict, "message": check.message} for key, check in recorded.items()
        ]


class EmitRetrainOperator(StageOperator):
    """Emit the event that starts the training, from a Dag of any schedule, while a decided retrain is open.

    Give it the loop's retrain asset as its only outlet: the event carries the partition, even in a run without one,
    in which the event of ``emits`` of :class:`DecideRetrainOperator` would start no Dag of the loop. Skips, and so
    emits nothing, if no retrain was decided or the training has begun.
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> int:
        """See the class."""
        from airflow_mlops.core.errors import NotReadyError
        from airflow_mlops.core.retrain.decide_retrain import decision_to_emit

        decision = decision_to_emit(workspace, partition)
        if decision is None:
            raise NotReadyError("no decided retrain waits for its training")
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"decision": decision.sequence, "cause": decision.details.cause}
        return decision.sequence


class WatchOverdueOperator(StageOperator):
    """Report what is overdue as of a nightly run: an old champion, and missing partitions, predictions or labels.

    :param notify: notifiers or callbacks to call beside those of the loop, as functions or by ``module:name``

    The tick of the run counts as now. A finding is recorded and reported once, not every night: notifiers are called
    with the context of the task, in which ``exception`` is a :class:`RuntimeWarning` with the findings and ``overdue``
    the list of their sentences. Returns those sentences.
    """

    def __init__(self, *, notify: Notify = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notify = notify

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> list[str]:
        """See the class."""
        from airflow_mlops.core.watch.overdue import watch_overdue

        messages = [finding.message for finding in watch_overdue(workspace, partition)]
        for sentence in messages:
            self.log.warning("%s", sentence)
        if messages:
            notice = {**context, "exception": RuntimeWarning("; ".join(messages)), "overdue": messages}
            call_notifiers([*workspace.loop.callbacks, *self.notify], self.root, notice)
        return messages
