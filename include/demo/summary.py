"""The summary of the year, computed from the ledger, the predictions and Airflow's own records."""

from __future__ import annotations

from datetime import datetime
from statistics import median
from typing import Any, TypeVar, cast

import numpy as np

from airflow_mlops.core.evaluation.several_classes import confusion_matrix, f1_by_class
from airflow_mlops.core.ledger.data_details import PredictionsPublished
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import AnyRecord, Record, verify_chain
from airflow_mlops.core.ledger.rollout_details import Promoted, RolledBack, StageAnalysed
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import CandidateRefused, CandidateRegistered, RetrainDecided
from airflow_mlops.core.ledger.watch_details import DriftJudged, PerformanceJudged
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.prediction_columns import stored_predictions
from airflow_mlops.core.training.row_losses import row_losses
from airflow_mlops.core.training.window import pin_scored, read_window
from airflow_mlops.core.watch.performance.measure_performance import labelled_predictions
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.airflow_client import AirflowClient

D = TypeVar("D", bound=Details)
COMPARED = ("loop", "never_retrained")
"""The two models of each week: the champion of that time, and the first one."""
GATE = ("gate", "failed")
"""The task, and its state, that end a training whose candidate is refused."""


def summarise(workspaces: list[Workspace], client: AirflowClient, *, minutes: float) -> dict[str, Any]:
    """Return the summary of all loops."""
    instances = client.task_instances()
    for workspace in workspaces:
        verify_chain(workspace.ledger.records())
    figures = {workspace.loop.model: summarise_loop(workspace, instances) for workspace in workspaces}
    refused = sum(len(list(workspace.ledger.records(CandidateRefused))) for workspace in workspaces)
    return {
        **{model: summary["numbers"] for model, summary in figures.items()},
        "loops": {model: summary["comparison"] for model, summary in figures.items()},
        "failed_tasks": unexpected_failures(instances, refused),
        "refused_candidates": refused,
        "tasks": len(instances),
        "ledger_verified": True,
        "minutes": round(minutes, 2),
    }


def unexpected_failures(instances: list[dict[str, Any]], refused: int) -> int:
    """Return the number of failed tasks but for those of trainings whose candidate was refused, as the ledger has it.

    A refusal is a failed task of the gate, by design. If there are more or fewer of these than refusals in the ledger,
    every failed task counts.
    """
    failed = [instance for instance in instances if instance["state"] in ("failed", "upstream_failed")]
    gates = {(task["dag_id"], task["dag_run_id"]) for task in failed if (task["task_id"], task["state"]) == GATE}
    if len(gates) != refused:
        return len(failed)
    return sum((task["dag_id"], task["dag_run_id"]) not in gates for task in failed)


