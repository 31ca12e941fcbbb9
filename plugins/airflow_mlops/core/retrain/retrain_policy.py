"""The decision to retrain: one pure function for the schedule, an alarm, new data and a person.

The rules in their order: a retrain under way, a historical partition, too little data, the first model, the policy,
then cooldown and budget. Every decision has its reason and its numbers.

An alarm that has lasted without a pause since the retrain that it caused leads to no further retrain: it is
``escalated`` to a person, and so is every later alarm of the same champion. The same holds for an alarm that has lasted
through several retrains without a better model, and for a regret that has not grown since them; see
:mod:`~airflow_mlops.core.retrain.unhelpful_retrains`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice, takewhile
from typing import Any, Literal

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Clock, Regret
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import CandidateRefused, RetrainDecided
from airflow_mlops.core.ledger.watch_details import REGRET, RegretMeasured
from airflow_mlops.core.retrain.unhelpful_retrains import (
    IN_A_ROW,
    decision_of,
    describe_refusals,
    needed_regret,
    unhelpful_retrains,
)
from airflow_mlops.core.training.window import trainable_partitions

Trigger = Literal["watch", "nightly", "outside", "person"]
BUDGET_PERIOD = 52
FOR_PEOPLE = ("absence", "staleness", "labels")
"""Checks that notify a person, and that a new model would not resolve."""


@dataclass(frozen=True)
class RetrainDecision:
    """A decision to retrain or not: the cause in a word, the reason in a sentence, and the numbers behind it."""

    retrain: bool
    cause: str
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        return asdict(self)


def decide_retrain(
    state: LoopState,
    loop: Loop,
    partition: str,
    trigger: Trigger,
    *,
    now: LoopState | None = None,
    setup: str | None = None,
) -> RetrainDecision:
    """Decide whether to retrain as of a partition.

    Parameters
    ----------
    state : LoopState
        The loop as of ``partition``.
    loop : Loop
        The declaration, with the policy under ``retrain`` and ``train``.
    partition : str
        The newest published partition.
    trigger : str
        Who asks.
    now : LoopState, optional
        The current state, with the retrain under way and the newest partition decided on; ``state`` by default.
    setup : str, optional
        Digest of the declaration and the code, so that retrains of another one do not count as unhelpful.
    """
    now = now or state
    if now.in_flight is not None:
        return RetrainDecision(False, "joined", now.in_flight)
    high_water = now.high_water
    if high_water is not None and partition < high_water:
        reason = (
            f"partition {partition} is historical: {high_water} was decided on before, so nothing of it raises an alarm"
        )
        return RetrainDecision(False, "historical", reason)
    needed = loop.train.partitions_needed
    ready = trainable_partitions(state, partition, own_labels=loop.data.labels is not None, newest=needed)
    if len(ready) < needed:
        state_phrase = "are published" if loop.data.labels is None else "have all their labels"
        reason = f"{len(ready)} partitions {state_phrase}; the first training needs {needed}"
        return RetrainDecision(False, "too early", reason, {"published": len(ready)})
    decision = _policy_decision(state, loop, partition, trigger, setup)
    if not decision.retrain or trigger == "person":
        return decision
    return _apply_limits(state, loop, partition, decision)


def _policy_decision(
    state: LoopState, loop: Loop, partition: str, trigger: Trigger, setup: str | None
) -> RetrainDecision:
    """Return the decision of the policy, before cooldown and budget."""
    if trigger == "person":
        return RetrainDecision(True, "person", "a person asked for it")
    if state.champion is None:
        return RetrainDecision(
            True, "first model", "there is no champion yet", {"published": state.published.count(until=partition)}
        )
    policy = loop.retrain.policy
    if policy == "never":
        return RetrainDecision(False, "never", "the policy retrains only when a person asks")
    if isinstance(policy, Clock | Regret):
        by_alarm = _alarm_decision(state, loop, setup) if policy.or_alarm else None
        if by_alarm is not None and by_alarm.retrain:
            return by_alarm
        return (
            _clock_decision(state, policy, partition)
            if isinstance(policy, Clock)
            else _regret_decision(state, loop, policy, setup)
        )
    return _alarm_decision(state, loop, setup)


def _clock_decision(state: LoopState, policy: Clock, partition: str) -> RetrainDecision:
    """Decide by the number of partitions since the last retrain."""
    retrain = state.last_retrain
    age = state.published.count(after=None if retrain is None else retrain.partition, until=partition)
    reason = f"{age} partitions since the last retrain; the clock stands at {policy.clock}"
    return RetrainDecision(age >= policy.clock, "clock", reason, {"age": age, "clock": policy.clock})


def _regret_decision(state: LoopState, loop: Loop, policy: Regret, setup: str | None) -> RetrainDecision:
    """Decide by the champion's cumulative regret against fresh models and the cost of a promotion."""
    assert state.champion is not None
    windows = regret_since_promotion(state)
    measured = {key: window.regret for key, window in windows.items() if window.regret is not None}
    if windows and not measured:
        newest = windows[max(windows)]
        by_alarm = _alarm_decision(state, loop, setup)
        reason = f"no regret could be measured in {len(windows)} partitions ({newest.message}), so alarms decide: "
        return RetrainDecision(by_alarm.retrain, by_alarm.cause, reason + by_alarm.reason, by_alarm.numbers)
    total = sum(measured.values())
    reason = (
        f"version {state.champion.number} has lost {total:.3g} against fresh models in {len(measured)} partitions, in "
        f"units of a fresh model's loss; a promotion costs {policy.regret:g}"
    )
    decision = RetrainDecision(total > policy.regret, "regret", reason, {"regret": total, "windows": measured})
    return _escalate_unchanged_regret(state, policy, decision, setup) or decision


