"""The report of a replay: figures, advice and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.core.errors import DataError, GateError, TrainingError
from airflow_mlops.core.replay.compare_policies import AS_GOOD, SHARE, PolicyComparison, PolicyFigures, RecallFigures
from airflow_mlops.core.replay.compare_windows import WindowTable, compare_windows
from airflow_mlops.core.replay.fit_history import FittedHistory
from airflow_mlops.core.replay.past_holdout import PastHoldout
from airflow_mlops.core.replay.replay_policy import LEFT_OUT
from airflow_mlops.core.replay.replay_request import split_position
from airflow_mlops.core.training.inspect_candidates import describe_left_out


@dataclass(frozen=True)
class ReplayReport:
    """The figures of all replayed policies, the suggested one and the advice.

    ``whole`` are figures on every partition after the first model, ``later`` those on the partitions from ``split``
    on, which the ``suggested`` policy was not chosen on; ``cost`` is its cost of a promotion, where it is by regret.
    ``limits`` has what cooldown and budget cost over the whole, in points of nightly's benefit, and ``recall`` what
    earlier champions brought there, None where recall is switched off. ``left_out`` has each
    candidate that a training would leave out with the reason and the partitions as of which it holds, ``untrained`` the
    reasons why nothing could be trained as of a partition, and ``unserved`` by policy why its champion could not
    predict a partition. ``windows`` compares the declared windows over the whole, where there are several.
    """

    model: str
    metric: str
    seed: int
    partitions: tuple[str, ...]
    first: int
    split: int
    whole: tuple[PolicyFigures, ...]
    later: tuple[PolicyFigures, ...]
    suggested: str | None
    cost: float | None
    advice: str
    declared: tuple[dict[str, Any], ...]
    limits: Mapping[str, float] = field(default_factory=dict)
    recall: RecallFigures | None = None
    left_out: tuple[dict[str, Any], ...] = ()
    untrained: Mapping[str, str] = field(default_factory=dict)
    unserved: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    windows: WindowTable | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "model": self.model,
            "metric": self.metric,
            "seed": self.seed,
            "partitions": list(self.partitions),
            "judged_from": self.partitions[self.first],
            "suggested_until": self.partitions[self.split - 1],
            "whole": [figures.to_dict() for figures in self.whole],
            "later": [figures.to_dict() for figures in self.later],
            "suggested": self.suggested,
            "cost": self.cost,
            "cost_of_limits": dict(self.limits),
            "recall": None if self.recall is None else self.recall.to_dict(),
            "advice": self.advice,
            "declared_decisions": list(self.declared),
            "left_out": list(self.left_out),
            "untrained": dict(self.untrained),
            "unserved": {name: dict(reasons) for name, reasons in self.unserved.items()},
            **({} if self.windows is None else {"windows": self.windows.to_dict()}),
        }


def report_replay(
    comparison: PolicyComparison,
    names: Sequence[str],
    *,
    split: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ReplayReport:
    """Replay policies and return the report.

    Parameters
    ----------
    names : sequence of str
        The policies, as :func:`~airflow_mlops.core.replay.compare_policies.policy_of` reads them.
    split : str, optional
        Key up to which a suggestion is chosen; later partitions judge it. The middle of the history by default.
    progress : callable
        Called with the name of each policy before it is replayed.

    Raises
    ------
    NotReadyError
        If no partition lies before ``split`` to choose on, or none after it to judge on.
    DeclarationError
        If there is no policy of a name.
    """
    history, first = comparison.history, comparison.after_first
    keys = tuple(partition.key for partition in history.partitions)
    last, middle = len(keys), split_position(keys, first, split)
    suggested = comparison.suggestion(first, middle, progress)
    all_names = list(dict.fromkeys([*names, *([] if suggested is None else [suggested])]))
    whole, later = [], []
    for name in all_names:
        progress(name)
        whole.append(comparison.figures(name, first, last))
        later.append(comparison.figures(name, middle, last))
    declared = tuple(decision for decision in comparison.replay("declared").decisions if decision["retrain"])
    return ReplayReport(
        model=comparison.loop.model,
        metric=comparison.loop.metric,
        seed=comparison.loop.train.seed,
        partitions=keys,
        first=first,
        split=middle,
        whole=tuple(whole),
        later=tuple(later),
        suggested=suggested,
        cost=float(suggested.partition(":")[2]) if suggested and suggested.startswith("regret") else None,
        advice=advice(suggested, later),
        declared=declared,
        limits=comparison.cost_of_limits(first, last),
        recall=comparison.worth_of_recall(first, last) if comparison.loop.retrain.recallable else None,
        **left_out_of(history),
        unserved={
            name: {keys[position]: reason for position, reason in unserved.items()}
            for name in all_names
            if (unserved := comparison.replay(name).unserved)
        },
        windows=compare_windows(comparison, first, last, progress),
    )


def left_out_of(history: FittedHistory) -> dict[str, Any]:
    """Return ``left_out`` and ``untrained`` of a report: they depend on no policy."""
    keys = [partition.key for partition in history.partitions]
    partitions: dict[tuple[str, str], list[str]] = {}
    untrained = {}
    for as_of in sorted({*history.models, *history.untrained}):
        try:
            reasons = PastHoldout(history, history.loop, as_of).usable[1]
        except (TrainingError, GateError, DataError) as error:
            untrained[keys[as_of]] = str(error)
            continue
        for name_and_reason in reasons.items():
            partitions.setdefault(name_and_reason, []).append(keys[as_of])
    left_out = [
        {"candidate": name, "reason": reason, "partitions": as_of}
        for (name, reason), as_of in sorted(partitions.items())
    ]
    return {"left_out": tuple(left_out), "untrained": untrained}


def describe_replay(report: ReplayReport) -> list[str]:
    """Return the notes on the figures, a line each: limits, recall, what could not be used, and what is left out."""
    return [*limit_lines(report), *recall_lines(report), *unused_lines(report), f"not replayed: {LEFT_OUT}"]


def unused_lines(report: ReplayReport) -> list[str]:
    """Return a line for each candidate that was left out, each kind of failed training and each unserved policy."""
    lines = []
    for name in dict.fromkeys(entry["candidate"] for entry in report.left_out):
        entries = [entry for entry in report.left_out if entry["candidate"] == name]
        as_of = sorted(key for entry in entries for key in entry["partitions"])
        newest = next(entry["reason"] for entry in entries if as_of[-1] in entry["partitions"])
        lines.append(f"left out: {describe_left_out({name: newest})[0]} ({_places(as_of)})")
    for reason in dict.fromkeys(report.untrained.values()):
        as_of = sorted(key for key, other in report.untrained.items() if other == reason)
        lines.append(f"not trained: {reason} ({_places(as_of)})")
    for name, reasons in report.unserved.items():
        newest = max(reasons)
        lines.append(f"not served under {name}: {reasons[newest]} ({_places(sorted(reasons))})")
    return lines


def _places(keys: Sequence[str]) -> str:
    return f"{keys[-1][:10]}" if len(keys) == 1 else f"{len(keys)} partitions, {keys[0][:10]} to {keys[-1][:10]}"


def limit_lines(report: ReplayReport) -> list[str]:
    """Return a line for each limit of the declared policy that has cost something.

    A limit protects from too many promotions; here it kept some that would have paid.
    """
    return [
        f"the {limit} cost {points:.0f} points of the nightly benefit: without it the declared policy keeps more"
        for limit, points in report.limits.items()
    ]


def recall_lines(report: ReplayReport) -> list[str]:
    """Return a line about what recall brought, where it changed anything."""
    recall = report.recall
    if recall is None or not (recall.recalled or round(recall.points or 0.0)):
        return []
    trainings = f"{recall.recalled} training{'s' * (recall.recalled != 1)}"
    fits = (
        f"{trainings} ended with an earlier champion, {recall.fits} otherwise, and {recall.fits_without} without recall"
    )
    if recall.points is None:
        return [f"recall: {fits}; nightly retraining has no benefit here to hold it against"]
    verb = "brought" if recall.points >= 0 else "cost"
    return [f"recall {verb} {abs(recall.points):.0f} points of the nightly benefit: {fits}"]


def advice(suggested: str | None, later: Sequence[PolicyFigures]) -> str:
    """Return the advice that follows from the figures: a cost, or a plain clock where that is as good."""
    if suggested is None:
        return (
            f"no policy keeps within {SHARE:.0%} of the nightly promotions, or retraining has no benefit here; "
            "a person should look before this loop retrains by itself"
        )
    figures = next(figures for figures in later if figures.name == suggested)
    kind, _, number = suggested.partition(":")
    sentence = f"retrain: {{policy: {{{kind}: {number}}}}}: on the partitions that it was not chosen on it "
    if figures.benefit is None:
        return f"{sentence}cannot be judged, since retraining had no benefit there"
    sentence += f"keeps {figures.benefit:.0%} of the nightly benefit with {figures.share:.0%} of its promotions"
    if kind == "clock":
        return f"{sentence}; no cost of a promotion was as good on those that it was chosen on"
    ahead = clock_ahead(figures.benefit, later)
    if ahead is not None:
        return (
            f"retrain: {{policy: {{clock: {ahead.name.partition(':')[2]}}}}}: from the middle on it keeps "
            f"{ahead.benefit:.0%} of the nightly benefit with {ahead.share:.0%} of its promotions; the cost that did "
            f"best before, {number}, keeps {figures.benefit:.0%} with {figures.share:.0%}"
        )
    if figures.clock is None:
        return sentence
    comparison = f"an equal clock, mean over its phases, keeps {figures.clock:.0%}"
    if figures.benefit - figures.clock <= AS_GOOD and figures.promotions:
        pace = max(1, round(1 / figures.share)) if figures.share else 1
        return f"{sentence}; {comparison}, so a plain clock is as good here: retrain: {{policy: {{clock: {pace}}}}}"
    return f"{sentence}; {comparison}"


def clock_ahead(benefit: float, later: Sequence[PolicyFigures]) -> PolicyFigures | None:
    """Return the clock that keeps most with a third of nightly's promotions or fewer, if it keeps more than that."""
    clocks = [row for row in later if row.name.startswith("clock:") and row.benefit is not None and row.share <= 1 / 3]
    best = max(clocks, key=lambda row: row.benefit or 0.0, default=None)
    return best if best is not None and (best.benefit or 0.0) > benefit + AS_GOOD else None


def table(figures: Sequence[PolicyFigures], metric: str) -> list[str]:
    """Return the figures as the lines of a table."""
    head = f"{'policy':<14}{metric:>10}{'benefit':>10}{'promotions':>12}{'of nightly':>12}{'equal clock':>13}"
    return [head, *(_row(row) for row in figures)]


def _row(figures: PolicyFigures) -> str:
    return (
        f"{figures.name:<14}{figures.loss:>10.4g}{_percent(figures.benefit):>10}{figures.promotions:>12}"
        f"{figures.share:>12.0%}{_percent(figures.clock):>13}"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
