"""Records of the ledger as sentences that a person reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_mlops.core.ledger import data_details as data
from airflow_mlops.core.ledger import notice_details as notice
from airflow_mlops.core.ledger import replay_details as replay
from airflow_mlops.core.ledger import rollout_details as rollout
from airflow_mlops.core.ledger import training_details as training
from airflow_mlops.core.ledger import watch_details as watch
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Record

BAD, GOOD, ASK, PLAIN = "bad", "good", "ask", "plain"
"""How a record is meant: something went wrong, something went well, a person is needed, or neither."""


def describe_record(record: Record[Any]) -> str:
    """Return the content of a record as one sentence, without its partition and its actor."""
    details = record.details
    describe = SENTENCES.get(type(details)) or (_judged if isinstance(details, watch.WindowJudged) else None)
    return record.kind.replace("_", " ") if describe is None else describe(details)


def tone_of(record: Record[Any]) -> str:
    """Return how a record is meant: ``bad``, ``good``, ``ask`` or ``plain``."""
    details = record.details
    if isinstance(details, watch.WindowJudged):
        return BAD if details.alarms else PLAIN
    if isinstance(details, rollout.StageAnalysed):
        return BAD if details.verdict == "fail" else GOOD if details.verdict == "pass" else PLAIN
    return TONES.get(type(details), PLAIN)


def is_decision(record: Record[Any]) -> bool:
    """Return whether a record is a decision or an alarm, and not a fact that every partition brings."""
    details = record.details
    if isinstance(details, watch.WindowJudged):
        return details.alarms
    if isinstance(details, training.RetrainDecided):
        return details.retrain
    return not isinstance(details, FACTS)


def _published(details: data.SnapshotPublished) -> str:
    parts = [f"published {details.rows:,} rows, {details.quarantined:,} in quarantine", *details.warnings]
    if details.released:
        parts.append(f"{details.released:,} released because: {details.accepted_because or 'they pass now'}")
    if details.outdated:
        parts.append(f"made before it: version {', '.join(details.outdated)}")
    return "; ".join(parts)


def _refused(details: data.PartitionRefused) -> str:
    return f"refused at {details.stage or 'ingest'}: {details.reason}"


def _expired(details: data.PartitionsExpired) -> str:
    counts = [f"{len(partitions)} of {table}" for table, partitions in sorted(details.tables.items())]
    return f"partitions beyond their retention were let go: {', '.join(counts)}"


def _forgotten(details: data.SubjectForgotten) -> str:
    return f"erased a person's rows from {len(details.partitions)} partitions"


def _scored(details: data.PredictionsPublished) -> str:
    beside = f", with version {details.challenger} beside it" if details.challenger else ""
    return f"version {details.champion} predicted {details.rows:,} rows{beside}"


def _labels(details: data.LabelsArrived) -> str:
    return f"{details.rows:,} labels arrived for {len(details.touches)} partitions"


def _judged(details: watch.WindowJudged) -> str:
    return f"{details.check.replace('_', ' ')}: {details.verdict}: {details.message}"


def _report(details: watch.ReportRendered) -> str:
    return f"drew the page of the partition ({details.engine}): {details.why}"


def _escalated(details: training.Escalated) -> str:
    return f"a person must look at version {details.champion}: {details.reason}"


def _decided(details: training.RetrainDecided) -> str:
    return f"decided {'to retrain' if details.retrain else 'not to retrain'} ({details.cause}): {details.reason}"


def _training_started(details: training.TrainingStarted) -> str:
    window = details.window
    return f"began a training on {len(window.fitted)} partitions, judged on {len(window.holdout)}"


def _training_failed(details: training.TrainingFailed) -> str:
    return f"the training failed: {details.reason}"


def _candidate_refused(details: training.CandidateRefused) -> str:
    return f"refused the candidate: {details.reason}"


def _registered(details: training.CandidateRegistered) -> str:
    origin = details.adopted
    if origin is not None:
        return (
            f"adopted version {origin.version} of {origin.environment} as version {details.version} "
            f"({details.candidate}): {origin.reason}"
        )
    return f"registered version {details.version} ({details.candidate}), which passed its gates"


def _recalled(details: training.VersionRecalled) -> str:
    tried = f"the best of {details.tried} earlier champions" if details.tried > 1 else "an earlier champion"
    return f"recalled version {details.version}, {tried}, which was better than every fit and passed its gates"


def _superseded(details: training.Superseded) -> str:
    thing = f"version {details.version}" if details.version else f"the decision of record {details.decision}"
    return f"let {thing} go: {details.reason}"


def _reproduced(details: training.Reproduced) -> str:
    return f"fitted version {details.version} again: {details.verdict}: {details.reason}"


def _card(details: training.CardWritten) -> str:
    lacks = f"; it lacks {', '.join(details.missing)}" if details.missing else ""
    return f"wrote the card of version {details.version}{lacks}"


def _rollout_started(details: rollout.RolloutStarted) -> str:
    return f"began the rollout of version {details.version}"


def _stage_entered(details: rollout.StageEntered) -> str:
    return f"version {details.version} entered {details.kind} with {details.share} % of the keys"


def _stage_approved(details: rollout.StageApproved) -> str:
    return f"{details.by} let version {details.version} begin {details.name}"


def _stage_analysed(details: rollout.StageAnalysed) -> str:
    reason = details.reason.removeprefix(f"{details.verdict}: ")
    return f"version {details.version} at {details.name}: {details.verdict}: {reason}"


def _stage_skipped(details: rollout.StageSkipped) -> str:
    return f"skipped {details.name} of version {details.version}: {details.reason}"


def _paused(details: rollout.RolloutPaused) -> str:
    return f"paused the rollout of version {details.version}: {details.reason}"


def _resumed(details: rollout.RolloutResumed) -> str:
    return f"resumed the rollout of version {details.version}: {details.reason}"


def _promoted(details: rollout.Promoted) -> str:
    reason = "" if details.reason is None else f"; {details.reason}"
    return f"version {details.version} became the champion, before it {details.previous or 'none'}{reason}"


def _rolled_back(details: rollout.RolledBack) -> str:
    serves = f"version {details.champion} serves instead" if details.champion else "the champion stays"
    return f"took version {details.version} back: {details.reason}; {serves}"


def _lifted(details: rollout.QuarantineLifted) -> str:
    return f"let version {details.version} out of quarantine: {details.reason}"


def _approved(details: rollout.Approved) -> str:
    return f"{details.by} approved version {details.version}"


def _rejected(details: rollout.Rejected) -> str:
    return f"{details.by} rejected version {details.version}: {details.reason}"


def _approval_void(details: rollout.ApprovalVoid) -> str:
    return f"the approval of version {details.version} by {details.by} does not count: {details.reason}"


def _replayed(details: replay.PolicyReplayed) -> str:
    reason = f" ({details.reason})" if details.reason else ""
    window = f" on window {details.window}" if details.window else ""
    return (
        f"replayed {', '.join(details.policies)}{window} over {details.first} to {details.last}{reason}: "
        f"{details.advice}"
    )


def _wanted(details: notice.ApprovalWanted) -> str:
    return f"asked for an approval: {details.question}"


def _notified(details: notice.Notified) -> str:
    if not details.messages:
        return f"{details.notifier} is notified of what comes after record {details.last}"
    count = f"{details.messages} message{'s' * (details.messages != 1)}"
    return f"sent {count} to {details.notifier}, up to record {details.last}"


SENTENCES: dict[type[Details], Callable[[Any], str]] = {
    data.SnapshotPublished: _published,
    data.PartitionRefused: _refused,
    data.PartitionsExpired: _expired,
    data.SubjectForgotten: _forgotten,
    data.PredictionsPublished: _scored,
    data.LabelsArrived: _labels,
    watch.ReportRendered: _report,
    training.Escalated: _escalated,
    training.RetrainDecided: _decided,
    training.TrainingStarted: _training_started,
    training.TrainingFailed: _training_failed,
    training.CandidateRefused: _candidate_refused,
    training.CandidateRegistered: _registered,
    training.VersionRecalled: _recalled,
    training.Superseded: _superseded,
    training.Reproduced: _reproduced,
    training.CardWritten: _card,
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
    rollout.ApprovalVoid: _approval_void,
    replay.PolicyReplayed: _replayed,
    notice.ApprovalWanted: _wanted,
    notice.Notified: _notified,
}
"""The sentence of each kind of record; those of the checks of a window are alike."""

TONES: dict[type[Details], str] = {
    data.PartitionRefused: BAD,
    training.TrainingFailed: BAD,
    training.CandidateRefused: BAD,
    training.Escalated: ASK,
    rollout.RolledBack: BAD,
    rollout.Rejected: BAD,
    rollout.ApprovalVoid: BAD,
    rollout.RolloutPaused: ASK,
    notice.ApprovalWanted: ASK,
    training.CandidateRegistered: GOOD,
    training.VersionRecalled: GOOD,
    rollout.Promoted: GOOD,
    rollout.Approved: GOOD,
}

FACTS = (
    data.SnapshotPublished,
    data.PredictionsPublished,
    data.LabelsArrived,
    watch.ReportRendered,
    training.TrainingStarted,
    training.CardWritten,
    notice.Notified,
)
"""Records that come with every partition or training, and decide nothing."""
