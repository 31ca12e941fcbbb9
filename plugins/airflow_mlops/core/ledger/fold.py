"""The fold: the state of a loop is what its ledger records say, one after another, and nothing else is state.

    retrain_decided (yes) -> training_started -> candidate_registered -> rollout_started
                                             \\-> training_failed, candidate_refused, superseded
    rollout_started -> stage_entered, stage_analysed … -> promoted | rolled_back
    promoted -> rolled_back to a champion from before

With ``as_of`` only what was decided for partitions up to that key counts, which is what makes a
backfill see the world as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState, OpenRollout, Version


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
            APPLY[record.kind](state, record)
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


def _checked(state: LoopState, record: Record) -> None:
    state.checks.setdefault(str(record.partition), {})[str(record.details["check"])] = record.details


def _regret(state: LoopState, record: Record) -> None:
    state.regret[str(record.partition)] = record.details


def _labels_arrived(state: LoopState, record: Record) -> None:
    state.labels[str(record.partition)] = record.details


def _escalated(state: LoopState, record: Record) -> None:
    state.escalations.append(record)


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
    state.traffic_record = record.sequence


def _open(state: LoopState, record: Record) -> OpenRollout | None:
    """Return the rollout that a record is about; None where that has ended."""
    rollout = state.rollout
    return rollout if rollout is not None and rollout.version.number == str(record.details["version"]) else None


def _stage_entered(state: LoopState, record: Record) -> None:
    rollout = _open(state, record)
    if rollout is not None:
        state.rollout = replace(
            rollout, stage=record.details["stage"], entered=str(record.partition), share=record.details["share"],
            kind=record.details["kind"], settled=False, looks=(),
        )  # fmt: skip
        state.traffic_record = record.sequence


def _stage_analysed(state: LoopState, record: Record) -> None:
    rollout, details = _open(state, record), record.details
    if rollout is None or details["rollout"] != rollout.record or details["stage"] != rollout.stage:
        return
    failed = rollout.failed
    if details["verdict"] == "fail":
        failed = failed or f"{details['name']}: {details['reason']}"
    settled = rollout.settled or details["verdict"] == "pass"
    state.rollout = replace(rollout, looks=(*rollout.looks, record), settled=settled, failed=failed)


def _stage_skipped(state: LoopState, record: Record) -> None:
    rollout = _open(state, record)
    if rollout is not None and record.details["stage"] == rollout.stage:
        state.rollout = replace(rollout, settled=True)


def _stage_approved(state: LoopState, record: Record) -> None:
    rollout = _open(state, record)
    if rollout is not None:
        state.rollout = replace(rollout, approved=rollout.approved | {int(record.details["stage"])})


def _paused(state: LoopState, record: Record) -> None:
    rollout = _open(state, record)
    if rollout is not None:
        state.rollout = replace(rollout, paused=str(record.details["reason"]))


def _resumed(state: LoopState, record: Record) -> None:
    rollout = _open(state, record)
    if rollout is not None:
        state.rollout = replace(rollout, paused=None)


def _rollout_ended(state: LoopState, record: Record) -> None:
    state.traffic_record = record.sequence
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
        if "labels" in changes and partition in state.labels:
            state.labels[partition] = {**state.labels[partition], **changes["labels"]}
        if partition in state.published and set(changes) - {"labels"}:
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
    for judged in (state.drift, state.performance, state.regret):
        if before is not None and judged.get(partition, {}).get("snapshot") == before:
            judged[partition] = {**judged[partition], "snapshot": kept["digest"]}
    for name, found in state.checks.get(partition, {}).items():
        if before is not None and found.get("snapshot") == before:
            state.checks[partition][name] = {**found, "snapshot": kept["digest"]}
    if kept.get("rows") == 0:
        state.published.pop(partition)


def _noted(_state: LoopState, _record: Record) -> None:
    """A fact that changes nothing that later decisions read."""


APPLY: dict[str, Callable[[LoopState, Record], None]] = {
    "snapshot_published": _published,
    "partition_refused": _refused,
    "predictions_published": _scored,
    "drift_judged": _drift,
    "performance_judged": _performance,
    "check_judged": _checked,
    "regret_measured": _regret,
    "labels_arrived": _labels_arrived,
    "report_rendered": _noted,
    "escalated": _escalated,
    "retrain_decided": _decided,
    "training_started": _training_started,
    "training_failed": _closed,
    "candidate_refused": _closed,
    "candidate_registered": _registered,
    "superseded": _closed,
    "rollout_started": _rollout_started,
    "stage_entered": _stage_entered,
    "stage_approved": _stage_approved,
    "stage_analysed": _stage_analysed,
    "stage_skipped": _stage_skipped,
    "rollout_paused": _paused,
    "rollout_resumed": _resumed,
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
