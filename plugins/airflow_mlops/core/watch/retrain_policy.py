"""The decision to retrain: one pure function for the schedule, an alarm, new data and a person.

Asked in this order: is one under way, is the partition old, is there a champion at all, does the
policy want one, does the cooldown or the budget forbid it. Every answer says why, with its numbers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from airflow_mlops.core.governance.state import LoopState
from airflow_mlops.core.loop import Loop
from airflow_mlops.core.watch.declared_retrain import Clock

Trigger = Literal["watch", "nightly", "person"]
BUDGET_PERIOD = 52


@dataclass(frozen=True)
class RetrainDecision:
    """Yes or no, the cause in a word, the reason in a sentence, and the numbers behind it."""

    retrain: bool
    cause: str
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        return asdict(self)


def decide_retrain(state: LoopState, loop: Loop, partition: str, trigger: Trigger) -> RetrainDecision:
    """Return whether to retrain as of a partition.

    Parameters
    ----------
    state : LoopState
        The loop as of ``partition``, save ``decisions``, ``candidate`` and ``rollout``, which are of now.
    loop : Loop
        Its ``retrain`` and ``train`` say the policy.
    partition : str
        The newest published partition.
    trigger : str
        Who asks.
    """
    if state.in_flight is not None:
        return RetrainDecision(False, "joined", state.in_flight)
    if state.high_water is not None and partition < state.high_water:
        reason = f"partition {partition} is historical; {state.high_water} was decided on before"
        return RetrainDecision(False, "historical", reason)
    published = sorted(key for key in state.published if key <= partition)
    if len(published) < loop.train.first_at:
        reason = f"{len(published)} partitions are published; the first training needs {loop.train.first_at}"
        return RetrainDecision(False, "too early", reason, {"published": len(published)})
    wish = _wish(state, loop, published, trigger)
    if not wish.retrain or trigger == "person":
        return wish
    return _allowed(state, loop, published, wish)


def _wish(state: LoopState, loop: Loop, published: list[str], trigger: Trigger) -> RetrainDecision:
    """Return what the policy wants, before cooldown and budget."""
    if trigger == "person":
        return RetrainDecision(True, "person", "a person asked for it")
    if state.champion is None:
        return RetrainDecision(True, "first model", "there is no champion yet", {"published": len(published)})
    policy = loop.retrain.policy
    if policy == "never":
        return RetrainDecision(False, "never", "the policy retrains only when a person asks")
    if isinstance(policy, Clock):
        alarmed = _alarms(state, loop) if policy.or_alarm else None
        if alarmed is not None and alarmed.retrain:
            return alarmed
        age = since(published, str(state.retrains[-1].partition)) if state.retrains else len(published)
        reason = f"{age} partitions since the last retrain; the clock stands at {policy.clock}"
        return RetrainDecision(age >= policy.clock, "clock", reason, {"age": age, "clock": policy.clock})
    return _alarms(state, loop)


def _alarms(state: LoopState, loop: Loop) -> RetrainDecision:
    """Return whether k of the newest n windows of this champion alarmed."""
    declared = loop.retrain.alarm
    judged = sorted(
        key
        for key in state.drift.keys() | state.performance.keys()
        if state.scored.get(key, {}).get("champion") == (state.champion.number if state.champion else None)
    )
    newest = judged[-declared.of :]
    causes = {key: alarms_of(state, key) for key in newest}
    alarmed = [key for key in newest if causes[key]]
    numbers = {"alarms": {key: causes[key] for key in alarmed}, "windows": newest}
    reason = (
        f"{len(alarmed)} of the newest {len(newest)} windows alarmed; {declared.windows} of {declared.of} are asked"
    )
    if len(alarmed) < declared.windows:
        return RetrainDecision(False, "no alarm", reason, numbers)
    kinds = sorted({cause.split(":")[0] for key in alarmed for cause in causes[key]})
    details = "; ".join(f"{key[:10]} {', '.join(causes[key])}" for key in alarmed)
    return RetrainDecision(True, f"alarm: {' and '.join(kinds)}", f"{reason} ({details})", numbers)


def alarms_of(state: LoopState, partition: str) -> list[str]:
    """Return what alarmed on a partition, a phrase each."""
    found = []
    performance, drift = state.performance.get(partition), state.drift.get(partition)
    if performance is not None and performance["verdict"] == "alarm":
        found.append(
            f"performance: {performance['metric']} {performance['value']:.4g} against {performance['reference']:.4g}"
        )
    if drift is not None and drift["verdict"] == "alarm":
        found.append(f"drift: {' '.join([*drift['drifted'], *drift['missing']])}")
    return found


def _allowed(state: LoopState, loop: Loop, published: list[str], wish: RetrainDecision) -> RetrainDecision:
    """Return the wish, or the no of the cooldown or the budget."""
    if state.retrains and state.champion is not None:
        age = since(published, str(state.retrains[-1].partition))
        if age < loop.retrain.cooldown:
            limit = loop.retrain.cooldown
            reason = f"{age} partitions since the last retrain; the cooldown is {limit}; wanted: {wish.reason}"
            return RetrainDecision(False, "cooldown", reason, {"age": age, **wish.numbers})
    if any(record.partition == published[-1] for record in state.retrains):
        # The window would be the same, so one alarm leads to one retrain even without a cooldown.
        reason = f"a retrain was decided on {published[-1]} before; new data is awaited; wanted: {wish.reason}"
        return RetrainDecision(False, "waiting", reason, wish.numbers)
    period = published[-BUDGET_PERIOD:]
    spent = sum(str(record.partition) >= period[0] for record in state.promotions)
    if spent >= loop.retrain.budget:
        limit = loop.retrain.budget
        reason = f"{spent} promotions in {len(period)} partitions; the budget is {limit}; wanted: {wish.reason}"
        return RetrainDecision(False, "budget", reason, {"spent": spent, **wish.numbers})
    return wish


def since(published: list[str], partition: str) -> int:
    """Return how many partitions were published after a partition."""
    return sum(key > partition for key in published)
