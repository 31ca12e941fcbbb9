"""The check ``label_rate``: compare the share of labelled rows and the mean of the labels with the reference.

Two numbers of the window are held against the same numbers of the partitions that the champion was made of: the share
of rows with a label, and the mean of the labels, which of classes is the rate of class 1. They share the check's alarm
rate evenly. A shift of the mean matters by the label's own standard deviation, so that a rare class that became three
times as frequent is seen. Of three classes or more the rate of each is compared, and they share the half of the alarm
rate that is otherwise the mean's. While more labels may come of a window, nothing is said of it; and where none has
come at all, that is absence (``watch.overdue``) and no rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from airflow_mlops.core.data.labels.labels_of import LabelReader
from airflow_mlops.core.data.labels.open_labels import earliest_labelled_partition
from airflow_mlops.core.errors import DataError, NotReadyError
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.window import pin_scored, read_labels
from airflow_mlops.core.watch.checks.against_windows import Comparison, Estimate, compare
from airflow_mlops.core.watch.checks.check_result import CheckResult, Verdict, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.watched_window import REFERENCE_PARTITIONS, WatchedWindow
from airflow_mlops.core.watch.sampled_rows import spread_evenly


@dataclass(frozen=True)
class LabelCounts:
    """The labels of a partition: rows, rows with a label, and mean and standard deviation of the labels."""

    rows: int
    labelled: int
    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: Floats) -> LabelCounts:
        """Return the counts of labels, shape (n_rows,); NaN and infinity are no labels."""
        labelled = labels[np.isfinite(labels)]
        if not labelled.size:
            return cls(int(labels.size), 0, 0.0, 0.0)
        return cls(int(labels.size), int(labelled.size), float(labelled.mean()), float(labelled.std()))

    @property
    def share(self) -> Estimate:
        """The share of rows with a label; half a row more on either side keeps its error above 0."""
        likely = (self.labelled + 0.5) / (self.rows + 1)
        return Estimate(self.labelled / self.rows, sqrt(likely * (1 - likely) / self.rows))

    @property
    def level(self) -> Estimate:
        """The mean of the labels; where all are the same, its error is that of their digits."""
        return Estimate(self.mean, max(self.deviation, 1e-12 * max(abs(self.mean), 1.0)) / sqrt(self.labelled))


def check_label_rate(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Judge whether the share of labelled rows, or the mean of their labels, differs from the reference."""
    workspace = window.workspace
    if workspace.loop.data.labels is not None and window.partition > earliest_labelled_partition(
        workspace.loop, window.until
    ):
        return cannot_tell(f"labels of {window.partition} may still come after {window.until}")
    classes = workspace.loop.several_class_names
    state, reader = workspace.state(as_of=window.until), LabelReader(workspace)
    pins, past_labels = window.champion.details.window, []
    for pin in spread_evenly((*pins.fitted, *pins.holdout), REFERENCE_PARTITIONS):
        try:
            past_labels.append(read_labels(workspace, pin, labels=reader)["label"].to_numpy())
        except DataError:
            continue  # a lost partition is no reference; judge_label_rate raises where all are lost
    window_labels = read_labels(workspace, pin_scored(state, window.partition, window.until), labels=reader)
    now = window_labels["label"].to_numpy()
    if classes is not None:
        return judge_class_rates(past_labels, now, terms, classes)
    return judge_label_rate([LabelCounts.of(labels) for labels in past_labels], LabelCounts.of(now), terms)