def _escalate_unchanged_regret(
    state: LoopState, policy: Regret, decision: RetrainDecision, setup: str | None
) -> RetrainDecision | None:
    """Return an escalation if the last retrains gave no better model, and the regret since them is small; else None."""
    refusals = unhelpful_retrains(state, setup) if decision.retrain else []
    if len(refusals) < IN_A_ROW:
        return None
    windows: dict[str, float] = decision.numbers["windows"]
    since = sum(regret for key, regret in windows.items() if key > str(refusals[0].partition))
    needed = needed_regret(policy.regret, len(refusals))
    if since > needed:
        return None
    reason = (
        f"{describe_refusals(refusals)}: retraining does not help, a person must look; {since:.3g} was lost since the "
        f"last of them, and the next is paid for beyond {needed:g} ({decision.reason})"
    )
    return RetrainDecision(False, "escalated", reason, {**decision.numbers, "since": since, "needed": needed})


def regret_since_promotion(state: LoopState) -> dict[str, RegretMeasured]:
    """Return the champion's regret on partitions after its promotion, by partition."""
    assert state.champion is not None
    number, promoted_at = state.champion.number, str(state.promoted_at)
    return {
        key: measured
        for key, measured in state.regret.items(after=promoted_at)
        if measured.champion == number and not measured.historical
    }


def _alarm_decision(state: LoopState, loop: Loop, setup: str | None) -> RetrainDecision:
    """Decide by whether k of the newest n windows of this champion alarmed."""
    declared = loop.retrain.alarm
    newest = list(islice(judged_windows(state), declared.of))[::-1]
    # Labels may arrive later than drift is detected: the metric counts in the newest windows that have labels.
    measured = (key for key in judged_windows(state) if _has_value(state, key))
    labelled = list(islice(measured, declared.of)) if state.performance else []
    causes = {
        key: [
            cause
            for cause in alarms_of(state, key)
            if key in (labelled if cause.startswith("performance:") else newest)
        ]
        for key in sorted({*newest, *labelled})
    }
    alarmed = [key for key, phrases in causes.items() if phrases]
    numbers = {"alarms": {key: causes[key] for key in alarmed}, "windows": sorted(causes)}
    reason = (
        f"{len(alarmed)} of the newest {len(newest)} windows alarmed; {declared.windows} of {declared.of} are asked"
    )
    if len(alarmed) < declared.windows:
        return RetrainDecision(False, "no alarm", reason, numbers)
    kinds = kinds_of(cause for key in alarmed for cause in causes[key])
    details = "; ".join(f"{key[:10]} {', '.join(causes[key])}" for key in alarmed)
    decision = RetrainDecision(True, f"alarm: {' and '.join(kinds)}", f"{reason} ({details})", numbers)
    return _escalate_lasting_alarm(state, decision) or _escalate_unhelpful_alarm(state, decision, setup) or decision


def judged_windows(state: LoopState) -> Iterator[str]:
    """Yield the partitions that the champion scored and any check judged, the newest first.

    Of a recalled champion those of its earlier reign are left out.
    """
    champion = state.champion.number if state.champion else None
    recalled = state.champion.recall if state.champion else None
    for key, scored in state.scored.newest_first():
        if recalled is not None and key <= recalled.partition:
            return
        if scored.champion == champion and set(state.checked.get(key) or ()) - {REGRET}:
            yield key


def _has_value(state: LoopState, partition: str) -> bool:
    performance = state.performance.get(partition)
    return performance is not None and performance.value is not None


