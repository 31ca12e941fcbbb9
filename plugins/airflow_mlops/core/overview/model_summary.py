"""Where a loop stands, in one line of a list: who serves, how well, and whether a person is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import (
    CandidateRefused,
    CandidateRegistered,
    TrainingFailed,
    VersionRecalled,
)
from airflow_mlops.core.ledger.watch_details import OverdueJudged, WindowJudged

STATES = ("failing", "held", "alarming", "ageing", "rolling out", "training", "new", "fresh")
"""States of a loop, those that need a person first."""
SPARK_POINTS = 24
OVERDUE_CHECKS = ("staleness", "absence")


@dataclass(frozen=True)
class ModelSummary:
    """Where a loop stands.

    Parameters
    ----------
    model : str
        Name of the model.
    state : str
        One of ``STATES``.
    reason : str
        Why it is in that state, as a sentence.
    champion, promoted_at : str or None
        Version that serves, and the partition as of which it does.
    newest : str or None
        Newest published partition.
    metric : str
        Name of the metric that the watch measures; empty where none was measured.
    values : tuple of (str, float or None, bool)
        Newest measurements, oldest first: partition, value, and whether it alarmed.
    last_retrain, last_cause : str or None
        Partition of the newest decision to retrain, and its reason.
    alarms : tuple of (str, str)
        Checks that alarm on the newest judged partition, and their sentences.
    refused, failed : str or None
        Why the newest partition was refused, and why the newest training gave no version.
    """

    model: str
    state: str
    reason: str
    champion: str | None
    promoted_at: str | None
    newest: str | None
    metric: str
    values: tuple[tuple[str, float | None, bool], ...]
    last_retrain: str | None
    last_cause: str | None
    alarms: tuple[tuple[str, str], ...]
    refused: str | None
    failed: str | None

    @property
    def value(self) -> float | None:
        """The newest measurement that has a value; None where there is none."""
        return next((value for _, value, _ in reversed(self.values) if value is not None), None)


def urgency(state: str, model: str) -> tuple[int, str]:
    """Return the key that sorts loops by who needs a person first, given the state of one and its model."""
    return STATES.index(state), model


def summarise_model(ledger: Ledger, state: LoopState | None = None) -> ModelSummary:
    """Return where the loop of a ledger stands.

    It costs the same however long the history is: it asks for the newest facts alone.

    Parameters
    ----------
    state : LoopState, optional
        The state of the ledger, where it was read already.

    Raises
    ------
    LedgerError
        If the ledger does not answer or cannot be read.
    """
    state = ledger.state() if state is None else state
    judged = [*state.performance.newest_first(limit=SPARK_POINTS)][::-1]
    alarms, refused, failed = newest_alarms(state), refused_partition(state), failed_training(ledger)
    retrain, champion = state.last_retrain, state.champion
    name, reason = ("failing", failure) if (failure := refused or failed) else _assess(state, alarms)
    return ModelSummary(
        model=ledger.model,
        state=name,
        reason=reason,
        champion=None if champion is None else champion.number,
        promoted_at=None if champion is None else state.promoted_at,
        newest=state.published.newest(),
        metric=judged[-1][1].metric if judged else "",
        values=tuple((partition, details.value, details.alarms) for partition, details in judged),
        last_retrain=None if retrain is None else retrain.partition,
        last_cause=None if retrain is None else retrain.details.reason,
        alarms=tuple((check, details.message) for check, details in alarms.items()),
        refused=refused,
        failed=failed,
    )


def newest_judgements(state: LoopState) -> dict[str, tuple[str, WindowJudged]]:
    """Return the newest partition that each check judged, with its judgement, by check."""
    scored = state.scored.newest()
    names = ("drift", "performance", *((state.checked.get(scored) or ()) if scored else ()), *OVERDUE_CHECKS)
    newest = {check: next(state.judged(check).newest_first(limit=1), None) for check in dict.fromkeys(names)}
    return {check: judgement for check, judgement in newest.items() if judgement is not None}


def is_open_alarm(state: LoopState, partition: str, details: WindowJudged) -> bool:
    """Return whether a judgement alarms about the champion that serves, and not about an earlier one."""
    if not details.alarms or details.historical:
        return False
    if state.champion is None or state.promoted_at is None:
        return True
    if details.champion is not None:
        return details.champion == state.champion.number
    return partition >= state.promoted_at


def newest_alarms(state: LoopState) -> dict[str, WindowJudged]:
    """Return the checks that alarm on the newest partition that they judged, about the champion that serves."""
    return {
        check: details
        for check, (partition, details) in newest_judgements(state).items()
        if is_open_alarm(state, partition, details)
    }


def waiting_version(state: LoopState) -> str | None:
    """Return the version that waits for its rollout and has no approval; None where none waits."""
    if state.candidate is None or state.candidate.number in state.approved:
        return None
    return state.candidate.number


def _assess(state: LoopState, alarms: dict[str, WindowJudged]) -> tuple[str, str]:
    """Return the state of a loop in which nothing failed, one of ``STATES``, and the reason as a sentence."""
    held = _held(state)
    if held:
        return "held", held
    overdue = [details.message for details in alarms.values() if isinstance(details, OverdueJudged)]
    urgent = [f"{check}: {d.message}" for check, d in alarms.items() if not isinstance(d, OverdueJudged)]
    if urgent:
        return "alarming", urgent[0]
    if overdue:
        return "ageing", overdue[0]
    if state.rollout is not None or state.candidate is not None:
        return "rolling out", str(state.in_flight)
    if state.in_flight is not None:
        return "training", state.in_flight
    if state.champion is None:
        published = len(state.published)
        return "new", f"no version was promoted yet; {published} partitions are published"
    return "fresh", f"version {state.champion.number} serves, and nothing alarms"


def _held(state: LoopState) -> str | None:
    """Return why a person has to act on a rollout or an escalation; None where nobody has to."""
    rollout = state.rollout
    if rollout is not None and rollout.paused is not None:
        return f"version {rollout.version.number} is paused at {rollout.kind}: {rollout.paused}"
    escalation = None if state.champion is None else state.escalations.get(state.champion.number)
    if escalation is not None:
        return f"escalated: {escalation.details.reason}"
    return None


def refused_partition(state: LoopState) -> str | None:
    """Return which partition is refused and newer than every published one, and why; None where none is."""
    refused, published = state.refused.newest(), state.published.newest()
    if refused is None or (published is not None and refused < published):
        return None
    details = state.refused[refused]
    return f"partition {refused} was refused at {details.stage or 'ingest'}: {details.reason}"


def failed_training(ledger: Ledger) -> str | None:
    """Return why the newest training gave no version; None where it gave one, or none has ended."""
    ends: Iterator[Record[Any]] = ledger.records(
        TrainingFailed, CandidateRefused, CandidateRegistered, VersionRecalled, newest_first=True
    )
    newest = next(ends, None)
    if newest is None or isinstance(newest.details, CandidateRegistered | VersionRecalled):
        return None
    word = "failed" if isinstance(newest.details, TrainingFailed) else "gave no version that passes its gates"
    return f"the training as of {newest.partition} {word}: {newest.details.reason}"
