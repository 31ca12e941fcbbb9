"""The history that the drill disturbs: one loop from its first partition to a third champion, task by task.

Each step is what one task of the loop's Dags does, or one action of a person. What a step returns is kept as the
XCom of a task is, and read by later steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.data.apply_retention import apply_retention
from airflow_mlops.core.data.forget_subject import forget_subject
from airflow_mlops.core.data.labels.take_labels import take_due_labels
from airflow_mlops.core.data.take_snapshot import SnapshotManifest, take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.governance.certify_version import certify_version
from airflow_mlops.core.governance.export_version import export_version
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ledger.audit import append_anchor, head_anchor
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.overview.notify_people import begin_channels, notify_people
from airflow_mlops.core.report.kept_reports import keep_report
from airflow_mlops.core.retrain.decide_retrain import decide_and_record, decide_by_hand, escalate
from airflow_mlops.core.rollout.approvals import record_approval, record_question, record_rejection, version_to_approve
from airflow_mlops.core.rollout.control_loop import control_loop
from airflow_mlops.core.rollout.inspect_versions import inspect_versions
from airflow_mlops.core.rollout.roll_out import enter_stage, roll_out_first, start_rollout
from airflow_mlops.core.rollout.run_analysis import run_analysis
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.rollout.watch_rollout import watch_rollout
from airflow_mlops.core.training.assemble import assemble_training, stored_request
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import ValidatedSnapshot, validate_snapshot
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.watch.overdue import watch_overdue
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from tests.loop.project import KEYS, REGRESSION, declaration, night, week

MODEL, MODULE = "drilled", "train_drilled"
SUBJECT = f"{partition_slug(KEYS[0])}-0003"
"""The row that somebody asks to be forgotten."""
BROKEN = KEYS[6]
"""The partition whose rows nobody can use."""
SECRET = "a secret of the drill, which masks nobody"
SENT = "sent.txt"
"""The file in which the receiver of messages keeps what it was sent."""

Results = dict[str, Any]
"""What the steps before have returned, by their names; of a repeated step, what it returned last."""


@dataclass(frozen=True)
class Step:
    """One task of a loop, or one action of a person.

    Parameters
    ----------
    name : str
        The name of the task, under which its result is kept.
    run : callable
        Does it, given the open stores and the results of the steps before.
    refused : str
        The name of the error with which it may end also without any fault; none may if empty.
    """

    name: str
    run: Callable[[Workspace, Results], Any]
    refused: str = ""


def fields(*, labels: bool) -> dict[str, Any]:
    """Return the declaration: the label is a column, or is delivered a partition later and regret decides."""
    rollout = {"stages": [{"shadow": 100}, {"canary": 50}, {"live": 100}], "margin": 0.25, "min_rows": 20}
    changes: dict[str, Any] = {
        "gates": [{"metric": "mae", "at_most": 4.0}],
        "rollout": {**rollout, "approval": "human"},
        "watch": {
            "drift": {"alarm_rate": 0.001},
            "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20},
            "checks": ["label_rate"],
            "max_age": 3,
            "overdue": 1,
        },
        "notify": {kind: ["train_drilled.receiver:receive"] for kind in ("promoted", "rolled_back", "alarm")},
    }
    declared = declaration(MODEL, f"{MODULE}.training:candidates", **changes)
    declared["data"] |= {"tolerance": 0.1, "retention": {"predictions": 4, "snapshots": 4}}
    if labels:
        source = {"kind": "parquet", "uri": f"include/data/{MODEL}/labels-{{partition}}.parquet"}
        declared["data"]["labels"] = {"source": source, "delay": 1}
        declared["retrain"] = {"policy": {"regret": 0.1}, "cooldown": 1}
        declared["rollout"] = rollout
    return declared


@dataclass(frozen=True)
class Place:
    """A project and its stores in a folder, always the same one: MLflow keeps absolute addresses."""

    root: Path
    labels: bool = False

    @property
    def home(self) -> Path:
        """The Airflow home, below which the stores are."""
        return self.root / "home"

    def open(self, actor: str = "drill") -> Workspace:
        """Return the stores, opened anew."""
        stores = Stores.embedded(self.home / "mlops")
        declared = Loop(**fields(labels=self.labels))
        known = {name: getattr(stores, name) for name in vars(stores)}
        return open_workspace(declared, Stores(**{**known, "secret": SECRET}), root=self.root, actor=actor)

    def make(self) -> None:
        """Write the project: its training module, and the files of every partition."""
        module = self.root / MODULE
        module.mkdir(parents=True)
        (module / "training.py").write_text(REGRESSION)
        data = self.root / "include" / "data" / MODEL
        data.mkdir(parents=True)
        for number, key in enumerate(KEYS[:9]):
            rows = week(key, level=0.0 if number < (4 if self.labels else 2) else 6.0)
            if number == 1:
                rows = pa.concat_tables([rows, rows.slice(0, 2)])
            if key == BROKEN:
                rows = rows.drop_columns(["x1"])
            if self.labels:
                delivered = rows.select(["id", "y"]).append_column("at", rows.column("at"))
                pq.write_table(delivered, data / f"labels-{partition_slug(key)}.parquet")
                rows = rows.drop_columns(["y"])
            pq.write_table(rows, data / f"{partition_slug(key)}.parquet")


def ingested(key: str, *, refused: str = "") -> Iterator[Step]:
    """Yield the tasks of the Dag that takes a partition in; one that is refused is so before it is validated."""

    def validated(workspace: Workspace, results: Results) -> Any:
        return validate_snapshot(workspace, SnapshotManifest.from_dict(results["snapshot"]), GxValidator()).to_dict()

    def published(workspace: Workspace, results: Results) -> Any:
        manifest = SnapshotManifest.from_dict(results["snapshot"])
        return publish_snapshot(workspace, manifest, ValidatedSnapshot.from_dict(results["validate"])).sequence

    yield Step("snapshot", lambda workspace, _: take_snapshot(workspace, key).to_dict(), refused)
    if refused:
        return
    yield Step("validate", validated)
    yield Step("publish", published)


def watched(key: str, *, regret: bool = False) -> Iterator[Step]:
    """Yield the tasks of the Dags that score a partition and judge it."""
    yield Step("score", lambda workspace, _: score_partition(workspace, key).to_json())
    yield Step("reconcile", lambda workspace, _: watch_rollout(workspace, key))
    yield Step("verify", lambda workspace, _: inspect_versions(workspace).to_dict())
    yield Step("drift", lambda workspace, _: detect_drift(workspace, key).to_json())
    yield Step("performance", lambda workspace, _: measure_performance(workspace, key).to_json())
    yield Step("checks", lambda workspace, _: sorted(run_checks(workspace, key)))
    if regret:
        yield Step("regret", lambda workspace, _: measure_regret(workspace, key).to_json())
    yield from decided(key, "watch")
    yield Step("report", lambda workspace, _: keep_report(workspace, key, "an alarm"))


def decided(key: str, trigger: Any) -> Iterator[Step]:
    """Yield the task that decides on a retrain."""

    def decide(workspace: Workspace, _: Results) -> Any:
        record = decide_and_record(workspace, key, trigger=trigger)
        escalate(workspace, record)
        return record.details.retrain

    yield Step("decide", decide)


def trained(key: str, *, by_hand: bool = False, passes: bool = True) -> Iterator[Step]:
    """Yield the tasks of the Dag that turns a decision into a candidate; none follows a gate that does not pass."""

    def assembled(workspace: Workspace, _: Results) -> Any:
        if by_hand:
            decide_by_hand(workspace, key)
        request = assemble_training(workspace, key)
        return {"request": workspace.evidence.put(request.to_dict()), "candidate": request.candidates[0]}

    def fitted(workspace: Workspace, results: Results) -> Any:
        assignment = results["assemble"]
        request = stored_request(workspace, assignment["request"])
        return {"request": assignment["request"], **fit_candidate(workspace, request, assignment["candidate"])}

    def evaluated(workspace: Workspace, results: Results) -> Any:
        request = stored_request(workspace, results["fit"]["request"])
        return evaluate_candidates(workspace, request, [results["fit"]])

    def gated(workspace: Workspace, results: Results) -> Any:
        request = stored_request(workspace, results["fit"]["request"])
        require_gates(workspace, request, results["evaluate"])

    def registered(workspace: Workspace, results: Results) -> Any:
        request = stored_request(workspace, results["fit"]["request"])
        return register_candidate(workspace, request, results["evaluate"])

    yield Step("assemble", assembled)
    yield Step("fit", fitted)
    yield Step("evaluate", evaluated)
    yield Step("gate", gated, refused="" if passes else "GateError")
    if not passes:
        return
    yield Step("register", registered)
    yield Step("prove", lambda workspace, results: certify_version(workspace, results["register"]["version"]))


def answered(key: str, *, approve: bool) -> Iterator[Step]:
    """Yield the question about a candidate, and the answer of a person."""

    def ask(workspace: Workspace, _: Results) -> Any:
        record_question(workspace, version_to_approve(workspace, key), f"question of {key}")

    def answer(workspace: Workspace, _: Results) -> Any:
        version = version_to_approve(workspace, key)
        if approve:
            record_approval(workspace, version, ("ann",), started_by=None)
        else:
            record_rejection(workspace, version, "ann", "not on a Friday")

    yield Step("ask", ask)
    yield Step("answer", answer)


def rolled_out(key: str, *stages: int, analysed: bool = True) -> Iterator[Step]:
    """Yield the tasks of the Dag that rolls a candidate out, for the stages that are named."""
    yield Step("start", partial(_started, key=key))
    for index in stages:
        yield Step("enter", partial(_entered, index=index, key=key))
        if analysed and index < 2:  # the last stage is live, and has no analysis
            yield Step("analyse", partial(_analysed, index=index, key=key))


def _started(workspace: Workspace, _: Results, *, key: str) -> Any:
    outcome = roll_out_first(workspace, key)
    return start_rollout(workspace, key) if outcome is None else outcome.version


def _entered(workspace: Workspace, results: Results, *, index: int, key: str) -> Any:
    return enter_stage(workspace, results["start"], index, key).to_dict()


def _analysed(workspace: Workspace, results: Results, *, index: int, key: str) -> Any:
    return run_analysis(workspace, results["start"], index, key).to_dict()


def acted(action: str, **named: str) -> Step:
    """Return an action of a person on the loop, as a task of the Dag for actions does it."""

    def act(workspace: Workspace, _: Results) -> Any:
        return control_loop(workspace, action, GxValidator(), reason="a drill", attempt=f"drill {action}", **named)

    return Step(action, act)


def notified() -> Step:
    """Return the messages that the tasks of a loop send after their work."""

    def notify(workspace: Workspace, _: Results) -> Any:
        assert workspace.loop.notify_by_kind is not None
        channels = workspace.loop.notify_by_kind.channels(workspace.loop.tier)
        begin_channels(workspace, channels)

        def send(channel: Any, record: Any) -> None:
            with (workspace.root / SENT).open("a", encoding="utf-8") as receiver:
                receiver.write(f"{json.dumps([channel.name, record.sequence])}\n")

        return notify_people(workspace, channels, send)

    return Step("notify", notify)


def kept_apart(key: str) -> Iterator[Step]:
    """Yield the tasks and the commands that stand beside the way of a model."""

    def anchored(workspace: Workspace, _: Results) -> Any:
        append_anchor(head_anchor(workspace.ledger), workspace.root / "anchors.jsonl")

    def exported(workspace: Workspace, _: Results) -> Any:
        champion = workspace.state().champion
        assert champion is not None
        export_version(
            workspace, champion.number, workspace.root / "exported.zip", environment="drill", with_example=True
        )

    yield Step("overdue", lambda workspace, _: [finding.message for finding in watch_overdue(workspace, night(key))])
    yield Step("tidy", lambda workspace, _: apply_retention(workspace, after_hours=0).files)
    yield Step("forget", lambda workspace, _: forget_subject(workspace, SUBJECT).files)
    yield Step("anchor", anchored)
    yield Step("export", exported)
    yield Step("reproduce", lambda workspace, _: reproduce_version(workspace, "1").to_dict())


def life_of_a_loop() -> Iterator[Step]:
    """Yield the history of a loop whose label is a column, and whose versions a person approves."""
    yield notified()
    for key in KEYS[:2]:
        yield from ingested(key)
    yield from decided(KEYS[1], "nightly")
    yield from trained(KEYS[1])
    yield from answered(KEYS[1], approve=True)
    yield from rolled_out(KEYS[1])  # the first version, which has nobody to be compared with
    for key in KEYS[2:4]:  # the world has moved: the first alarm comes before a window of the new one is there
        yield from ingested(key)
        yield from watched(key)
        yield from trained(key, passes=key == KEYS[3])
    yield acted("release", partition=KEYS[1])
    yield from answered(KEYS[3], approve=True)
    yield from rolled_out(KEYS[3], 0, analysed=False)
    yield acted("pause")
    yield acted("resume")
    yield acted("skip")
    yield from ingested(KEYS[4])
    yield Step("score", lambda workspace, _: score_partition(workspace, KEYS[4]).to_json())
    yield from rolled_out(KEYS[4], 1, 2)
    yield notified()
    yield acted("rollback", to="1")
    yield acted("unquarantine", version="2")
    yield from trained(KEYS[4], by_hand=True)
    yield from answered(KEYS[4], approve=False)
    yield from kept_apart(KEYS[4])
    yield from ingested(KEYS[5])
    yield from watched(KEYS[5])
    yield from trained(KEYS[5])
    yield from answered(KEYS[5], approve=True)
    yield from rolled_out(KEYS[5], 0)
    yield acted("abort")
    yield from ingested(BROKEN, refused="PartitionRefusedError")
    yield notified()


def _labelled(workspace: Workspace, _: Results, *, tick: str) -> Any:
    return sorted(take_due_labels(workspace, tick))


def life_with_late_labels() -> Iterator[Step]:
    """Yield the history of a loop whose labels come by themselves, and whom regret makes retrain."""
    for key in KEYS[:5]:
        yield Step("labels", partial(_labelled, tick=key))
        yield from ingested(key)
        if key < KEYS[3]:
            continue
        if key == KEYS[3]:
            yield from decided(key, "nightly")
            yield from trained(key)
            yield from rolled_out(key)
        else:
            yield from watched(key, regret=True)
