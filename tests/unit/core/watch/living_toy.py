"""The toy loop lived through week after week by the core alone, in the order of the Dags."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import GateError, NotReadyError, RolledBackError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week


def loop_of_slopes(tmp_path: Path, slopes: Sequence[float], *, rows: int = 400, **changes: Any) -> Workspace:
    """Return a loop in memory whose weeks have these slopes, nothing of which was taken in yet."""
    frames = {week(number): toy_rows(number, rows=rows, slope=slope) for number, slope in enumerate(slopes)}
    return in_memory_workspace(toy_loop(**changes), frames, scratch=tmp_path)


def live_through(workspace: Workspace, key: str) -> None:
    """Ingest a partition and run every stage that follows from it."""
    ingest(workspace, key)
    if workspace.state(before=key).champion is not None:
        score_partition(workspace, key)
        for judge in (detect_drift, measure_performance, measure_regret):
            with suppress(NotReadyError):  # not declared
                judge(workspace, key)
        decide_and_record(workspace, key, trigger="watch")
        train_and_roll_out(workspace, key)
    decide_and_record(workspace, key, trigger="nightly")
    train_and_roll_out(workspace, key)


def train_and_roll_out(workspace: Workspace, key: str) -> None:
    """Do what a decision asks for, if one is open, and take a challenger as far as the partition lets it."""
    with suppress(NotReadyError, GateError):
        request = assemble_training(workspace, key)
        fits = [fit_candidate(workspace, request, name) for name in request.candidates]
        evaluated = evaluate_candidates(workspace, request, fits)
        require_gates(workspace, request, evaluated)
        register_candidate(workspace, request, evaluated)
    with suppress(NotReadyError, RolledBackError):
        version = start_rollout(workspace, key)
        for index in range(len(workspace.loop.rollout.stages)):
            run_rollout_step(workspace, version, index, key)


def live(workspace: Workspace, weeks: int) -> list[str]:
    """Live through the first weeks; return the partitions on which a retrain was decided."""
    for number in range(weeks):
        live_through(workspace, week(number))
    return [str(record.partition) for record in workspace.state().retrains.values()]
