"""Judge partitions that came out of order: as they would have been judged, had they come in the order of their keys.

A partition that is watched after a newer one was decided on is *historical*: what its checks find raises no alarm. In a
backfill that runs backwards, or in which one partition comes late, this silences partitions only because of the order
in which they came. Here their checks are made again in the order of their keys, and raise what they find; the next
decision on a retrain counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.ledger.watch_details import DRIFT, INSUFFICIENT_DATA, PERFORMANCE, REGRET, WindowJudged
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace

COMMAND = "airflow-mlops judge"
SHOWN = 10


def partitions_out_of_order(workspace: Workspace) -> list[str]:
    """Return the partitions with silenced checks, because a newer one was decided on before their own first decision.

    A partition whose content was corrected after its first decision is not among them, nor one without a check that
    had enough data.
    """
    state, newest, late = workspace.state(), "", set()
    # Not by the cause of a decision: while a retrain is under way, a late partition is "joined".
    for record in workspace.ledger.records(RetrainDecided):
        partition = str(record.partition)
        if record.details.trigger == "watch" and partition < newest:
            late.add(partition)
        newest = max(newest, partition)
    return sorted(key for key in late if silenced_checks(workspace.loop, state, key))


def silenced_checks(loop: Loop, state: LoopState, partition: str) -> list[str]:
    """Return the declared checks of a partition that had enough data, and were made as historical."""
    declared = declared_checks(loop)
    names = [name for name in state.checked.get(partition) or () if name in declared]
    judged: Mapping[str, WindowJudged] = {name: state.judged(name)[partition] for name in names}
    return [name for name, check in judged.items() if check.historical and check.verdict != INSUFFICIENT_DATA]


def declared_checks(loop: Loop) -> set[str]:
    """Return the names of the checks that a loop declares."""
    sections = {
        DRIFT: loop.watch.drift is not None,
        PERFORMANCE: loop.watch.performance is not None,
        REGRET: isinstance(loop.retrain.policy, Regret),
    }
    return {*loop.watch.checks, *(name for name, is_declared in sections.items() if is_declared)}


def describe_out_of_order(partitions: Sequence[str]) -> str:
    """Return a sentence about partitions out of order, with the command that judges them."""
    listed = ", ".join(partitions[:SHOWN]) + (f" and {len(partitions) - SHOWN:,} more" if partitions[SHOWN:] else "")
    subject = "partition raises" if len(partitions) == 1 else "partitions raise"
    return (
        f"{len(partitions):,} {subject} no alarm, because a newer one was decided on first: {listed}; "
        f"{COMMAND} judges them in the order of their keys"
    )


def judge_in_order(workspace: Workspace, partitions: Sequence[str]) -> dict[str, dict[str, WindowJudged]]:
    """Make the silenced checks of partitions again, in the order of their keys, and return the records by check.

    Raises
    ------
    DataError
        If a partition is not out of order.
    """
    known = partitions_out_of_order(workspace)
    unknown = next((key for key in partitions if key not in known), None)
    if unknown is not None:
        known_text = ", ".join(known[:SHOWN]) or "none is"
        raise DataError(
            f"partition {unknown} has no check that was silenced by a newer one; out of order: {known_text}"
        )
    ordered = replace(workspace, in_order=True)
    return {key: _judge_partition(ordered, key) for key in sorted(partitions)}


def _judge_partition(workspace: Workspace, partition: str) -> dict[str, WindowJudged]:
    """Make the declared checks of a partition, and return the records of those that were silenced."""
    silenced = silenced_checks(workspace.loop, workspace.state(), partition)
    makers: dict[str, Callable[[Workspace, str], object]] = {
        DRIFT: detect_drift,
        PERFORMANCE: measure_performance,
        REGRET: measure_regret,
    }
    for name, make in makers.items():
        if name in silenced:
            make(workspace, partition)
    if set(silenced) - set(makers):
        run_checks(workspace, partition)
    state = workspace.state()
    return {name: state.judged(name)[partition] for name in silenced}
