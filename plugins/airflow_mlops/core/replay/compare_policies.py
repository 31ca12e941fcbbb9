"""Compare policies over a history: benefit against promotions, beside a clock with as many, and the cost to suggest.

The benefit of a policy is what it saves of the loss of a model that is never retrained, as a share of what retraining
on every partition saves. A plain clock with as many promotions is what any policy must be held against: it is
averaged over its phases, since where a clock happens to start is luck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Alarm, Clock, Regret, Retrain
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.replay.fit_history import FittedHistory
from airflow_mlops.core.replay.judged_windows import JudgedWindows, NoWindows, uses_alarms
from airflow_mlops.core.replay.policy_names import KNOWN
from airflow_mlops.core.replay.replay_policy import ReplayedPolicy, replay_policy
from airflow_mlops.core.retrain.retrain_policy import RetrainDecision, Trigger
from airflow_mlops.core.training.row_losses import more_is_better

COSTS = (0.02, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Costs of a promotion that a suggestion is chosen from, in units of a fresh model's loss on one partition."""
SHARE = 0.25
"""Largest share of the promotions of a nightly retraining that a suggestion may use."""
LEAD = 0.05
"""Lead in benefit of a clock on the partitions that are chosen on, from which it is suggested in place of a cost."""
AS_GOOD = 0.01
"""Least lead in benefit for a policy to count as better than another."""
PHASES = 8
UNLIMITED = 1_000_000
OF_DECLARED: Mapping[str, dict[str, int]] = {
    "declared without cooldown": {"cooldown": 0},
    "declared without budget": {"budget": UNLIMITED},
    "declared without recall": {"recall": 0},
}
"""The declared policy without one of its limits, or without recall, by the name of a replay."""
WITHOUT_RECALL = "declared without recall"


@dataclass(frozen=True)
class PolicyFigures:
    """The figures of a policy on the judged partitions.

    Parameters
    ----------
    loss : float
        Mean of the metric over the partitions.
    benefit : float or None
        Share of the nightly retraining's benefit; None where that has none.
    promotions : int
        Number of promotions as of a judged partition.
    fits : int
        Number of trainings as of one that ended with a fit of theirs or with none, and not with an earlier champion.
    share : float
        The promotions as a share of the nightly retraining's.
    clock : float or None
        Benefit of a clock with as many promotions, mean over its phases; None for a policy without any.
    """

    name: str
    loss: float
    benefit: float | None
    promotions: int
    share: float
    clock: float | None
    fits: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class RecallFigures:
    """The benefit of recall for the declared policy.

    Parameters
    ----------
    points : float or None
        Its benefit with recall less that without, in points of nightly's; None where that has none.
    recalled : int
        Number of trainings that ended with an earlier champion.
    fits, fits_without : int
        Number of trainings that ended otherwise, with recall and without it.
    """

    points: float | None
    recalled: int
    fits: int
    fits_without: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


def policy_of(loop: Loop, name: str) -> Loop:
    """Return the declaration with the retrain policy of a name.

    ``declared`` is the policy as it stands, cooldown and budget too; every other is replayed without these:
    ``never``, ``nightly``, ``clock:4``, ``alarm``, ``alarm:2/3``, ``regret:0.1``. What others are held against,
    ``nightly`` and clocks, is also replayed without ``retrain.confidence`` and ``retrain.recall``: each fit that passes
    the gates serves.

    Raises
    ------
    DeclarationError
        If there is no such policy.
    """
    if name == "declared":
        return loop
    limits = OF_DECLARED.get(name)
    retrain = _retrain_of(loop.retrain, name) if limits is None else loop.retrain.model_copy(update=limits)
    return loop.model_copy(update={"retrain": retrain})


