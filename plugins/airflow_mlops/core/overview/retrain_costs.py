"""The cost of a loop's retrains beside that of a stale champion: fits, regret, and the declared limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from airflow_mlops.core.charts.cost_chart import CostPoint, FitBar
from airflow_mlops.core.charts.svg import format_number
from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import (
    CandidateRefused,
    CandidateRegistered,
    RetrainDecided,
    TrainingFailed,
    VersionRecalled,
)
from airflow_mlops.core.ledger.watch_details import RegretMeasured
from airflow_mlops.core.retrain.retrain_policy import BUDGET_PERIOD

PARTITIONS, TRAININGS = 60, 30
"""Newest partitions, and newest trainings among them."""


@dataclass(frozen=True)
class TrainingCost:
    """A training that ended: as of which partition, why, how long all its fits took, of how many rows, and the result.

    ``seconds`` is wall time; None where it was not recorded. ``sequence`` is the number of the record that ended it.
    """

    partition: str
    cause: str
    seconds: float | None
    rows: int | None
    result: str
    registered: bool
    sequence: int

    @property
    def message(self) -> str:
        """The training in words."""
        time = "time not recorded" if self.seconds is None else f"{format_number(self.seconds)} s of fits"
        return f"{self.result}, {time}, because: {self.cause}"


@dataclass(frozen=True)
class RegretPoint:
    """The regret of a partition, and the sum since the promotion of the champion that scored it; None if unknown."""

    partition: str
    regret: float | None
    total: float | None
    message: str


@dataclass(frozen=True)
class RetrainCosts:
    """Trainings, newest first, and regret by partition, oldest first, with the limits that were declared."""

    trainings: tuple[TrainingCost, ...]
    regret: tuple[RegretPoint, ...]
    partitions: tuple[str, ...]
    limit: float | None
    limits: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Seconds of the fits of all trainings whose time was recorded."""
        return sum(training.seconds or 0.0 for training in self.trainings)

    def points(self, href: Callable[[int], str]) -> list[CostPoint]:
        """Return the points of the picture, oldest first; ``href`` gives the address of a record by its number."""
        totals = {point.partition: point.total for point in self.regret}
        fits: dict[str, list[FitBar]] = {}
        for training in reversed(self.trainings):
            bar = FitBar(training.seconds, training.registered, training.message, href(training.sequence))
            fits.setdefault(training.partition, []).append(bar)
        return [CostPoint(key, totals.get(key), tuple(fits.get(key, ()))) for key in self.partitions]


def retrain_costs(ledger: Ledger, state: LoopState) -> RetrainCosts:
    """Return the costs in the newest ``PARTITIONS``; it costs the same however long the history is."""
    partitions = state.published.last(PARTITIONS)
    since = partitions[0] if partitions else ""
    newest = next(ledger.records(RetrainDecided, newest_first=True), None)
    declared = None if newest is None else newest.details.declared
    policy = None if declared is None else declared.get("policy")
    limit = policy.get("regret") if isinstance(policy, Mapping) else None
    return RetrainCosts(
        trainings=tuple(_trainings(ledger, since)),
        regret=tuple(regret_points(state, since, newest)),
        partitions=tuple(partitions),
        limit=None if limit is None else float(limit),
        limits=tuple(limits_in_words(state, declared)),
    )


def regret_points(state: LoopState, since: str, decision: Record[RetrainDecided] | None = None) -> list[RegretPoint]:
    """Return the regret of partitions from ``since`` on, oldest first; a sum begins anew with each champion.

    Parameters
    ----------
    decision : Record, optional
        The newest decision to retrain or not. It knows the sum of a champion that serves for longer than is shown.
    """
    shown = [
        (partition, measured)
        for partition, measured in [*state.regret.newest_first(limit=PARTITIONS)][::-1]
        if partition >= since and not measured.historical
    ]
    points: list[RegretPoint] = []
    champion, total = None, 0.0
    for index, (partition, measured) in enumerate(shown):
        if measured.champion != champion:
            champion, total = measured.champion, 0.0 if index else _before(state, shown, decision)
        total += measured.regret or 0.0
        known = measured.regret is not None
        points.append(RegretPoint(partition, measured.regret, total if known else None, measured.message))
    return points


def _before(
    state: LoopState, shown: Sequence[tuple[str, RegretMeasured]], decision: Record[RetrainDecided] | None
) -> float:
    """Return the regret of the champion on partitions before those that are shown, by the sum it was decided on."""
    total = None if decision is None else decision.details.numbers.get("regret")
    if decision is None or total is None or state.champion is None or state.champion.number != shown[0][1].champion:
        return 0.0
    counted = [measured.regret or 0.0 for partition, measured in shown if partition <= str(decision.partition)]
    return max(float(total) - sum(counted), 0.0)


def _trainings(ledger: Ledger, since: str) -> list[TrainingCost]:
    records = ledger.records(CandidateRegistered, VersionRecalled, CandidateRefused, TrainingFailed, newest_first=True)
    ended = (record for record in records if record.details.decision)  # an adopted version cost nothing here
    return [_training(ledger, record) for record in islice(ended, TRAININGS) if (record.partition or "") >= since]


def _training(ledger: Ledger, record: Record[Any]) -> TrainingCost:
    details = record.details
    decision = ledger.record(details.decision)
    cause = decision.details.cause if decision and isinstance(decision.details, RetrainDecided) else "unknown"
    seconds, rows, result = None, None, "failed"
    if isinstance(details, CandidateRegistered):
        seconds = details.fit_seconds if details.training_seconds is None else details.training_seconds
        rows, result = details.rows, f"version {details.version}"
    elif isinstance(details, CandidateRefused):
        seconds, result = details.training_seconds, "refused by its gates"
    elif isinstance(details, VersionRecalled):
        seconds, result = details.training_seconds, f"version {details.version} recalled"
    registered = isinstance(details, CandidateRegistered | VersionRecalled)
    return TrainingCost(str(record.partition), cause, seconds, rows, result, registered, record.sequence)


def limits_in_words(state: LoopState, declared: Mapping[str, Any] | None) -> list[str]:
    """Return the declared policy, cooldown and budget, each beside what is used of it."""
    if declared is None:
        return []
    policy, newest = declared.get("policy"), state.published.newest()
    if isinstance(policy, Mapping):
        kind = "regret" if "regret" in policy else "clock"
        unit = "as the cost of a promotion" if kind == "regret" else "partitions"
        words = f"by {kind}, {format_number(float(policy[kind]))} {unit}"
        words += ", or by an alarm" if policy.get("or_alarm") else ""
    else:
        words = "by alarm" if policy == "alarm" else str(policy)
    sentences = [f"Policy: {words}."]
    retrain = state.last_retrain
    if newest is not None and retrain is not None:
        age = state.published.count(after=retrain.partition, until=newest)
        cooldown = declared.get("cooldown")
        sentences.append(f"Cooldown: {cooldown} partition{'s' * (cooldown != 1)}; the last retrain was {age} ago.")
    if newest is not None:
        period = state.published.last(BUDGET_PERIOD, until=newest)
        spent = state.promotions.count(since=period[0])
        sentences.append(
            f"Budget: {declared.get('budget')} promotions in {BUDGET_PERIOD} partitions; {spent} used in the newest "
            f"{len(period)}."
        )
    return sentences