def _escalate_lasting_alarm(state: LoopState, decision: RetrainDecision) -> RetrainDecision | None:
    """Return an escalation if the champion was trained because of this alarm and it has lasted since; else None."""
    retrain, champion = state.last_retrain, state.champion
    if retrain is None or champion is None or champion.chosen_as_of != retrain.partition:
        return None
    since_then, lasting = _lasting_alarms(state, retrain, since=str(state.promoted_at))
    if not lasting:
        return None
    chosen = "made" if champion.recall is None else "recalled"
    reason = (
        f"version {champion.number} was {chosen} because of {' and '.join(lasting)}, and each of the "
        f"{len(since_then)} partitions since its promotion alarmed again: retraining does not help, a person must look "
        f"({decision.reason})"
    )
    return RetrainDecision(False, "escalated", reason, {**decision.numbers, "lasting": lasting})


def _escalate_unhelpful_alarm(state: LoopState, decision: RetrainDecision, setup: str | None) -> RetrainDecision | None:
    """Return an escalation if this alarm has lasted through retrains that gave no better model; else None."""

    def lasts(refusal: Record[CandidateRefused]) -> bool:
        retrain = decision_of(state, refusal)
        return retrain is not None and bool(_lasting_alarms(state, retrain, since=str(refusal.partition))[1])

    refusals = list(takewhile(lasts, unhelpful_retrains(state, setup)))
    if len(refusals) < IN_A_ROW:
        return None
    reason = (
        f"{describe_refusals(refusals)}, while each partition since then alarmed: retraining does not help, a person "
        f"must look ({decision.reason})"
    )
    return RetrainDecision(False, "escalated", reason, decision.numbers)


def _lasting_alarms(state: LoopState, retrain: Record[RetrainDecided], *, since: str) -> tuple[list[str], list[str]]:
    """Return the judged partitions after ``since``, and the checks of a retrain's alarms that alarmed on each."""
    alarms = retrain.details.numbers.get("alarms", {})
    kinds = kinds_of(cause for causes in alarms.values() for cause in causes)
    windows = list(takewhile(lambda key: key > since, judged_windows(state)))
    return windows, [kind for kind in kinds if all(kind in kinds_of(alarms_of(state, key)) for key in windows)]


def kinds_of(causes: Iterable[str]) -> list[str]:
    """Return the checks that alarmed, from the phrases of :func:`alarms_of`."""
    return sorted({cause.split(":")[0] for cause in causes})


def alarms_of(state: LoopState, partition: str) -> list[str]:
    """Return the alarms on a partition, a phrase each."""
    causes = []
    performance, drift = state.performance.get(partition), state.drift.get(partition)
    if performance is not None and performance.alarms:
        slices = "".join(f", {name}" for name in performance.alarmed if name != "whole")
        figures = f"{performance.metric} {performance.value:.4g} against {performance.reference:.4g}"
        causes.append(f"performance: {figures}{slices}")
    if drift is not None and drift.alarms:
        causes.append(f"drift: {' '.join([*drift.drifted, *drift.missing])}")
    for name, check in sorted(state.checks_of(partition).items()):
        if check.alarms and name not in FOR_PEOPLE:
            causes.append(f"{name}: {check.message}")
    return causes


def _apply_limits(state: LoopState, loop: Loop, partition: str, decision: RetrainDecision) -> RetrainDecision:
    """Return the decision, or a refusal by the cooldown or the budget."""
    retrain = state.last_retrain
    if retrain is not None and state.champion is not None:
        age = state.published.count(after=retrain.partition, until=partition)
        if age < loop.retrain.cooldown:
            limit = loop.retrain.cooldown
            reason = f"{age} partitions since the last retrain; the cooldown is {limit}; wanted: {decision.reason}"
            return RetrainDecision(False, "cooldown", reason, {"age": age, **decision.numbers})
    period = state.published.last(BUDGET_PERIOD, until=partition)
    if retrain is not None and retrain.partition == period[-1]:
        # The window would be the same, so one alarm leads to one retrain even without a cooldown.
        reason = f"a retrain was decided on {period[-1]} before; new data is awaited; wanted: {decision.reason}"
        return RetrainDecision(False, "waiting", reason, decision.numbers)
    spent = state.promotions.count(since=period[0])
    if spent >= loop.retrain.budget:
        limit = loop.retrain.budget
        reason = f"{spent} promotions in {len(period)} partitions; the budget is {limit}; wanted: {decision.reason}"
        return RetrainDecision(False, "budget", reason, {"spent": spent, **decision.numbers})
    return decision
