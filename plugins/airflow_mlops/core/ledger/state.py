"""The state of a loop, folded from its ledger now or as of a partition."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.data_details import (
    LabelsArrived,
    PartitionRefused,
    PredictionsPublished,
    SnapshotPublished,
)
from airflow_mlops.core.ledger.facts import Facts, FactSource
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.rollout_details import Approved, Promoted, RolledBack
from airflow_mlops.core.ledger.state_machine import OpenRollout, StateMachine, Version
from airflow_mlops.core.ledger.training_details import (
    CandidateRefused,
    CardWritten,
    Escalated,
    Reproduced,
    RetrainDecided,
)
from airflow_mlops.core.ledger.watch_details import (
    DRIFT,
    OUTSIDE,
    PERFORMANCE,
    REGRET,
    DriftJudged,
    OutsideAlarmed,
    PerformanceJudged,
    RegretMeasured,
    WindowJudged,
)

MACHINE = "machine"
"""Table of the state machine; it has one key, the empty one."""
CHECKED = "checked"
"""Table of the names of the checks that a window has, by partition."""
EXPIRING = ("snapshots", "predictions", "quarantine")
"""Tables of the lake whose partitions expire."""


def judged_table(check: str) -> str:
    """Return the name of the table of a check's judgements, by partition."""
    return f"judged/{check}"


def expired_table(table: str) -> str:
    """Return the name of the table of the expired partitions of a table of the lake."""
    return f"expired/{table}"


def entry_key(partition: str | None, sequence: int) -> str:
    """Return the key of a record in a table that holds several of a partition: they sort by partition, then number."""
    return f"{partition or ''}|{sequence:012d}"


def notified_key(notifier: str, kind: str) -> str:
    """Return the key of what a notifier was sent of one kind of decision."""
    return f"{notifier}|{kind}"