def _retrain_of(declared: Retrain, name: str) -> Retrain:
    """Return the section ``retrain`` of a policy by its name, without limits."""
    kind, _, number = name.partition(":")
    unlimited: dict[str, Any] = {"cooldown": 0, "budget": UNLIMITED, "alarm": declared.alarm}
    by_evidence = {**unlimited, "confidence": declared.confidence, "recall": declared.recall}
    unlimited |= {"confidence": "none", "recall": 0}
    try:
        if kind == "never" and not number:
            return Retrain(policy="never", **unlimited)
        if kind == "nightly" and not number:
            return Retrain(policy=Clock(clock=1), **unlimited)
        if kind == "clock":
            return Retrain(policy=Clock(clock=int(number)), **unlimited)
        if kind == "regret":
            return Retrain(policy=Regret(regret=float(number)), **by_evidence)
        if kind == "alarm":
            windows, _, among = number.partition("/")
            alarm = Alarm(windows=int(windows), of=int(among or windows)) if number else declared.alarm
            return Retrain(policy="alarm", **{**by_evidence, "alarm": alarm})
        raise ValueError(name)
    except ValueError as error:
        raise DeclarationError(f"no policy {name!r}; there are {KNOWN}") from error


class PolicyComparison:
    """Replays policies over one history, each once.

    Parameters
    ----------
    history : FittedHistory
        The candidates fitted as of each partition.
    """

    def __init__(self, history: FittedHistory) -> None:
        self.history, self.loop = history, history.loop
        self._windows = JudgedWindows(history, history.loop)
        self._none = NoWindows(history, history.loop)
        self._replayed: dict[str, ReplayedPolicy] = {}

    def replay(self, name: str) -> ReplayedPolicy:
        """Replay a policy by its name and return its outcome."""
        if name not in self._replayed:
            loop = policy_of(self.loop, name)
            windows = self._windows if uses_alarms(loop.retrain) else self._none
            self._replayed[name] = replay_policy(self.history, loop, name, windows)
        return self._replayed[name]

    @property
    def after_first(self) -> int:
        """Position of the first partition that a model served under every policy."""
        return min(self.replay("never").losses, default=len(self.history.partitions))

    def figures(self, name: str, first: int, last: int) -> PolicyFigures:
        """Return the figures of a policy on the partitions from position ``first`` up to and without ``last``."""
        return self._figures(self.replay(name), first, last, clock=True)

    def _figures(self, policy: ReplayedPolicy, first: int, last: int, *, clock: bool) -> PolicyFigures:
        promotions = promotions_of(policy, first, last)
        nightly = len(promotions_of(self.replay("nightly"), first, last))
        clock_benefit = self.equal_clock(len(promotions), first, last) if clock and promotions else None
        return PolicyFigures(
            name=policy.name,
            loss=mean_loss(policy, first, last),
            benefit=self.benefit(policy, first, last),
            promotions=len(promotions),
            share=len(promotions) / nightly if nightly else 0.0,
            clock=clock_benefit,
            fits=len(fits_of(policy, first, last)),
        )

    def benefit(self, policy: ReplayedPolicy, first: int, last: int) -> float | None:
        """Return the share of nightly's benefit that a policy has on partitions; None where nightly has none."""
        never, nightly = (mean_loss(self.replay(name), first, last) for name in ("never", "nightly"))
        sign = -1 if more_is_better(self.loop.metric) else 1
        possible = sign * (never - nightly)
        return sign * (never - mean_loss(policy, first, last)) / possible if possible > 0 else None

    def equal_clock(self, promotions: int, first: int, last: int) -> float | None:
        """Return the benefit of a clock with as many promotions between two positions, mean over its phases."""
        benefits = []
        for phase in range(PHASES):
            times = clock_times(promotions, first, last, (phase + 0.5) / PHASES)
            # Before the judged partitions the clock goes on at the same pace.
            pace = (last - first) / promotions
            before = {int(at) for at in np.arange(min(times) - pace, self.after_first - 1, -pace)}
            decide = _Schedule({self.history.partitions[at].key for at in times | before})
            replayed = replay_policy(self.history, policy_of(self.loop, "never"), "clock", self._none, decide)
            benefits.append(self.benefit(replayed, first, last))
        defined = [benefit for benefit in benefits if benefit is not None]
        return float(np.mean(defined)) if defined else None

    def suggestion(self, first: int, last: int, progress: Callable[[str], None] = lambda _: None) -> str | None:
        """Return the policy to suggest: by the cost of a promotion, or by a clock where every cost falls behind one.

        The cost is the one with the largest benefit and at most ``SHARE`` of the promotions; of equal ones the highest.
        The clock makes that share of them, and its benefit is the mean over its phases. None where retraining has no
        benefit, or neither keeps any of it.
        """
        costs: list[tuple[float, float]] = []
        for cost in COSTS:
            progress(f"regret:{cost:g}")
            figures = self._figures(self.replay(f"regret:{cost:g}"), first, last, clock=False)
            if figures.benefit is not None and figures.share <= SHARE:
                costs.append((round(figures.benefit, 4), cost))
        promotions = round(SHARE * len(promotions_of(self.replay("nightly"), first, last)))
        by_clock = (self.equal_clock(promotions, first, last) if promotions else None) or 0.0
        benefit, cost = max(costs, default=(0.0, 0.0))
        if by_clock > benefit + LEAD:
            return f"clock:{round(1 / SHARE)}"
        return f"regret:{cost:g}" if benefit > 0 else None

    def cost_of_limits(self, first: int, last: int) -> dict[str, float]:
        """Return the cost of the declared cooldown and budget, in points of nightly's benefit, by their name.

        A limit that changes nothing, or costs nothing, is not named.
        """
        costs = {}
        declared = self.benefit(self.replay("declared"), first, last)
        for name, limits in OF_DECLARED.items():
            if name == WITHOUT_RECALL:
                continue
            benefit = self.benefit(self.replay(name), first, last)
            points = 0.0 if benefit is None or declared is None else 100 * (benefit - declared)
            if points >= 100 * AS_GOOD:
                costs[next(iter(limits))] = points
        return costs

    def worth_of_recall(self, first: int, last: int) -> RecallFigures:
        """Return the benefit of recall for the declared policy between two positions."""
        with_recall, without = self.replay("declared"), self.replay(WITHOUT_RECALL)
        benefits = [self.benefit(policy, first, last) for policy in (with_recall, without)]
        points = None if None in benefits else 100 * (float(benefits[0] or 0.0) - float(benefits[1] or 0.0))
        return RecallFigures(
            points=points,
            recalled=sum(first - 1 <= at < last - 1 for at in with_recall.recalled),
            fits=len(fits_of(with_recall, first, last)),
            fits_without=len(fits_of(without, first, last)),
        )


