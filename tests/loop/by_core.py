"""The steps of a loop by the core alone, in the order in which the Dags take them: the quick way to a history."""

from __future__ import annotations

from contextlib import suppress

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.errors import GateError, NotReadyError, RolledBackError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.governance.certify_version import certify_version
from airflow_mlops.core.retrain.decide_retrain import decide_and_record, decide_by_hand
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace


def publish(workspace: Workspace, key: str) -> None:
    """Take a partition in."""
    manifest = take_snapshot(workspace, key)
    publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator()))


def register(workspace: Workspace, key: str, *, by_hand: bool = False) -> str:
    """Train, judge and register a candidate as of a partition; return the number of its version."""
    if by_hand:
        decide_by_hand(workspace, key)
    request = assemble_training(workspace, key)
    fits = [fit_candidate(workspace, request, candidate) for candidate in request.candidates]
    evaluated = evaluate_candidates(workspace, request, fits)
    require_gates(workspace, request, evaluated)
    return str(register_candidate(workspace, request, evaluated)["version"])


def roll_out(workspace: Workspace, key: str) -> None:
    """Take the candidate, or a challenger that holds, as far through its stages as a partition lets it."""
    version = start_rollout(workspace, key)
    for index in range(len(workspace.loop.rollout.stages)):
        run_rollout_step(workspace, version, index, key)


def meet_change(workspace: Workspace, key: str) -> None:
    """Publish, score, judge and decide on a partition, and register a candidate of it if one passes its gates."""
    publish(workspace, key)
    score_partition(workspace, key)
    with suppress(NotReadyError):  # not every loop declares drift
        detect_drift(workspace, key)
    measure_performance(workspace, key)
    decide_and_record(workspace, key, trigger="watch")
    with suppress(GateError):  # a model of the week before the change cannot pass
        register(workspace, key)


def live_through(workspace: Workspace, key: str) -> None:
    """Run one partition through the core: ingest, score, judge, decide, train and roll out."""
    publish(workspace, key)
    if workspace.state(before=key).champion is not None:
        score_partition(workspace, key)
        detect_drift(workspace, key)
        measure_performance(workspace, key)
        with suppress(NotReadyError):  # the policy does not ask for it
            measure_regret(workspace, key)
    decide_and_record(workspace, key, trigger="nightly")
    # Nothing was decided, a candidate was refused, a rollout holds or was taken back: the ledger says so.
    with suppress(NotReadyError, GateError):
        certify_version(workspace, register(workspace, key))
    with suppress(NotReadyError, RolledBackError):
        roll_out(workspace, key)
