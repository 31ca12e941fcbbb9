"""Build the seven Dags of a loop.

    <model>_ingest   (labels ->) snapshot -> validate -> publish   every tick of data.every
    <model>_score    score                                     on a published partition
    <model>_watch    drift, performance, regret, checks -> decide -> report; reconcile; verify   on predictions
    <model>_nightly  decide, overdue, tidy                     every tick of train.at
    <model>_train    assemble -> fit (mapped) -> evaluate -> gate -> register -> prove    on a decided retrain
    <model>_rollout  (approve ->) start -> a group for each stage: (approve ->) enter -> analyse     on a candidate
    <model>_control  act on the rollout, champion, a version, quarantine     when a person starts it

They are connected only through assets, except the last, which a person starts; and every event carries a partition key:
an event without one loses triggers in a burst, and one with a key never starts a Dag that is not partitioned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import (
    DAG,
    Asset,
    CronPartitionTimetable,
    Param,
    PartitionedAssetTimetable,
    TaskGroup,
    get_parsing_context,
)

from airflow_mlops.core.check_declaration import check_declaration
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.read_loop import read_loop
from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.factories.assets import LoopAssets
from airflow_mlops.factories.callback import FailureMessage, NamedCallback
from airflow_mlops.factories.dag_docs import dag_doc, dag_tags
from airflow_mlops.operators.control import CONTROL_ACTIONS, ControlLoopOperator
from airflow_mlops.operators.data import PublishSnapshotOperator, TakeSnapshotOperator, TidyLakeOperator
from airflow_mlops.operators.evaluation import EvaluateCandidatesOperator, RequireGatesOperator
from airflow_mlops.operators.governance import ProveVersionOperator, ReconcileOperator
from airflow_mlops.operators.registry import RegisterCandidateOperator, VerifyVersionsOperator
from airflow_mlops.operators.report import RenderReportOperator
from airflow_mlops.operators.rollout import (
    AdvanceRolloutOperator,
    AnalyseRolloutOperator,
    ScorePartitionOperator,
    StartRolloutOperator,
)
from airflow_mlops.operators.training import AssembleTrainingOperator, FitCandidateOperator
from airflow_mlops.operators.validation import ValidateSnapshotOperator
from airflow_mlops.operators.watch import (
    DecideRetrainOperator,
    DetectDriftOperator,
    MeasurePerformanceOperator,
    MeasureRegretOperator,
    RunChecksOperator,
    WatchOverdueOperator,
)

_COLLECTED: ContextVar[list[Loop] | None] = ContextVar("_COLLECTED", default=None)
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=10)}
CONTROL_RUNS = 8
"""Runs of the control Dag at once."""


def build_dags(
    loop: Loop | str | Path, *, root: str | Path | None = None, default_args: Mapping[str, Any] | None = None
) -> dict[str, DAG]:
    """Return the Dags of a loop by their id, registered with Airflow as if the Dag file had written them.

    Parameters
    ----------
    loop : Loop or path
        The declaration, or the path of its YAML file relative to the project folder.
    root : path, optional
        Project folder; by default the nearest folder above the Dag file that holds ``include/``.
    default_args : mapping, optional
        Default arguments of every task, over those of the package (two retries); declared ``resources`` go over them.

    Raises
    ------
    DeclarationError
        If the declaration is wrong, or its training function does not exist.
    """
    folder = Path(root) if root is not None else project_folder(Path(sys._getframe(1).f_code.co_filename))
    declared = loop if isinstance(loop, Loop) else read_loop(folder / loop)
    check_declaration(declared, folder, at_parse=True)
    collected = _COLLECTED.get()
    if collected is not None:
        collected.append(declared)
        return {}
    wanted = get_parsing_context().dag_id
    build = _LoopDags(declared, folder, {**RETRIES, "owner": declared.owner, **(default_args or {})})
    return {
        dag_id: builder(dag_id) for dag_id, builder in build.builders().items() if wanted is None or wanted == dag_id
    }


def loops_in(dag_file: str | Path) -> list[Loop]:
    """Return the loops that a Dag file passes to :func:`build_dags`, without building any Dag."""
    import runpy  # the command line reads Dag files; Airflow does it in a way of its own

    collected: list[Loop] = []
    token = _COLLECTED.set(collected)
    try:
        runpy.run_path(str(dag_file))
    finally:
        _COLLECTED.reset(token)
    return collected


def project_folder(file: Path) -> Path:
    """Return the nearest folder above a Dag file that holds ``include/``: the base of relative paths.

    Raises
    ------
    DeclarationError
        If there is none.
    """
    project = next((folder for folder in file.resolve().parents if (folder / "include").is_dir()), None)
    if project is None:
        raise DeclarationError("no folder above holds include/; say build_dags(..., root=...)", file=str(file))
    return project


class _LoopDags:
    """Builds the Dags of one loop; deterministic, so that every parse gives the same Dags."""

    def __init__(self, loop: Loop, root: Path, default_args: dict[str, Any]) -> None:
        self.loop, self.assets = loop, LoopAssets.of(loop.model)
        self.step: dict[str, Any] = {"loop": loop, "root": str(root)}
        self.default_args = default_args
        callbacks = failure_callbacks(loop, str(root))
        if callbacks:
            self.default_args = {"on_failure_callback": callbacks, **default_args}

    def builders(self) -> dict[str, Callable[[str], DAG]]:
        """Return the Dag builders by Dag id."""
        model, data, assets = self.loop.model, self.loop.data, self.assets
        return {
            f"{model}_ingest": partial(self.ingest, self.cron(data.every, data.timezone)),
            f"{model}_score": partial(self.score, self.on(assets.snapshot)),
            f"{model}_watch": partial(self.watch, self.on(assets.predictions)),
            f"{model}_nightly": partial(self.nightly, self.cron(self.loop.train.at)),
            f"{model}_train": partial(self.train, self.on(assets.retrain)),
            f"{model}_rollout": partial(self.rollout, self.on(assets.candidate)),
            f"{model}_control": partial(self.control, {"schedule": None}),
        }

    def cron(self, expression: str, timezone: str = "UTC") -> dict[str, Any]:
        """Return the schedule of a Dag that runs once for every tick between ``from`` and ``until``."""
        data = self.loop.data
        return {
            "schedule": partition_timetable(expression, timezone),
            "start_date": moment(data.first_moment),
            "end_date": moment(data.last_moment),
            "catchup": False,
        }

    def on(self, asset: Asset) -> dict[str, Any]:
        """Return the schedule of a Dag that runs once for every partition of an asset."""
        return {"schedule": PartitionedAssetTimetable(assets=asset)}

    def dag(self, dag_id: str, schedule: dict[str, Any], description: str) -> DAG:
        """Return an empty Dag of the loop."""
        stage = dag_id.removeprefix(f"{self.loop.model}_")
        return DAG(
            dag_id,
            description=description,
            doc_md=dag_doc(self.loop, stage),
            default_args={**self.default_args, **self.resources(stage)},
            tags=dag_tags(self.loop),
            **{"max_active_runs": 1, **self.deadline(stage), **schedule},
        )

    def resources(self, stage: str) -> dict[str, Any]:
        """Return the declared pool, queue and executor settings of a stage as arguments of its operators."""
        declared = self.loop.resources
        return {} if declared is None else declared.task_args(stage)

    def deadline(self, stage: str) -> dict[str, Any]:
        """Return the declared deadline of the runs of a Dag as its argument; empty where it has none."""
        hours = self.loop.watch.deadline
        if hours is None:
            return {}
        # Imported only by loops with a deadline: every parse of every loop would pay for it.
        from airflow_mlops.factories.run_deadline import TIMELY, run_deadline

        return {"deadline": run_deadline(self.loop, self.step["root"], hours)} if stage in TIMELY else {}

    def ingest(self, schedule: dict[str, Any], dag_id: str) -> DAG:
        """Build the Dag that takes a partition, validates it, and publishes or refuses it."""
        with self.dag(dag_id, schedule, "Takes a partition, validates it, publishes or refuses it") as dag:
            own_labels = self.loop.data.labels is not None
            # Ingestion does not depend on labels: missing ones come with a later tick.
            rule = "all_done" if own_labels else "all_success"
            manifest = TakeSnapshotOperator(task_id="snapshot", trigger_rule=rule, **self.step)
            if own_labels:
                # Imported only by loops with labels from a source of their own.
                from airflow_mlops.operators.labels import TakeLabelsOperator

                TakeLabelsOperator(task_id="labels", **self.step) >> manifest
            validated = ValidateSnapshotOperator(task_id="validate", manifest=manifest.output, **self.step)
            PublishSnapshotOperator(
                task_id="publish",
                manifest=manifest.output,
                validated=validated.output,
                outlets=[self.assets.snapshot],
                **self.step,
            )
        return dag

    def score(self, schedule: dict[str, Any], dag_id: str) -> DAG:
        """Build the Dag that predicts a published partition with the champion and a challenger under way."""
        with self.dag(dag_id, schedule, "Predicts a published partition, without its labels") as dag:
            ScorePartitionOperator(task_id="score", outlets=[self.assets.predictions], **self.step)
        return dag

    def watch(self, schedule: dict[str, Any], dag_id: str) -> DAG:
        """Build the Dag that judges a scored partition and decides on a retrain."""
        watched = self.loop.watch
        with self.dag(dag_id, schedule, "Judges a scored partition and decides on a retrain") as dag:
            ReconcileOperator(task_id="reconcile", emits=self.assets.candidate, **self.step)
            VerifyVersionsOperator(task_id="verify", **self.step)
            decide = DecideRetrainOperator(
                task_id="decide",
                trigger="watch",
                emits=self.assets.retrain,
                trigger_rule="none_failed",
                **self.step,
            )
            if watched.drift is not None:
                DetectDriftOperator(task_id="drift", **self.step) >> decide
            if watched.performance is not None:
                MeasurePerformanceOperator(task_id="performance", **self.step) >> decide
            if isinstance(self.loop.retrain.policy, Regret):
                MeasureRegretOperator(task_id="regret", **self.step) >> decide
            if watched.checks:
                RunChecksOperator(task_id="checks", **self.step) >> decide
            if watched.drift is not None or watched.performance is not None or watched.checks:
                # Independent of the decision: a person wants to see the alarms. Without an alarm it skips.
                decide >> RenderReportOperator(task_id="report", trigger_rule="none_failed", **self.step)
        return dag

    def nightly(self, schedule: dict[str, Any], dag_id: str) -> DAG:
        """Build the Dag that decides by the clock and, if declared, reports what is overdue and applies retention."""
        with self.dag(dag_id, schedule, "Decides on a retrain by the clock, and tidies the lake") as dag:
            decide = DecideRetrainOperator(task_id="decide", trigger="nightly", emits=self.assets.retrain, **self.step)
            if self.loop.watch.max_age is not None or self.loop.watch.overdue is not None:
                # If a partition is missing, no event starts the watch.
                WatchOverdueOperator(task_id="overdue", **self.step)
            if self.loop.data.retention.is_declared:
                # Retention does not depend on the decision.
                decide >> TidyLakeOperator(task_id="tidy", trigger_rule="all_done", **self.step)
        return dag

    def train(self, schedule: dict[str, Any], dag_id: str) -> DAG:
        """Build the Dag that turns a decided retrain into a registered and certified candidate, or a refusal."""
        with self.dag(dag_id, schedule, "Fits candidates, judges them, registers the best, keeps the proof") as dag:
            assignments = AssembleTrainingOperator(task_id="assemble", **self.step)
            fit = FitCandidateOperator.partial(task_id="fit", **self.resources("fit"), **self.step)
            fits = fit.expand(assignment=assignments.output)
            evaluated = EvaluateCandidatesOperator(task_id="evaluate", fits=fits.output, **self.step)
            gate = RequireGatesOperator(task_id="gate", evaluated=evaluated.output, **self.step)
            register = RegisterCandidateOperator(task_id="register", evaluated=evaluated.output, **self.step)
            gate >> register
            ProveVersionOperator(
                task_id="prove", registered=register.output, outlets=[self.assets.candidate], **self.step
            )
        return dag

    def rollout(self, schedule: dict[str, Any], dag_id: str) -> DAG:
        """Build the Dag that takes a candidate through the declared stages, or back."""
        with self.dag(dag_id, schedule, "Takes a candidate through shadow and canary to live, or back") as dag:
            start = StartRolloutOperator(task_id="start", promote_first=True, emits=self.assets.champion, **self.step)
            if self.loop.rollout.approval == "human":
                # Imported only by loops with an approval: every parse of every loop would pay for it.
                from airflow_mlops.operators.approval import ApproveVersionOperator

                ApproveVersionOperator(task_id="approve", **self.step) >> start
            upstream: Any = start
            for index, stage in enumerate(self.loop.rollout.stages):
                with TaskGroup(stage.name):
                    upstream = self.stage(upstream, start.output, index)
        return dag

    def stage(self, upstream: Any, version: Any, index: int) -> Any:
        """Add the tasks of one stage of a rollout; return the last of them."""
        declared, step = self.loop.rollout.stages[index], {**self.step, "index": index}
        if declared.approval == "human":
            from airflow_mlops.operators.approval import ApproveStageOperator

            upstream = upstream >> ApproveStageOperator(task_id="approve", **step)
        if declared.kind == "live":
            return upstream >> AdvanceRolloutOperator(
                task_id="promote", version=version, outlets=[self.assets.champion], **step
            )
        return (
            upstream
            >> AdvanceRolloutOperator(task_id="enter", version=version, **step)
            >> AnalyseRolloutOperator(task_id="analyse", version=version, **step)
        )

    def control(self, schedule: dict[str, Any], dag_id: str) -> DAG:
        """Build the Dag by which a person acts on the loop, with a form in the Airflow UI or from the model's page."""
        words = {
            "version": "the version that is meant; any if empty, needed to unquarantine",
            "to": "rollback: the version that shall serve; the one before if empty",
            "partition": "release: the partition whose rows in quarantine are meant",
            "policies": "replay: with commas between, as never,nightly,clock:4; the usual ones if empty",
            "window": "replay: partitions to train on, as 8, all or 4,13,all; the declared ones if empty",
            "until": "replay: the last partition; the newest if empty",
            "split": "replay: choose a policy up to this partition, judge it after; the middle if empty",
        }
        params = {
            "action": Param(
                "pause", type="string", title="Action", enum=list(CONTROL_ACTIONS), description="what to do"
            ),
            "reason": Param("asked for in the UI", type="string", title="Reason", description="why, for the ledger"),
            **{
                name: Param("", type="string", title=name.capitalize(), maxLength=250, description=text)
                for name, text in words.items()
            },
        }
        description = "Acts on the rollout, the champion, a version or rows in quarantine, as a person asks"
        # A replay takes long, and no abort may wait for it; each action is decided on the newest record.
        run_at_once = {"params": params, "max_active_runs": CONTROL_RUNS}
        with self.dag(dag_id, {**schedule, **run_at_once}, description) as dag:
            fields = {"action": "action", "reason": "reason", "released": "partition"}
            fields |= {name: name for name in ("version", "to", "policies", "window", "until", "split")}
            chosen: dict[str, Any] = {field: f"{{{{ params.{param} }}}}" for field, param in fields.items()}
            ControlLoopOperator(task_id="control", retries=0, **chosen, **self.step)
        return dag


def failure_callbacks(loop: Loop, root: str) -> list[Callable[..., Any]]:
    """Return the callbacks of a task of the loop that has failed and is not tried again."""
    notify = loop.notify_by_kind
    if notify is None:
        return [NamedCallback(name, root) for name in loop.callbacks]
    return [FailureMessage(notifier, loop, root) for notifier in notify.notifiers_of("failed", loop.tier)]


def partition_timetable(expression: str, timezone: str) -> Any:
    """Return the timetable whose partition keys are the ticks of an expression in UTC."""
    if timezone == "UTC":
        return CronPartitionTimetable(expression, timezone="UTC")
    # Imported only by loops with a zone: Airflow's own timetable writes keys in local time, twice alike in autumn.
    from airflow_mlops.timetables.zoned_partitions import ZonedPartitionTimetable

    return ZonedPartitionTimetable(expression, timezone=timezone)


def moment(date: str | None) -> datetime | None:
    """Return a key as a time in UTC."""
    return None if date is None else pendulum.instance(datetime.fromisoformat(date), tz="UTC")
