"""The seven monitoring items of the ML Test Score."""

from __future__ import annotations

from airflow_mlops.core.governance.environment_change import compare_environments
from airflow_mlops.core.governance.ml_test_score.points import Items, Point, View, full_point, half_point, no_point
from airflow_mlops.core.ledger.data_details import PredictionsPublished
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.ledger.watch_details import PerformanceJudged


def dependencies(view: View) -> Point:
    """Mo1: changes of what the model depends on are noticed."""
    compared = [
        (version, change)
        for version in (version for _, version in view.state.versions.items())
        if (change := compare_environments(view.workspace, version))
    ]
    if not compared:
        return no_point("no two versions carry what was installed for them")
    newest, (before, changes) = max(compared, key=lambda pair: int(pair[0].number))
    reason = f"version {newest.number} against {before}: {'; '.join(changes) or 'nothing is installed otherwise'}"
    return full_point(reason, f"airflow-mlops card {view.workspace.loop.model} {newest.number}")


def invariants(view: View) -> Point:
    """Mo2: what held for the data of training holds for what is served."""
    scored = view.of_kind(PredictionsPublished)
    if not scored:
        return no_point("nothing was scored yet")
    reason = f"{len(scored)} partitions were scored, each only after it had been validated"
    return full_point(reason, view.record(scored[-1]))


def skew(view: View) -> Point:
    """Mo3: features are the same in training and in serving."""
    if not view.state.scored:
        return no_point("no row was scored yet, so none was replayed")
    command = f"airflow-mlops skew {view.workspace.loop.model}"
    return half_point(
        "one function makes the features of both; one command replays scored rows; nothing runs it by itself", command
    )


def freshness(view: View) -> Point:
    """Mo4: models are not too stale."""
    decided = view.of_kind(RetrainDecided)
    if not decided:
        return no_point("no retrain was ever decided on")
    last = decided[-1]
    return full_point(f"staleness is judged at every partition: {last.details.reason}", view.record(last))


def numerical_stability(view: View) -> Point:
    """Mo5: no NaN or infinity."""
    scored = view.of_kind(PredictionsPublished)
    if not scored:
        return no_point("nothing was scored yet")
    rows = sum(int(record.details.rows) for record in scored)
    return full_point(
        f"{rows:,} predictions were kept; one that is NaN or infinite stops its run", view.record(scored[-1])
    )


def speed(view: View) -> Point:
    """Mo6: the model did not become slower, larger or hungrier."""
    if not view.evaluation.get("cost"):
        return no_point("latency, size and memory were not measured")
    gated = [gate for gate in view.workspace.loop.gates if gate.metric.startswith(("batch_", "row_", "model_"))]
    reason = "measured for every candidate beside the champion"
    return (
        full_point(f"{reason}, and gated", view.report_of())
        if gated
        else half_point(f"{reason}; no gate limits it", view.report_of())
    )


def served_quality(view: View) -> Point:
    """Mo7: the quality on served data is watched."""
    records = [record for record in view.of_kind(PerformanceJudged) if record.details.value is not None]
    if not records:
        return no_point("no partition's predictions were held against its labels")
    last = records[-1]
    alarms = sum(record.details.alarms for record in records)
    reason = f"{len(records)} partitions were judged by {last.details.metric}, {alarms} alarmed"
    return full_point(reason, view.record(records[-1]))


ITEMS: Items = {
    "Mo1": ("changes of dependencies are noticed", dependencies),
    "Mo2": ("invariants hold in serving", invariants),
    "Mo3": ("no training-serving skew", skew),
    "Mo4": ("models are not too stale", freshness),
    "Mo5": ("numerically stable", numerical_stability),
    "Mo6": ("no regression of speed, size, memory", speed),
    "Mo7": ("quality on served data", served_quality),
}
