"""Monitoring: would somebody notice?"""

from __future__ import annotations

from airflow_mlops.core.governance.environment_change import installed_otherwise
from airflow_mlops.core.governance.ml_test_score.points import Items, Point, View, full, half, none
from airflow_mlops.core.ledger.data_details import PredictionsPublished
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.ledger.watch_details import PerformanceJudged


def dependencies(view: View) -> Point:
    """Mo1: changes of what the model depends on are noticed."""
    compared = [
        (version, found) for version in (version for _, version in view.state.versions.items())
        if (found := installed_otherwise(view.workspace, version))
    ]  # fmt: skip
    if not compared:
        return none("no two versions carry what was installed for them")
    newest, (before, changes) = max(compared, key=lambda one: int(one[0].number))
    said = f"version {newest.number} against {before}: {'; '.join(changes) or 'nothing is installed otherwise'}"
    return full(said, f"airflow-mlops card {view.workspace.loop.model} {newest.number}")


def invariants(view: View) -> Point:
    """Mo2: what held for the data of training holds for what is served."""
    scored = view.of_kind(PredictionsPublished)
    if not scored:
        return none("nothing was scored yet")
    said = f"{len(scored)} partitions were scored, each only after it had been validated"
    return full(said, view.record(scored[-1]))


def skew(view: View) -> Point:
    """Mo3: features are the same in training and in serving."""
    if not view.state.scored:
        return none("no row was scored yet, so none was replayed")
    command = f"airflow-mlops skew {view.workspace.loop.model}"
    return half(
        "one function makes the features of both; one command replays scored rows; nothing runs it by itself", command
    )


def fresh(view: View) -> Point:
    """Mo4: models are not too stale."""
    decided = view.of_kind(RetrainDecided)
    if not decided:
        return none("no retrain was ever decided on")
    last = decided[-1]
    return full(f"staleness is judged at every partition: {last.details.reason}", view.record(last))


def stable(view: View) -> Point:
    """Mo5: no NaN or infinity."""
    scored = view.of_kind(PredictionsPublished)
    if not scored:
        return none("nothing was scored yet")
    rows = sum(int(record.details.rows) for record in scored)
    return full(f"{rows:,} predictions were kept; one that is NaN or infinite stops its run", view.record(scored[-1]))


def speed(view: View) -> Point:
    """Mo6: the model did not become slower, larger or hungrier."""
    if not view.judged.get("cost"):
        return none("latency, size and memory were not measured")
    gated = [gate for gate in view.workspace.loop.gates if gate.metric.startswith(("batch_", "row_", "model_"))]
    said = "measured for every candidate beside the champion"
    return (
        full(f"{said}, and gated", view.report_of()) if gated else half(f"{said}; no gate limits it", view.report_of())
    )


def served_quality(view: View) -> Point:
    """Mo7: the quality on served data is watched."""
    judged = [record for record in view.of_kind(PerformanceJudged) if record.details.value is not None]
    if not judged:
        return none("no partition's predictions were held against its labels")
    last = judged[-1]
    alarms = sum(record.details.alarms for record in judged)
    said = f"{len(judged)} partitions were judged by {last.details.metric}, {alarms} alarmed"
    return full(said, view.record(judged[-1]))


ITEMS: Items = {
    "Mo1": ("changes of dependencies are noticed", dependencies),
    "Mo2": ("invariants hold in serving", invariants),
    "Mo3": ("no training-serving skew", skew),
    "Mo4": ("models are not too stale", fresh),
    "Mo5": ("numerically stable", stable),
    "Mo6": ("no regression of speed, size, memory", speed),
    "Mo7": ("quality on served data", served_quality),
}