def judge_class_rates(past: Sequence[Floats], now: Floats, terms: CheckTerms, classes: tuple[str, ...]) -> CheckResult:
    """Judge whether the share of labelled rows, or the rate of a class, differs from the windows of the reference.

    Parameters
    ----------
    past : sequence of array of float, each shape (n_rows,)
        Codes of the labels of each window of the reference, NaN without a label.
    now : array of float, shape (n_rows,)
        Codes of the labels of the window to judge.

    Raises
    ------
    NotReadyError
        If no row of the reference has a label.
    """
    counts = [LabelCounts.of(labels) for labels in past]
    first, labelled = LabelCounts.of(now), [labels for labels in past if np.isfinite(labels).any()]
    if not labelled:
        raise NotReadyError("no labelled row of the champion's training window can be read")
    if not first.labelled:
        return cannot_tell(f"none of {first.rows:,} rows has a label", rows=first.rows, labelled=0)
    share = compare(first.share, [part.share for part in counts], both_sides=True)
    verdict, needed = share.verdict(rows=first.rows, alarm_rate=terms.alarm_rate / 2, least=terms.min_effect)
    verdicts, needs, rates = [verdict], [needed], {}
    for code, name in enumerate(classes):
        parts = [LabelCounts.of(of_class(labels, code)) for labels in labelled]
        rate = compare(LabelCounts.of(of_class(now, code)).level, [part.level for part in parts], both_sides=True)
        deviation = sqrt(float(np.mean([part.deviation**2 for part in parts])))
        verdict, needed = rate.verdict(
            rows=first.labelled, alarm_rate=terms.alarm_rate / 2 / len(classes), least=terms.min_effect * deviation
        )
        verdicts.append(verdict)
        needs.append(needed)
        rates[name] = rate
    numbers = {
        "rows": first.rows,
        "labelled": first.labelled,
        "share": share.numbers(),
        "classes": {name: rate.numbers() for name, rate in rates.items()},
        "needed": None if None in needs else max(need for need in needs if need is not None),
    }
    return CheckResult(worst_verdict(*verdicts), class_sentence(first, share, rates), numbers)


def class_sentence(now: LabelCounts, share: Comparison, rates: Mapping[str, Comparison]) -> str:
    """Return a sentence with the share of labelled rows, the rate of each class, and the usual ones."""
    listed = ", ".join(
        f"{name} {rate.now.value:.1%} and usually {rate.usual:.1%} (p = {rate.p_value:.2g})"
        for name, rate in rates.items()
    )
    return (
        f"{now.labelled:,} of {now.rows:,} rows have a label, {share.now.value:.1%} and usually {share.usual:.1%} "
        f"(p = {share.p_value:.2g}); of these are {listed}"
    )


def of_class(labels: Floats, code: int) -> Floats:
    """Return 1 for labels of a class, 0 for others and NaN for none, shape (n_rows,)."""
    return np.where(np.isnan(labels), np.nan, labels == code)


def judge_label_rate(past: Sequence[LabelCounts], now: LabelCounts, terms: CheckTerms) -> CheckResult:
    """Judge whether share or mean of a window's labels differs from the windows of the reference.

    Raises
    ------
    NotReadyError
        If no row of the reference has a label.
    """
    labelled = [counts for counts in past if counts.labelled]
    if not labelled:
        raise NotReadyError("no labelled row of the champion's training window can be read")
    if not now.labelled:
        return cannot_tell(f"none of {now.rows:,} rows has a label", rows=now.rows, labelled=0)
    share = compare(now.share, [counts.share for counts in past], both_sides=True)
    level = compare(now.level, [counts.level for counts in labelled], both_sides=True)
    deviation = sqrt(float(np.mean([counts.deviation**2 for counts in labelled])))
    alarm_rate = terms.alarm_rate / 2
    share_verdict, needed = share.verdict(rows=now.rows, alarm_rate=alarm_rate, least=terms.min_effect)
    level_verdict, level_needed = level.verdict(
        rows=now.labelled, alarm_rate=alarm_rate, least=terms.min_effect * deviation
    )
    numbers = {
        "rows": now.rows,
        "labelled": now.labelled,
        "share": share.numbers(),
        "mean": level.numbers(),
        "deviation": deviation,
        "needed": None if needed is None or level_needed is None else max(needed, level_needed),
    }
    return CheckResult(
        worst_verdict(share_verdict, level_verdict), summary_sentence(now, share, level, deviation), numbers
    )


def worst_verdict(*verdicts: Verdict) -> Verdict:
    """Return the worst of verdicts: an alarm, then ``insufficient data``, then ``no alarm``."""
    order: tuple[Verdict, ...] = ("alarm", "insufficient data", "no alarm")
    return next(verdict for verdict in order if verdict in verdicts)


def summary_sentence(now: LabelCounts, share: Comparison, level: Comparison, deviation: float) -> str:
    """Return a sentence with both numbers and the usual ones."""
    shift = f" ({level.difference / deviation:+.2g} standard deviations, p = {level.p_value:.2g})" if deviation else ""
    return (
        f"{now.labelled:,} of {now.rows:,} rows have a label, {share.now.value:.1%} and usually {share.usual:.1%} "
        f"(p = {share.p_value:.2g}); their mean is {level.now.value:.4g}, usually {level.usual:.4g}{shift}"
    )
