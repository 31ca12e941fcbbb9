"""What a replay found, in figures, in words and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.replay.compare_policies import SHARE, PolicyComparison, PolicyFigures

AS_GOOD = 0.01
"""Benefit by which a policy must lead an equal clock before it is said to be better."""


@dataclass(frozen=True)
class ReplayReport:
    """What was replayed, and what came of it.

    ``whole`` are figures on every partition after the first model, ``later`` those on the partitions from ``split``
    on, which the suggested ``cost`` was not chosen on.
    """

    model: str
    metric: str
    seed: int
    partitions: tuple[str, ...]
    first: int
    split: int
    whole: tuple[PolicyFigures, ...]
    later: tuple[PolicyFigures, ...]
    cost: float | None
    advice: str
    declared: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "model": self.model, "metric": self.metric, "seed": self.seed, "partitions": list(self.partitions),
            "judged_from": self.partitions[self.first], "suggested_until": self.partitions[self.split - 1],
            "whole": [figures.to_dict() for figures in self.whole],
            "later": [figures.to_dict() for figures in self.later],
            "cost": self.cost, "advice": self.advice, "declared_decisions": list(self.declared),
        }


def report_replay(
    comparison: PolicyComparison,
    names: Sequence[str],
    *,
    split: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ReplayReport:
    """Replay policies and return what came of them.

    Parameters
    ----------
    names : sequence of str
        The policies, as :func:`~airflow_mlops.core.replay.compare_policies.policy_of` reads them.
    split : str, optional
        Key up to which a cost is chosen; later partitions judge it. The middle of the history by default.
    progress : callable
        Told what is being replayed.

    Raises
    ------
    NotReadyError
        If there is nothing before or after ``split`` to choose or to judge by.
    DeclarationError
        If there is no policy of a name.
    """
    history, first = comparison.history, comparison.after_first
    keys = tuple(partition.key for partition in history.partitions)
    last = len(keys)
    middle = (first + last) // 2 if split is None else sum(key <= split for key in keys)
    if not first < middle < last:
        raise NotReadyError(
            f"models served {last - first} of the {last} partitions; none of them "
            f"{'is left after' if middle >= last else 'lies before'} {split or keys[-1]}"
        )
    cost = comparison.suggested_cost(first, middle, told=lambda cost: progress(f"regret:{cost:g}"))
    suggested = [] if cost is None else [f"regret:{cost:g}"]
    asked = list(dict.fromkeys([*names, *suggested]))
    whole, later = [], []
    for name in asked:
        progress(name)
        whole.append(comparison.figures(name, first, last))
        later.append(comparison.figures(name, middle, last))
    declared = tuple(one for one in comparison.replayed("declared").decisions if one["retrain"])
    return ReplayReport(
        comparison.loop.model, comparison.loop.metric, comparison.loop.train.seed, keys, first, middle,
        tuple(whole), tuple(later), cost, advice(cost, later), declared,
    )


def advice(cost: float | None, later: Sequence[PolicyFigures]) -> str:
    """Return what the figures suggest, and where a plain clock would do as well."""
    if cost is None:
        return (
            f"no cost keeps within {SHARE:.0%} of the nightly promotions, or retraining has no benefit here; "
            "a person should look before this loop retrains by itself"
        )
    found = next(figures for figures in later if figures.name == f"regret:{cost:g}")
    words = f"retrain: {{policy: {{regret: {cost:g}}}}}: on the partitions that it was not chosen on it "
    if found.benefit is None:
        return f"{words}cannot be judged, since retraining had no benefit there"
    words += f"keeps {found.benefit:.0%} of the nightly benefit with {found.share:.0%} of its promotions"
    if found.clock is None:
        return words
    beside = f"an equal clock, mean over its phases, keeps {found.clock:.0%}"
    if found.benefit - found.clock <= AS_GOOD and found.promotions:
        pace = max(1, round(1 / found.share)) if found.share else 1
        return f"{words}; {beside}, so a plain clock is as good here: retrain: {{policy: {{clock: {pace}}}}}"
    return f"{words}; {beside}"


def table(figures: Sequence[PolicyFigures], metric: str) -> list[str]:
    """Return the figures as the lines of a table."""
    head = f"{'policy':<14}{metric:>10}{'benefit':>10}{'promotions':>12}{'of nightly':>12}{'equal clock':>13}"
    return [head, *(_row(one) for one in figures)]


def _row(one: PolicyFigures) -> str:
    return (
        f"{one.name:<14}{one.loss:>10.4g}{_percent(one.benefit):>10}{one.promotions:>12}"
        f"{one.share:>12.0%}{_percent(one.clock):>13}"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