class LoopState:
    """The state that a ledger folds to now, or as of a partition.

    The small state machine is read at once, and facts when they are asked for: as of the same partition, and at
    least as new as ``sequence``, the number of the last record.

    Parameters
    ----------
    sequence : int
        Number of the last record: what a writer read.
    machine : StateMachine
        Who serves and what is under way.
    source : FactSource
        Where facts come from.
    """

    def __init__(self, sequence: int, machine: StateMachine, source: FactSource) -> None:
        self.sequence, self.machine, self._source = sequence, machine, source
        self.published: Facts[SnapshotPublished] = Facts(source, "published")
        self.republished: Facts[int] = Facts(source, "republished")
        self.refused: Facts[PartitionRefused] = Facts(source, "refused")
        self.scored: Facts[PredictionsPublished] = Facts(source, "scored")
        self.labels: Facts[LabelsArrived] = Facts(source, "labels")
        self.drift: Facts[DriftJudged] = self.judged(DRIFT)
        self.performance: Facts[PerformanceJudged] = self.judged(PERFORMANCE)
        self.regret: Facts[RegretMeasured] = self.judged(REGRET)
        self.outside: Facts[OutsideAlarmed] = self.judged(OUTSIDE)
        self.outside_alarms: Facts[int] = Facts(source, "outside_alarms")
        self.checked: Facts[tuple[str, ...]] = Facts(source, CHECKED)
        self.decided: Facts[int] = Facts(source, "decided")
        self.retrains: Facts[Record[RetrainDecided]] = Facts(source, "retrains")
        self.refusals: Facts[Record[CandidateRefused]] = Facts(source, "refusals")
        self.promotions: Facts[str] = Facts(source, "promotions")
        self.versions: Facts[Version] = Facts(source, "versions")
        self.requests: Facts[str] = Facts(source, "requests")
        self.promoted: Facts[Promoted] = Facts(source, "promoted")
        self.rolled_back: Facts[RolledBack] = Facts(source, "rolled_back")
        self.rollback_attempts: Facts[str] = Facts(source, "rollback_attempts")
        self.quarantined: Facts[str] = Facts(source, "quarantined")
        self.approved: Facts[Record[Approved]] = Facts(source, "approved")
        self.reproduced: Facts[Record[Reproduced]] = Facts(source, "reproduced")
        self.cards: Facts[Record[CardWritten]] = Facts(source, "cards")
        self.escalations: Facts[Record[Escalated]] = Facts(source, "escalations")
        self.forgotten: Facts[bool] = Facts(source, "forgotten")
        self.purged: Facts[int] = Facts(source, "purged")
        self.notified: Facts[int] = Facts(source, "notified")

    def judged(self, check: str) -> Facts:  # type: ignore[type-arg]  # the check says which dataclass
        """Return the judgements of a check by partition."""
        return Facts(self._source, judged_table(check))

    def expired(self, table: str) -> Facts[bool]:
        """Return the expired partitions of a table of the lake."""
        return Facts(self._source, expired_table(table))

    def checks_of(self, partition: str) -> Mapping[str, WindowJudged]:
        """Return the judgements of a partition by check, without drift, performance and regret."""
        names = [name for name in self.checked.get(partition) or () if name not in (DRIFT, PERFORMANCE, REGRET)]
        return {name: self.judged(name)[partition] for name in names}

    @property
    def champion(self) -> Version | None:
        """The version that serves."""
        return self.machine.champion

    @property
    def promoted_at(self) -> str | None:
        """The partition as of which the champion became one."""
        return self.machine.promoted_at

    @property
    def candidate(self) -> Version | None:
        """The version that waits for its rollout."""
        return self.machine.candidate

    @property
    def rollout(self) -> OpenRollout | None:
        """The rollout under way."""
        return self.machine.rollout

    @property
    def open_decision(self) -> Record[RetrainDecided] | None:
        """The decision to retrain that has not ended."""
        return self.machine.open_decision

    @property
    def training_started(self) -> str | None:
        """The partition as of which the open decision was picked up."""
        return self.machine.training_started

    @property
    def traffic_record(self) -> int:
        """Number of the last record that changes the traffic."""
        return self.machine.traffic_record

    @property
    def mask_key(self) -> str | None:
        """Fingerprint of the key that masks personal columns."""
        return self.machine.mask_key

    @property
    def in_flight(self) -> str | None:
        """The reason why a new retrain has to wait; None where nothing is in flight."""
        return self.machine.in_flight

    @property
    def high_water(self) -> str | None:
        """The newest partition that a retrain was decided on, whether yes or no."""
        return self.decided.newest()

    @property
    def last_retrain(self) -> Record[RetrainDecided] | None:
        """The newest decision to retrain."""
        return next((record for _, record in self.retrains.newest_first()), None)

    def open_decision_by(self, as_of: str) -> Record[RetrainDecided] | None:
        """Return the open decision to retrain if it is about a partition at or before ``as_of``."""
        decision = self.open_decision
        return decision if decision is not None and str(decision.partition) <= as_of else None

    def is_historical(self, partition: str) -> bool:
        """Return whether a retrain was decided on a newer partition than this one."""
        newest = self.high_water
        return newest is not None and partition < newest

    def was_champion(self, number: str) -> bool:
        """Return whether a version is or was the champion."""
        return number in self.promoted

    @property
    def champions_before(self) -> list[str]:
        """Numbers of the champions before the current one, newest first."""
        promoted = [number for _, number in self.promotions.newest_first()]
        current = number = None if self.champion is None else self.champion.number
        numbers: list[str] = []
        place = 0
        while number is not None and number in promoted[place:]:
            place = promoted.index(number, place) + 1
            numbers.append(number)
            number = self._replaced_by(promoted, place - 1)
        return [number for number in dict.fromkeys(numbers) if number != current]

    def _replaced_by(self, promoted: list[str], place: int) -> str | None:
        """Return the champion that the promotion at a place among all, newest first, replaced."""
        number = promoted[place]
        if number not in promoted[:place]:
            return self.promoted[number].previous
        # Of a version that was promoted again only the newest promotion is kept; who served before it is found here.
        before = next(iter(promoted[place + 1 :]), None)
        taken_back = None if before is None else self.rolled_back.get(before)
        return before if taken_back is None or taken_back.champion is None else taken_back.champion

    def require_scored(self, partition: str) -> PredictionsPublished:
        """Return the record of the predictions of a partition.

        Raises
        ------
        NotReadyError
            If it was not scored.
        """
        scored = self.scored.get(partition) if partition else None
        if scored is None:
            raise NotReadyError(f"partition {partition} was not scored" if partition else "no partition was scored yet")
        return scored
