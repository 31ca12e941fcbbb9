"""The history of a loop for pictures: its metric by partition, what it did, its drift, its gates and its rollout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.charts.boundary_chart import LookPoint
from airflow_mlops.core.charts.heat_map import HeatCell
from airflow_mlops.core.charts.metric_chart import ChartMark, MetricPoint
from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.rollout_details import Promoted, Rejected, RolledBack, RolloutStarted, StageAnalysed
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import CandidateRefused, RetrainDecided, TrainingFailed
from airflow_mlops.core.overview.sentences import describe_record

PARTITIONS = 60
"""Partitions of the picture of the metric."""
DRIFT_PARTITIONS, DRIFT_COLUMNS = 24, 24
MARKS_READ = 200
"""Records of decisions that are looked through for marks, from the newest."""
KINDS = {
    RetrainDecided: "retrain",
    Promoted: "promoted",
    RolledBack: "rolled back",
    Rejected: "refused",
    CandidateRefused: "refused",
    TrainingFailed: "refused",
    RolloutStarted: "rollout",
}
Href = Callable[[str], str]


def metric_points(
    state: LoopState, href: Href | None = None, *, until: str | None = None, partitions: int = PARTITIONS
) -> list[MetricPoint]:
    """Return the metric of the newest measured partitions, oldest first.

    Parameters
    ----------
    href : callable, optional
        Gives the address of a partition.
    until : str, optional
        The last partition that counts; the newest one if not given.
    """
    return [
        MetricPoint(
            label=partition,
            value=details.value,
            low=details.low,
            high=details.high,
            reference=details.reference,
            alarm=details.alarms,
            href=None if href is None else href(partition),
        )
        for partition, details in [*state.performance.newest_first(until=until, limit=partitions)][::-1]
    ]


def decision_marks(ledger: Ledger, since: str, href: Callable[[int], str]) -> list[ChartMark]:
    """Return the marks of decisions as of partitions from ``since`` on, oldest first.

    Parameters
    ----------
    since : str
        The first partition that counts.
    href : callable
        Gives the address of a record by its number.
    """
    marks = []
    for read, record in enumerate(ledger.records(*KINDS, newest_first=True)):
        details = record.details
        if read >= MARKS_READ:
            break
        if record.partition is None or record.partition < since:
            continue
        if isinstance(details, RetrainDecided) and not details.retrain:
            continue
        kind = KINDS[type(details)]
        marks.append(ChartMark(kind, record.partition, describe_record(record), href(record.sequence)))
    return marks[::-1]


@dataclass(frozen=True)
class DriftMap:
    """The distance of each column in each partition. ``lost`` has the reasons why evidence could not be read."""

    columns: tuple[str, ...]
    partitions: tuple[str, ...]
    cells: dict[tuple[str, str], HeatCell]
    lost: tuple[str, ...] = ()


def drift_map(
    state: LoopState, evidence: EvidenceStore, href: Callable[[str, str], str], *, partitions: int = DRIFT_PARTITIONS
) -> DriftMap:
    """Return how far the columns of the newest judged partitions had moved, those that alarm or move most first.

    Parameters
    ----------
    href : callable
        Gives the address of a column's histogram, by partition and column.
    """
    cells: dict[tuple[str, str], HeatCell] = {}
    lost, keys = [], []
    for partition, details in [*state.drift.newest_first(limit=partitions)][::-1]:
        keys.append(partition)
        if details.report is None:
            continue
        try:
            report = evidence.get(details.report)
        except LedgerError as error:
            lost.append(str(error))
            continue
        for entry in report.get("columns", ()):
            column, distance = str(entry["column"]), entry.get("distance", entry.get("score"))
            if distance is not None:
                alarm = bool(entry.get("drifted"))
                cells[column, partition] = HeatCell(float(distance), alarm, href(partition, column))
    ranks: dict[str, tuple[int, float]] = {}
    for (column, _), cell in cells.items():
        alarms, greatest = ranks.get(column, (0, 0.0))
        ranks[column] = (alarms + cell.alarm, max(greatest, cell.value))
    columns = sorted(ranks, key=lambda column: (-ranks[column][0], -ranks[column][1], column))[:DRIFT_COLUMNS]
    shown = {key: cell for key, cell in cells.items() if key[0] in set(columns)}
    return DriftMap(tuple(columns), tuple(keys), shown, tuple(lost))


def gates_of(version: Version, evidence: EvidenceStore) -> list[dict[str, Any]]:
    """Return the gate reports of a version, as JSON values, as they were judged before it was registered.

    Raises
    ------
    LedgerError
        If its evidence is gone or was changed.
    """
    details = version.details
    if details.report is None:
        return []
    return candidate_gates(evidence.get(details.report), details.candidate)


def candidate_gates(report: dict[str, Any], candidate: str) -> list[dict[str, Any]]:
    """Return the gate reports of a candidate in the evidence of an evaluation."""
    entries = report.get("candidates", ())
    return next((list(entry.get("gates", ())) for entry in entries if entry.get("candidate") == candidate), [])


@dataclass(frozen=True)
class StepLooks:
    """The analyses of a metric at a step of a rollout."""

    step: str
    metric: str
    looks: tuple[LookPoint, ...]


def rollout_looks(records: Iterator[Record[StageAnalysed]], rollout: int) -> list[StepLooks]:
    """Return the analyses of a rollout by step and metric, in the order of their first look.

    Parameters
    ----------
    records : iterator of Record
        Analyses, oldest first; those of other rollouts are left out.
    rollout : int
        Number of the record that started the rollout.
    """
    looks_of: dict[tuple[str, str], list[LookPoint]] = {}
    for record in records:
        details = record.details
        if details.rollout != rollout:
            continue
        for metric in details.metrics:
            numbers = metric.get("numbers", {})
            if not {"z", "pass_boundary", "fail_boundary"} <= numbers.keys():
                continue
            look = LookPoint(
                details.information,
                float(numbers["z"]),
                float(numbers["pass_boundary"]),
                float(numbers["fail_boundary"]),
                str(metric.get("verdict", details.verdict)),
                str(metric.get("reason", details.reason)),
            )
            looks_of.setdefault((details.name, str(metric.get("metric", ""))), []).append(look)
    return [StepLooks(step, metric, tuple(looks)) for (step, metric), looks in looks_of.items()]
