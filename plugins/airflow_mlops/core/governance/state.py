"""The state of a loop is a fold over its ledger records, and nothing else is state.

    retrain_decided (yes) -> training_started -> candidate_registered -> rollout_started
                                             \\-> training_failed, candidate_refused, superseded
    rollout_started -> stage_entered, stage_analysed … -> promoted | rolled_back
    promoted -> rolled_back to a champion from before

With ``as_of`` only what was decided for partitions up to that key counts, which is what makes a
backfill see the world as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.core.governance.record import Record


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
    """A rollout under way. ``stage`` is -1 before the first stage was entered."""

    version: Version
    record: int
    stage: int = -1
    entered: str = ""
    share: int = 0
    kind: str = "waiting"


@dataclass
class LoopState:
    """What the ledger says now, or said as of a partition."""

    sequence: int = 0
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)
    scored: dict[str, dict[str, Any]] = field(default_factory=dict)
    drift: dict[str, dict[str, Any]] = field(default_factory=dict)
    performance: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    champion: Version | None = None
    promoted_at: str | None = None
    rollout: OpenRollout | None = None
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
            return f"version {self.rollout.version.number} is being rolled out ({self.rollout.kind})"
        if self.candidate is not None:
            return f"version {self.candidate.number} waits for its rollout"
        if self.open_decision is not None:
            return f"the retrain of record {self.open_decision.sequence} is under way"
        return None

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

    def newest(self, partitions: Iterable[str], as_of: str) -> str | None:
        """Return the newest of ``partitions`` at or before ``as_of``."""
        return max((key for key in partitions if key <= as_of), default=None)


def fold(records: Iterable[Record], *, as_of: str | None = None, before: str | None = None) -> LoopState:
    """Return the state after ``records``.

    Parameters
    ----------
    records : iterable of Record
        All records of a model, oldest first.
    as_of, before : str, optional
        Count only what was recorded for partitions at or before ``as_of``, or strictly before
        ``before``. ``sequence`` is the number of the last record either way: it is what a writer read.
    """
    state = LoopState()
    for record in records:
        state.sequence = record.sequence
        later = record.partition is not None and (
            (as_of is not None and record.partition > as_of) or (before is not None and record.partition >= before)
        )
        if not later:
            _APPLY[record.kind](state, record)
    return state


def _published(state: LoopState, record: Record) -> None:
    before = state.published.get(str(record.partition), {"publication": 0})["publication"]
    state.published[str(record.partition)] = {**record.details, "publication": before + 1}
    state.mask_key = record.details.get("mask_key") or state.mask_key
    state.refused.pop(str(record.partition), None)
    for gone in state.expired.values():
        gone.discard(str(record.partition))


def _refused(state: LoopState, record: Record) -> None:
    state.refused[str(record.partition)] = record.details


def _scored(state: LoopState, record: Record) -> None:
    state.scored[str(record.partition)] = record.details


def _drift(state: LoopState, record: Record) -> None:
    state.drift[str(record.partition)] = record.details


def _performance(state: LoopState, record: Record) -> None:
    state.performance[str(record.partition)] = record.details


def _decided(state: LoopState, record: Record) -> None:
    state.decisions.append(record)
    if record.details["retrain"]:
        state.retrains.append(record)
        state.open_decision, state.training_started = record, None


def _training_started(state: LoopState, record: Record) -> None:
    state.training_started = record.partition


def _closed(state: LoopState, record: Record) -> None:
    if state.open_decision is not None and record.details.get("decision") == state.open_decision.sequence:
        state.open_decision, state.training_started = None, None
    version = record.details.get("version")
    if version is not None and state.candidate is not None and state.candidate.number == version:
        state.candidate = None


def _registered(state: LoopState, record: Record) -> None:
    version = Version(str(record.details["version"]), str(record.partition), record.details)
    state.versions[version.number] = version
    _closed(state, record)
    state.candidate = version


def _rollout_started(state: LoopState, record: Record) -> None:
    version = state.versions[str(record.details["version"])]
    state.rollout, state.candidate = OpenRollout(version, record.sequence), None


def _stage_entered(state: LoopState, record: Record) -> None:
    if state.rollout is not None:
        state.rollout = OpenRollout(
            state.rollout.version, state.rollout.record, record.details["stage"], str(record.partition),
            record.details["share"], record.details["kind"],
        )  # fmt: skip


def _rollout_ended(state: LoopState, record: Record) -> None:
    if state.rollout is not None and state.rollout.version.number == record.details["version"]:
        state.rollout = None
    if state.candidate is not None and state.candidate.number == record.details["version"]:
        state.candidate = None


def _promoted(state: LoopState, record: Record) -> None:
    _rollout_ended(state, record)
    state.champion = state.versions[str(record.details["version"])]
    state.promoted_at = record.partition
    state.promotions.append(record)


def _rolled_back(state: LoopState, record: Record) -> None:
    _rollout_ended(state, record)
    state.rollbacks.append(record)
    _quarantined(state, record)
    instead = record.details.get("champion")
    if instead is not None:
        state.champion = state.versions[str(instead)]
        state.promoted_at = record.partition


def _lifted(state: LoopState, record: Record) -> None:
    number = str(record.details["version"])
    state.quarantined.pop(number, None)
    # To one that served, a rollback goes; one that never did waits for its rollout again, and for a new approval.
    if state.in_flight is None and number in state.versions and not state.was_champion(number):
        state.candidate = state.versions[number]


def _rejected(state: LoopState, record: Record) -> None:
    _rollout_ended(state, record)
    _quarantined(state, record)


def _quarantined(state: LoopState, record: Record) -> None:
    number = str(record.details["version"])
    state.quarantined[number] = str(record.details["reason"])
    state.approved.pop(number, None)


def _approved(state: LoopState, record: Record) -> None:
    state.approved[str(record.details["version"])] = record


def _reproduced(state: LoopState, record: Record) -> None:
    state.reproduced[str(record.details["version"])] = record


def _card_written(state: LoopState, record: Record) -> None:
    state.cards[str(record.details["version"])] = record


def _expired(state: LoopState, record: Record) -> None:
    kept = {"snapshots": state.published, "predictions": state.scored}
    for table, partitions in record.details["tables"].items():
        state.expired.setdefault(table, set()).update(partitions)
        for partition in partitions:
            if table in kept:
                kept[table].pop(partition, None)


def _forgotten(state: LoopState, record: Record) -> None:
    state.forgotten.add(str(record.details["subject"]))
    state.mask_key = record.details["mask_key"]
    for partition, changes in record.details["partitions"].items():
        if partition in state.published:
            erase(state, partition, changes)


def erase(state: LoopState, partition: str, changes: dict[str, Any]) -> None:
    """Let the state of a partition say what its tables hold after a subject was erased from them."""
    snapshots, held = changes.get("snapshots", {}), changes.get("quarantine", {})
    kept = {**snapshots, **{name: held[name] for name in ("quarantine_version", "quarantined") if name in held}}
    before = kept.pop("was", None)
    if before is not None:
        state.purged[partition] = kept["version"]
    # What arrived is not there any more as it arrived: the next ingest reads it again, whatever the source says.
    state.published[partition] = {**state.published[partition], **kept, "arrived_digest": "", "origin": {}}
    scored = state.scored.get(partition)
    if scored is not None:
        pinned = {"snapshot": kept["digest"], "snapshot_version": kept["version"]} if before else {}
        state.scored[partition] = {**scored, **changes.get("predictions", {}), **pinned}
    for judged in (state.drift, state.performance):
        if before is not None and judged.get(partition, {}).get("snapshot") == before:
            judged[partition] = {**judged[partition], "snapshot": kept["digest"]}
    if kept.get("rows") == 0:
        state.published.pop(partition)


def _noted(_state: LoopState, _record: Record) -> None:
    """A fact that changes nothing that later decisions read."""


_APPLY: dict[str, Callable[[LoopState, Record], None]] = {
    "snapshot_published": _published,
    "partition_refused": _refused,
    "predictions_published": _scored,
    "drift_judged": _drift,
    "performance_judged": _performance,
    "retrain_decided": _decided,
    "training_started": _training_started,
    "training_failed": _closed,
    "candidate_refused": _closed,
    "candidate_registered": _registered,
    "superseded": _closed,
    "rollout_started": _rollout_started,
    "stage_entered": _stage_entered,
    "stage_analysed": _noted,
    "promoted": _promoted,
    "rolled_back": _rolled_back,
    "quarantine_lifted": _lifted,
    "approved": _approved,
    "rejected": _rejected,
    "approval_void": _noted,
    "reproduced": _reproduced,
    "card_written": _card_written,
    "partitions_expired": _expired,
    "subject_forgotten": _forgotten,
}
