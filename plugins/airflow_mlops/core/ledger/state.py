"""The state of a loop: what its ledger says now, or said as of a partition. ``fold_records`` makes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.record import Record


@dataclass(frozen=True)
class Version:
    """A registered version of the model and the record that brought it.

    ``details`` are those of its ``candidate_registered`` record: metrics, window, artefact digest.
    """

    number: str
    partition: str
    details: dict[str, Any]


@dataclass(frozen=True)
class OpenRollout:
    """A rollout under way.

    ``record`` is the number of the record that started it. ``stage`` is -1 before the first stage was entered, and
    ``entered`` the partition as of which the stage was. ``settled`` says whether the stage has passed or was skipped,
    ``failed`` why it must be rolled back, ``paused`` why it goes on no further. ``looks`` are the stage's looks, oldest
    first, and ``approved`` the stages that a person has let begin.
    """

    version: Version
    record: int
    stage: int = -1
    entered: str = ""
    share: int = 0
    kind: str = "waiting"
    settled: bool = False
    failed: str | None = None
    paused: str | None = None
    looks: tuple[Record, ...] = ()
    approved: frozenset[int] = frozenset()

    @property
    def salt(self) -> str:
        """What names the rollout in the sticky split."""
        return f"rollout-{self.version.number}"


@dataclass
class LoopState:
    """What the ledger says now, or said as of a partition.

    ``traffic_record`` is the number of the last record that says who serves whom. ``drift``, ``performance``,
    ``checks`` (by partition, then by the name of the check), and ``regret`` are what was found on scored
    partitions; ``labels`` are deliveries of labels by the partition that they came with.
    """

    sequence: int = 0
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)
    scored: dict[str, dict[str, Any]] = field(default_factory=dict)
    drift: dict[str, dict[str, Any]] = field(default_factory=dict)
    performance: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    regret: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    escalations: list[Record] = field(default_factory=list)
    versions: dict[str, Version] = field(default_factory=dict)
    champion: Version | None = None
    promoted_at: str | None = None
    rollout: OpenRollout | None = None
    traffic_record: int = 0
    candidate: Version | None = None
    decisions: list[Record] = field(default_factory=list)
    retrains: list[Record] = field(default_factory=list)
    open_decision: Record | None = None
    training_started: str | None = None
    promotions: list[Record] = field(default_factory=list)
    rollbacks: list[Record] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)
    approved: dict[str, Record] = field(default_factory=dict)
    reproduced: dict[str, Record] = field(default_factory=dict)
    cards: dict[str, Record] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    mask_key: str | None = None
    purged: dict[str, int] = field(default_factory=dict)
    expired: dict[str, set[str]] = field(default_factory=dict)

    @property
    def high_water(self) -> str | None:
        """The newest partition a retrain was decided on."""
        return max((str(record.partition) for record in self.decisions), default=None)

    @property
    def in_flight(self) -> str | None:
        """What a new retrain would have to wait for, in words; None where nothing is under way."""
        if self.rollout is not None:
            paused = "" if self.rollout.paused is None else ", paused"
            return f"version {self.rollout.version.number} is being rolled out ({self.rollout.kind}{paused})"
        if self.candidate is not None:
            return f"version {self.candidate.number} waits for its rollout"
        if self.open_decision is not None:
            return f"the retrain of record {self.open_decision.sequence} is under way"
        return None

    def open_decision_by(self, as_of: str) -> Record | None:
        """Return the open decision to retrain if it is about a partition at or before ``as_of``."""
        decision = self.open_decision
        return decision if decision is not None and str(decision.partition) <= as_of else None

    def is_historical(self, partition: str) -> bool:
        """Return whether a retrain was decided on a newer partition than this one."""
        return self.high_water is not None and partition < self.high_water

    def was_champion(self, number: str) -> bool:
        """Whether a version is or was the champion."""
        return any(str(record.details["version"]) == number for record in self.promotions)

    @property
    def champions_before(self) -> list[str]:
        """Numbers of the versions that each had to make room for the next, up to the champion of now, newest first."""
        replaced = {str(one.details["version"]): one.details.get("previous") for one in self.promotions}
        found: list[str] = []
        number = replaced.get(self.champion.number) if self.champion else None
        while number is not None and number not in found:
            found.append(str(number))
            number = replaced.get(str(number))
        return found

    def require_scored(self, partition: str) -> dict[str, Any]:
        """Return what is recorded of the predictions of a partition.

        Raises
        ------
        NotReadyError
            If it was not scored.
        """
        if partition not in self.scored:
            raise NotReadyError(f"partition {partition} was not scored" if partition else "no partition was scored yet")
        return self.scored[partition]

    def newest(self, partitions: Iterable[str], as_of: str) -> str | None:
        """Return the newest of ``partitions`` at or before ``as_of``."""
        return max((key for key in partitions if key <= as_of), default=None)