class _Schedule:
    """Decides to retrain as of given partitions, and on the first model as every policy does."""

    def __init__(self, keys: set[str]) -> None:
        self.keys = keys

    def __call__(self, state: LoopState, loop: Loop, partition: str, trigger: Trigger) -> RetrainDecision:
        if state.in_flight is not None:
            return RetrainDecision(False, "joined", state.in_flight)
        if state.champion is None:
            ready = len(state.published) >= loop.train.partitions_needed
            return RetrainDecision(ready, "first model" if ready else "too early", "")
        return RetrainDecision(trigger == "watch" and partition in self.keys, "schedule", "")


def clock_times(promotions: int, first: int, last: int, phase: float) -> set[int]:
    """Return the positions of promotions at even distances from ``first`` to ``last``.

    >>> sorted(clock_times(2, 0, 10, 0.5))
    [2, 7]
    """
    pace = (last - first) / promotions
    return {int(first + (count + phase) * pace) for count in range(promotions)}


def promotions_of(policy: ReplayedPolicy, first: int, last: int) -> list[int]:
    """Return the positions of a policy's promotions that serve a partition between ``first`` and ``last``."""
    return [at for at in policy.promoted if first - 1 <= at < last - 1]


def fits_of(policy: ReplayedPolicy, first: int, last: int) -> list[int]:
    """Return the positions of trainings that ended with no earlier champion, where promotions would be counted."""
    recalled = set(policy.recalled)
    return [at for at in policy.trained if first - 1 <= at < last - 1 and at not in recalled]


def mean_loss(policy: ReplayedPolicy, first: int, last: int) -> float:
    """Return the mean of the served metric over the partitions from ``first`` up to and without ``last``."""
    losses = [loss for position, loss in policy.losses.items() if first <= position < last]
    return float(np.mean(losses)) if losses else float("nan")
