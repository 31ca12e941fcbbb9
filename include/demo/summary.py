"""What the year came to, computed from the ledger, the predictions and Airflow's own records."""

from __future__ import annotations

from datetime import datetime
from statistics import median
from typing import Any

import numpy as np

from airflow_mlops.core.ledger.record import Record, verify_chain
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import row_losses
from airflow_mlops.core.training.window import pin_scored, read_window
from airflow_mlops.core.watch.performance.measure_performance import labelled_predictions
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.airflow_client import AirflowClient


def summarise(workspaces: list[Workspace], client: AirflowClient, *, minutes: float) -> dict[str, Any]:
    """Return the summary of all loops."""
    instances = client.task_instances()
    for workspace in workspaces:
        verify_chain(workspace.ledger.records())
    figures = {workspace.loop.model: summarise_loop(workspace, instances) for workspace in workspaces}
    return {
        **{model: found["numbers"] for model, found in figures.items()},
        "loops": {model: found["comparison"] for model, found in figures.items()},
        "failed_tasks": sum(instance["state"] in ("failed", "upstream_failed") for instance in instances),
        "tasks": len(instances),
        "ledger_verified": True,
        "minutes": round(minutes, 2),
    }


def summarise_loop(workspace: Workspace, instances: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a loop's numbers, and its error week by week beside that of the first champion."""
    loop, records, state = workspace.loop, workspace.ledger.records(), workspace.state()
    weeks = [week_errors(workspace, state, partition) for partition in sorted(state.scored)]
    rows = sum(week["rows"] for week in weeks)
    ours = sum(week["loop"] * week["rows"] for week in weeks) / rows
    never = sum(week["never_retrained"] * week["rows"] for week in weeks) / rows
    numbers = {
        f"{loop.metric}_loop": ours,
        f"{loop.metric}_never_retrained": never,
        "retrains": [
            {"partition": record.partition, "cause": record.details["cause"], "ledger": record.sequence}
            for record in state.retrains
        ],
        "promotions": len(state.promotions),
        "rollbacks": len(state.rollbacks),
        "promotions_through_shadow_and_canary": staged_promotions(records),
        "predicted_before_labels_were_read": predicted_first(records, state),
        "rows": rows,
        "seconds_from_alarm_to_live": alarm_to_live(workspace, records, instances),
    }
    comparison = {
        "metric": loop.metric, "loop": ours, "never_retrained": never, "ratio": ours / never, "weeks": weeks,
        "promoted": [record.partition for record in state.promotions],
        "rolled_back": [record.partition for record in state.rollbacks],
    }  # fmt: skip
    return {"numbers": numbers, "comparison": comparison}


def week_errors(workspace: Workspace, state: LoopState, partition: str) -> dict[str, Any]:
    """Return the error of the served predictions of a week, and of the first champion on the same rows."""
    loop, scored = workspace.loop, state.scored[partition]
    served = labelled_predictions(workspace, partition, scored)
    window = read_window(workspace, [pin_scored(state, partition)])
    first = load_version(workspace, state.versions[str(state.promotions[0].details["version"])])
    frozen = predict(first, window.features, classifies=loop.classifies)
    label = window.rows[loop.data.label].to_numpy(float)
    return {
        "partition": partition,
        "rows": len(served),
        "loop": float(np.mean(row_losses(loop.metric, served["label"], served["served_prediction"]))),
        "never_retrained": float(np.mean(row_losses(loop.metric, label, frozen))),
    }


def staged_promotions(records: list[Record]) -> int:
    """Return how many promoted versions were looked at in shadow and in canary beside a champion."""
    seen: dict[str, set[str]] = {}
    for record in records:
        if record.kind == "stage_analysed" and record.details["verdict"] == "pass" and record.details["rows"]:
            seen.setdefault(str(record.details["version"]), set()).add(str(record.details["name"]).split("_")[0])
    promoted = {str(record.details["version"]) for record in records if record.kind == "promoted"}
    return sum({"shadow", "canary"} <= seen.get(version, set()) for version in promoted)


def predicted_first(records: list[Record], state: LoopState) -> bool:
    """Tell whether every week was scored before its labels were read, by a model made of earlier weeks only."""
    scored = {str(record.partition): record for record in records if record.kind == "predictions_published"}
    judged = {str(record.partition): record for record in records if record.kind == "performance_judged"}
    for partition, record in scored.items():
        window = state.versions[str(record.details["champion"])].details["window"]
        newest = max(pin["partition"] for part in ("fitted", "holdout") for pin in window[part])
        if newest >= partition or (partition in judged and judged[partition].sequence < record.sequence):
            return False
    return True


def alarm_to_live(
    workspace: Workspace, records: list[Record], instances: list[dict[str, Any]]
) -> dict[str, float] | None:
    """Return the median seconds from an alarm to the new champion, and where they went; None without any."""
    found = []
    for decision in records:
        if decision.kind != "retrain_decided" or not str(decision.details["cause"]).startswith("alarm"):
            continue
        version = one(records, "candidate_registered", decision=decision.sequence)
        promoted = version and one(records, "promoted", version=version.details["version"])
        if version is None or promoted is None:
            continue
        began = max(
            moment(record.recorded_at)
            for record in records
            if record.kind in ("performance_judged", "drift_judged") and record.partition == decision.partition
        )
        ended = moment(promoted.recorded_at)
        report = workspace.evidence.get(version.details["report"])
        fitting = max(float(candidate["fit_seconds"]) for candidate in report["candidates"])
        busy = busy_seconds(instances, f"{workspace.loop.model}_", began, ended)
        found.append(((ended - began), fitting, busy - fitting, (ended - began) - busy))
    if not found:
        return None
    names = ("median", "fitting", "steps", "airflow")
    return {name: round(median(column), 2) for name, column in zip(names, zip(*found, strict=True), strict=True)} | {
        "retrains": len(found)
    }


def one(records: list[Record], kind: str, **details: Any) -> Record | None:
    """Return the first record of a kind with these details."""
    return next(
        (
            record
            for record in records
            if record.kind == kind and all(record.details.get(name) == value for name, value in details.items())
        ),
        None,
    )


def busy_seconds(instances: list[dict[str, Any]], prefix: str, began: float, ended: float) -> float:
    """Return for how much of a span at least one task of these Dags was running."""
    spans = sorted(
        (max(moment(each["start_date"]), began), min(moment(each["end_date"]), ended))
        for each in instances
        if each["dag_id"].startswith(prefix) and each["start_date"] and each["end_date"]
    )
    busy, until = 0.0, began
    for start, end in spans:
        if end > until:
            busy, until = busy + end - max(start, until), end
    return busy


def moment(text: str) -> float:
    """Return an ISO time as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
