"""The effects of each kind of record: changes of keys in the tables of facts and of the state machine.

These rules are the definition of the state. A fold applies them to one picture of the loop; a projection applies them
to the picture as of each partition at which a value changes (:mod:`~airflow_mlops.core.ledger.projection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from airflow_mlops.core.ledger import data_details as data
from airflow_mlops.core.ledger import notice_details as notice
from airflow_mlops.core.ledger import rollout_details as rollout
from airflow_mlops.core.ledger import training_details as training
from airflow_mlops.core.ledger import watch_details as watch
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.facts import FactSource
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import (
    CHECKED,
    EXPIRING,
    MACHINE,
    entry_key,
    expired_table,
    judged_table,
    notified_key,
)
from airflow_mlops.core.ledger.state_machine import OpenRollout, Recall, StateMachine, Version

Change = Callable[[Any, FactSource], Any]


@dataclass(frozen=True)
class Effect:
    """A change of one key of one table.

    ``change`` is given the value, None where there is none, and the facts as they were before the record, all as of
    the same partition; it returns the new value, None to remove the key. ``reads`` names the facts, by table and key,
    that it asks for.
    """

    table: str
    key: str
    change: Change
    reads: tuple[tuple[str, str], ...] = ()


def effects_of(record: Record[Any], before: FactSource) -> list[Effect]:
    """Return the effects of a record on the facts.

    Parameters
    ----------
    record : Record
        The record.
    before : FactSource
        The facts before it, which tell how many tables an erasure touches.
    """
    kind = RULES.get(type(record.details)) or RULES.get(_base(record.details))
    return [] if kind is None else list(kind(record, before))


def _base(details: Details) -> type[Details]:
    return watch.WindowJudged if isinstance(details, watch.WindowJudged) else type(details)


def put(table: str, key: str, value: Any) -> Effect:
    """Return the effect that sets a key, or with None removes it."""
    return Effect(table, key, lambda _value, _before: value)


def move(change: Callable[[StateMachine], StateMachine]) -> Effect:
    """Return an effect on the state machine."""
    return Effect(MACHINE, "", lambda value, _before: change(value or StateMachine()))


def move_knowing(change: Callable[[StateMachine, FactSource], StateMachine], *reads: tuple[str, str]) -> Effect:
    """Return an effect on the state machine that needs facts."""
    return Effect(MACHINE, "", lambda value, before: change(value or StateMachine(), before), reads)


def _published(record: Record[data.SnapshotPublished], _before: FactSource) -> Iterator[Effect]:
    details, key = record.details, str(record.partition)

    def numbered(value: data.SnapshotPublished | None, _before: FactSource) -> data.SnapshotPublished:
        return replace(details, publication=1 + ((value.publication or 0) if value else 0))

    yield Effect("published", key, numbered)
    # Scored before, and published anew: it may have to be scored again.
    yield Effect(
        "republished",
        key,
        lambda value, before: value if before.value("scored", key) is None else record.sequence,
        (("scored", key),),
    )
    if details.mask_key:
        yield move(lambda machine: replace(machine, mask_key=details.mask_key))
    yield put("refused", key, None)
    for table in EXPIRING:
        yield put(expired_table(table), key, None)


def _refused(record: Record[data.PartitionRefused], _before: FactSource) -> Iterator[Effect]:
    yield put("refused", str(record.partition), record.details)


def _scored(record: Record[data.PredictionsPublished], _before: FactSource) -> Iterator[Effect]:
    yield put("scored", str(record.partition), record.details)


def _labels_arrived(record: Record[data.LabelsArrived], _before: FactSource) -> Iterator[Effect]:
    yield put("labels", str(record.partition), record.details)


def _judged(record: Record[watch.WindowJudged], _before: FactSource) -> Iterator[Effect]:
    key, check = str(record.partition), record.details.check
    yield put(judged_table(check), key, record.details)
    yield Effect(CHECKED, key, lambda names, _before: tuple(sorted({*(names or ()), check})))
    if isinstance(record.details, watch.OutsideAlarmed):
        for alarm in record.details.added:
            yield put("outside_alarms", alarm.id, record.sequence)


def _escalated(record: Record[training.Escalated], _before: FactSource) -> Iterator[Effect]:
    yield put("escalations", record.details.champion, record)


def _decided(record: Record[training.RetrainDecided], _before: FactSource) -> Iterator[Effect]:
    yield put("decided", str(record.partition), record.sequence)
    if record.details.retrain:
        yield put("retrains", entry_key(record.partition, record.sequence), record)
        yield move(lambda machine: replace(machine, open_decision=record, training_started=None))


def _training_started(record: Record[training.TrainingStarted], _before: FactSource) -> Iterator[Effect]:
    yield move(lambda machine: replace(machine, training_started=record.partition))


def _candidate_refused(record: Record[training.CandidateRefused], _before: FactSource) -> Iterator[Effect]:
    yield put("refusals", entry_key(record.partition, record.sequence), record)
    yield move(lambda machine: machine.closing(decision=record.details.decision, version=None))


def _training_failed(record: Record[training.TrainingFailed], _before: FactSource) -> Iterator[Effect]:
    yield move(lambda machine: machine.closing(decision=record.details.decision, version=None))


def _superseded(record: Record[training.Superseded], _before: FactSource) -> Iterator[Effect]:
    details = record.details
    yield move(lambda machine: machine.closing(decision=details.decision, version=details.version))


def _registered(record: Record[training.CandidateRegistered], _before: FactSource) -> Iterator[Effect]:
    details = record.details
    version = Version(details.version, str(record.partition), details)

    def candidate(machine: StateMachine) -> StateMachine:
        return replace(machine.closing(decision=details.decision, version=details.version), candidate=version)

    yield put("versions", version.number, version)
    if details.request:
        yield put("requests", details.request, version.number)
    yield move(candidate)


def _recalled(record: Record[training.VersionRecalled], _before: FactSource) -> Iterator[Effect]:
    details = record.details
    recall = Recall(str(record.partition), details.decision, details.report)

    def again(version: Version | None, _before: FactSource) -> Version | None:
        return None if version is None else replace(version, recall=recall)

    def candidate(machine: StateMachine, before: FactSource) -> StateMachine:
        closed = machine.closing(decision=details.decision, version=None)
        version: Version | None = before.value("versions", details.version)
        return closed if version is None else replace(closed, candidate=replace(version, recall=recall))

    yield move_knowing(candidate, ("versions", details.version))
    yield Effect("versions", details.version, again)
    # What a person said of it was said of another rollout.
    yield put("approved", details.version, None)


def _rollout_started(record: Record[rollout.RolloutStarted], _before: FactSource) -> Iterator[Effect]:
    def started(machine: StateMachine, before: FactSource) -> StateMachine:
        version: Version | None = before.value("versions", record.details.version)
        if version is None:
            return machine  # made as of a later partition: not there yet
        opened = OpenRollout(version, record.sequence)
        return replace(machine, rollout=opened, candidate=None, traffic_record=record.sequence)

    yield move_knowing(started, ("versions", record.details.version))


def _moving_rollout(version: str, change: Callable[[OpenRollout], OpenRollout]) -> Effect:
    """Return an effect on the open rollout of a version; none where that has ended."""

    def changed(machine: StateMachine) -> StateMachine:
        opened = machine.rollout_of(version)
        return machine if opened is None else replace(machine, rollout=change(opened))

    return move(changed)


def _stage_entered(record: Record[rollout.StageEntered], _before: FactSource) -> Iterator[Effect]:
    def entered(machine: StateMachine) -> StateMachine:
        opened = machine.rollout_of(record.details.version)
        if opened is None:
            return machine
        return replace(machine, rollout=opened.entering(record), traffic_record=record.sequence)

    yield move(entered)


def _stage_analysed(record: Record[rollout.StageAnalysed], _before: FactSource) -> Iterator[Effect]:
    yield _moving_rollout(record.details.version, lambda opened: opened.analysed(record))


def _stage_skipped(record: Record[rollout.StageSkipped], _before: FactSource) -> Iterator[Effect]:
    details = record.details
    yield _moving_rollout(
        details.version, lambda opened: replace(opened, settled=True) if details.stage == opened.stage else opened
    )


def _stage_approved(record: Record[rollout.StageApproved], _before: FactSource) -> Iterator[Effect]:
    details = record.details
    yield _moving_rollout(details.version, lambda opened: replace(opened, approved=opened.approved | {details.stage}))


def _paused(record: Record[rollout.RolloutPaused], _before: FactSource) -> Iterator[Effect]:
    details = record.details
    yield _moving_rollout(details.version, lambda opened: replace(opened, paused=details.reason))


def _resumed(record: Record[rollout.RolloutResumed], _before: FactSource) -> Iterator[Effect]:
    yield _moving_rollout(record.details.version, lambda opened: replace(opened, paused=None))


def _promoted(record: Record[rollout.Promoted], _before: FactSource) -> Iterator[Effect]:
    number = record.details.version

    def champion(machine: StateMachine, before: FactSource) -> StateMachine:
        ended = machine.rollout_ended(number, record.sequence)
        version: Version | None = before.value("versions", number)
        return ended if version is None else replace(ended, champion=version, promoted_at=record.partition)

    yield move_knowing(champion, ("versions", number))
    yield put("promoted", number, record.details)
    # A person was told of its first reign; of this one nothing is known yet.
    yield put("escalations", number, None)
    yield put("promotions", entry_key(record.partition, record.sequence), number)


def _rolled_back(record: Record[rollout.RolledBack], _before: FactSource) -> Iterator[Effect]:
    details = record.details

    def back(machine: StateMachine, before: FactSource) -> StateMachine:
        ended = replace(machine.rollout_ended(details.version, record.sequence), last_rollback=record.sequence)
        version: Version | None = before.value("versions", details.champion) if details.champion else None
        return ended if version is None else replace(ended, champion=version, promoted_at=record.partition)

    yield move_knowing(back, *((("versions", details.champion),) if details.champion else ()))
    yield put("rolled_back", details.version, details)
    if details.once is not None:
        yield put("rollback_attempts", details.once, details.version)
    yield from _quarantine(details.version, details.reason)


def _quarantine(version: str, reason: str) -> Iterator[Effect]:
    yield put("quarantined", version, reason)
    yield put("approved", version, None)


def _rejected(record: Record[rollout.Rejected], _before: FactSource) -> Iterator[Effect]:
    details = record.details
    yield move(lambda machine: machine.rollout_ended(details.version, record.sequence))
    yield from _quarantine(details.version, details.reason)


def _lifted(record: Record[rollout.QuarantineLifted], _before: FactSource) -> Iterator[Effect]:
    number = record.details.version

    def waiting(machine: StateMachine, before: FactSource) -> StateMachine:
        version: Version | None = before.value("versions", number)
        # A rollback goes to one that served; one that never did waits for its rollout again, and for a new approval.
        if machine.in_flight is not None or version is None or before.value("promoted", number) is not None:
            return machine
        return replace(machine, candidate=version)

    yield put("quarantined", number, None)
    yield move_knowing(waiting, ("versions", number), ("promoted", number))


def _approved(record: Record[rollout.Approved], _before: FactSource) -> Iterator[Effect]:
    yield put("approved", record.details.version, record)


def _reproduced(record: Record[training.Reproduced], _before: FactSource) -> Iterator[Effect]:
    yield put("reproduced", record.details.version, record)


def _card_written(record: Record[training.CardWritten], _before: FactSource) -> Iterator[Effect]:
    yield put("cards", record.details.version, record)


def _notified(record: Record[notice.Notified], _before: FactSource) -> Iterator[Effect]:
    details = record.details
    for kind in details.kinds:
        # Never back: whoever sent for longer than a lease holds comes last.
        key = notified_key(details.notifier, kind)
        yield Effect("notified", key, lambda value, _before: max(value or 0, details.last))


def _expired(record: Record[data.PartitionsExpired], _before: FactSource) -> Iterator[Effect]:
    held = {"snapshots": "published", "predictions": "scored"}
    for table, partitions in record.details.tables.items():
        for partition in partitions:
            yield put(expired_table(table), partition, True)
            if table in held:
                yield put(held[table], partition, None)


def _forgotten(record: Record[data.SubjectForgotten], before: FactSource) -> Iterator[Effect]:
    details = record.details
    yield put("forgotten", details.subject, True)
    yield move(lambda machine: replace(machine, mask_key=details.mask_key))
    for partition, change in details.partitions.items():
        if change.labels is not None:
            yield Effect("labels", partition, _with_labels(change.labels))
        if set(change.tables) - {"labels"}:
            yield from _erased(partition, change, before.value(CHECKED, partition) or ())


def _with_labels(erased: data.ErasedLabels) -> Change:
    def changed(labels: data.LabelsArrived | None, _before: FactSource) -> data.LabelsArrived | None:
        return None if labels is None else replace(labels, **asdict(erased))

    return changed


def _erased(partition: str, change: data.PartitionErasure, checks: Iterable[str]) -> Iterator[Effect]:
    """Yield the effects that bring the facts of a partition in line with its tables after a subject was erased."""
    reads = (("published", partition),)
    yield Effect("published", partition, _published_without(change))
    yield Effect("scored", partition, _scored_without(partition, change), reads)
    if change.snapshots is None:
        return
    yield Effect("purged", partition, _purged_up_to(partition, change.snapshots.version), reads)
    for check in checks:
        yield Effect(judged_table(check), partition, _judged_on(partition, change.snapshots), reads)


def _published_without(change: data.PartitionErasure) -> Change:
    snapshots, quarantine = change.snapshots, change.quarantine

    def changed(value: data.SnapshotPublished | None, _before: FactSource) -> data.SnapshotPublished | None:
        if value is None or (snapshots is not None and snapshots.rows == 0):
            return None
        # The rows as they arrived are gone: the next ingest reads the partition again, even from an unchanged source.
        value = replace(value, arrived_digest="", origin={})
        if snapshots is not None:
            value = replace(value, **{name: part for name, part in asdict(snapshots).items() if name != "was"})
        if quarantine is not None:
            value = replace(value, quarantine_version=quarantine.quarantine_version, quarantined=quarantine.quarantined)
        return value

    return changed


def _scored_without(partition: str, change: data.PartitionErasure) -> Change:
    snapshots, predictions = change.snapshots, change.predictions

    def changed(value: data.PredictionsPublished | None, before: FactSource) -> data.PredictionsPublished | None:
        if value is None or before.value("published", partition) is None:
            return value
        if predictions is not None:
            value = replace(value, **asdict(predictions))
        if snapshots is not None:
            value = replace(value, snapshot=snapshots.digest, snapshot_version=snapshots.version)
        return value

    return changed


def _purged_up_to(partition: str, version: int) -> Change:
    def changed(value: int | None, before: FactSource) -> int | None:
        return value if before.value("published", partition) is None else version

    return changed


def _judged_on(partition: str, snapshots: data.ErasedSnapshot) -> Change:
    def changed(value: watch.WindowJudged | None, before: FactSource) -> watch.WindowJudged | None:
        if value is None or value.snapshot != snapshots.was or before.value("published", partition) is None:
            return value
        return replace(value, snapshot=snapshots.digest)

    return changed


RULES: dict[type[Details], Callable[[Record[Any], FactSource], Iterator[Effect]]] = {
    data.SnapshotPublished: _published,
    data.PartitionRefused: _refused,
    data.PredictionsPublished: _scored,
    data.LabelsArrived: _labels_arrived,
    data.PartitionsExpired: _expired,
    data.SubjectForgotten: _forgotten,
    watch.WindowJudged: _judged,
    training.Escalated: _escalated,
    training.RetrainDecided: _decided,
    training.TrainingStarted: _training_started,
    training.TrainingFailed: _training_failed,
    training.CandidateRefused: _candidate_refused,
    training.CandidateRegistered: _registered,
    training.VersionRecalled: _recalled,
    training.Superseded: _superseded,
    training.Reproduced: _reproduced,
    training.CardWritten: _card_written,
    rollout.RolloutStarted: _rollout_started,
    rollout.StageEntered: _stage_entered,
    rollout.StageApproved: _stage_approved,
    rollout.StageAnalysed: _stage_analysed,
    rollout.StageSkipped: _stage_skipped,
    rollout.RolloutPaused: _paused,
    rollout.RolloutResumed: _resumed,
    rollout.Promoted: _promoted,
    rollout.RolledBack: _rolled_back,
    rollout.QuarantineLifted: _lifted,
    rollout.Approved: _approved,
    rollout.Rejected: _rejected,
    notice.Notified: _notified,
}
"""What a record changes, by its kind; one that is not listed is a fact that no later decision reads."""