def summarise_loop(workspace: Workspace, instances: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a loop's numbers, and its error week by week beside that of the first champion."""
    loop, records, state = workspace.loop, list(workspace.ledger.records()), workspace.state()
    weeks = [week_errors(workspace, state, partition) for partition in state.scored]
    rollbacks = [record.partition for record in workspace.ledger.records(RolledBack)]
    rows = sum(week["rows"] for week in weeks)
    loop_error, fixed_error = (sum(week[name] * week["rows"] for week in weeks) / rows for name in COMPARED)
    macro_f1 = (
        {}
        if not loop.several_classes
        else {name: f1_macro([week["confusion"][name] for week in weeks]) for name in COMPARED}
    )
    numbers = {
        **{f"f1_macro_{name}": value for name, value in macro_f1.items()},
        f"{loop.metric}_loop": loop_error,
        f"{loop.metric}_never_retrained": fixed_error,
        "retrains": [
            {"partition": record.partition, "cause": record.details.cause, "ledger": record.sequence}
            for _, record in state.retrains.items()
        ],
        "promotions": len(state.promotions),
        "rollbacks": len(rollbacks),
        "promotions_through_shadow_and_canary": staged_promotions(records),
        "predicted_before_labels_were_read": predicted_first(records, state),
        "rows": rows,
        "seconds_from_alarm_to_live": alarm_to_live(workspace, records, instances),
    }
    comparison = {
        "metric": loop.metric,
        "loop": loop_error,
        "never_retrained": fixed_error,
        "ratio": loop_error / fixed_error,
        "f1_macro": macro_f1,
        "weeks": weeks,
        "promoted": [key.partition("|")[0] for key in state.promotions],
        "rolled_back": rollbacks,
    }
    return {"numbers": numbers, "comparison": comparison}


def week_errors(workspace: Workspace, state: LoopState, partition: str) -> dict[str, Any]:
    """Return the error of the served predictions of a week, and of the first champion on the same rows."""
    loop, scored = workspace.loop, state.scored[partition]
    served = labelled_predictions(workspace, partition, scored)
    window = read_window(workspace, [pin_scored(state, partition)])
    first = load_version(workspace, state.versions[next(number for _, number in state.promotions.items())])
    frozen = predict(first, window.features, classifies=loop.classifies)
    rows = {
        "loop": (served["label"].to_numpy(float), stored_predictions(served, "served", loop.class_names)),
        "never_retrained": (window.rows[loop.data.label].to_numpy(float), frozen),
    }
    errors: dict[str, Any] = {name: float(np.mean(row_losses(loop.metric, *pair))) for name, pair in rows.items()}
    if loop.several_classes:
        matrices = {name: confusion_matrix(*pair, loop.class_names or ())["rows"] for name, pair in rows.items()}
        errors["confusion"] = matrices
    return {"partition": partition, "rows": len(served), **errors}


def f1_macro(matrices: list[list[list[int]]]) -> float:
    """Return the macro F1 of rows from their confusion matrices, whose outer lists are the classes of the rows.

    >>> f1_macro([[[1, 0], [1, 0]], [[0, 0], [0, 2]]])
    0.7333333333333334
    """
    total = np.sum(matrices, axis=0).astype(float)
    return float(f1_by_class(total.diagonal(), total.sum(axis=1), total.sum(axis=0)).mean())


def staged_promotions(records: list[AnyRecord]) -> int:
    """Return the number of promoted versions that passed an analysis in shadow and in canary."""
    stages: dict[str, set[str]] = {}
    for details in (record.details for record in records):
        if isinstance(details, StageAnalysed) and details.verdict == "pass" and details.rows:
            stages.setdefault(details.version, set()).add(details.name.split("_")[0])
    promoted = {record.details.version for record in records if isinstance(record.details, Promoted)}
    return sum({"shadow", "canary"} <= stages.get(version, set()) for version in promoted)


def predicted_first(records: list[AnyRecord], state: LoopState) -> bool:
    """Return whether every week was scored before its labels were read, by a model of earlier weeks only."""
    scored = {
        str(record.partition): (record.sequence, record.details.champion)
        for record in records
        if isinstance(record.details, PredictionsPublished)
    }
    judgements = {str(record.partition): record for record in records if isinstance(record.details, PerformanceJudged)}
    for partition, (sequence, champion) in scored.items():
        newest = max(pin.partition for pin in state.versions[champion].details.window.pins)
        if newest >= partition or (partition in judgements and judgements[partition].sequence < sequence):
            return False
    return True


def alarm_to_live(
    workspace: Workspace, records: list[AnyRecord], instances: list[dict[str, Any]]
) -> dict[str, float] | None:
    """Return the median seconds from an alarm to the new champion and its parts; None without alarms."""
    figures = []
    for decision in records:
        if not isinstance(decision.details, RetrainDecided) or not decision.details.cause.startswith("alarm"):
            continue
        version = first_record(records, CandidateRegistered, decision=decision.sequence)
        if version is None:
            continue
        promoted = first_record(records, Promoted, version=version.details.version)
        if promoted is None:
            continue
        began = max(
            moment(record.recorded_at)
            for record in records
            if isinstance(record.details, PerformanceJudged | DriftJudged) and record.partition == decision.partition
        )
        ended = moment(promoted.recorded_at)
        report = workspace.evidence.get(str(version.details.report))
        fitting = max(float(candidate["fit_seconds"]) for candidate in report["candidates"])
        busy = busy_seconds(instances, f"{workspace.loop.model}_", began, ended)
        figures.append(((ended - began), fitting, busy - fitting, (ended - began) - busy))
    if not figures:
        return None
    names = ("median", "fitting", "steps", "airflow")
    return {name: round(median(column), 2) for name, column in zip(names, zip(*figures, strict=True), strict=True)} | {
        "retrains": len(figures)
    }


def first_record(records: list[AnyRecord], kind: type[D], **details: Any) -> Record[D] | None:
    """Return the first record of a kind with these details."""
    fields = details.items()
    matches = (
        record
        for record in records
        if isinstance(record.details, kind) and all(getattr(record.details, name) == value for name, value in fields)
    )
    return cast("Record[D] | None", next(matches, None))


def busy_seconds(instances: list[dict[str, Any]], prefix: str, began: float, ended: float) -> float:
    """Return the seconds of a span in which at least one task of these Dags was running."""
    spans = sorted(
        (max(moment(instance["start_date"]), began), min(moment(instance["end_date"]), ended))
        for instance in instances
        if instance["dag_id"].startswith(prefix) and instance["start_date"] and instance["end_date"]
    )
    busy, until = 0.0, began
    for start, end in spans:
        if end > until:
            busy, until = busy + end - max(start, until), end
    return busy


def moment(text: str) -> float:
    """Return an ISO time as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
