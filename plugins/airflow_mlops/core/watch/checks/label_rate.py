"""The check ``label_rate``: do as many rows have a label as usual, and are the labels themselves what they were?

Two numbers of the window are held against the same numbers of the partitions that the champion was made of: the share
of rows with a label, and the mean of the labels, which of classes is the rate of class 1. They share the check's alarm
rate evenly. A shift of the mean matters by the label's own standard deviation, so that a rare class that became three
times as frequent is seen. While more labels may come of a window, nothing is said of it; and where none has come at
all, that is absence (``watch.overdue``) and no rate.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from airflow_mlops.core.watch.sampled_rows import evenly


@dataclass(frozen=True)
class LabelCounts:
    """The labels of a partition: rows, rows with a label, and mean and standard deviation of the labels."""

    rows: int
    labelled: int
    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: Floats) -> LabelCounts:
        """Return what is counted of labels, shape (n_rows,); NaN and infinity are none."""
        known = labels[np.isfinite(labels)]
        if not known.size:
            return cls(int(labels.size), 0, 0.0, 0.0)
        return cls(int(labels.size), int(known.size), float(known.mean()), float(known.std()))

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
    """Return whether the share of labelled rows, and the mean of their labels, are what they were in the reference."""
    workspace = window.workspace
    if workspace.loop.data.labels is not None and window.partition > earliest_labelled_partition(
        workspace.loop, window.until
    ):
        return cannot_tell(f"labels of {window.partition} may still come after {window.until}")
    state, reader = workspace.state(as_of=window.until), LabelReader(workspace)
    pins, past = window.champion.details.window, []
    for pin in evenly((*pins.fitted, *pins.holdout), REFERENCE_PARTITIONS):
        try:
            past.append(LabelCounts.of(read_labels(workspace, pin, labels=reader)["label"].to_numpy()))
        except DataError:
            continue  # what is gone is no reference; where all is, that is said below
    own = read_labels(workspace, pin_scored(state, window.partition, window.until), labels=reader)
    return judge_label_rate(past, LabelCounts.of(own["label"].to_numpy()), terms)


def judge_label_rate(past: Sequence[LabelCounts], now: LabelCounts, terms: CheckTerms) -> CheckResult:
    """Return whether share and mean of a window's labels are those of the windows of the reference.

    Raises
    ------
    NotReadyError
        If no row of the reference has a label.
    """
    known = [one for one in past if one.labelled]
    if not known:
        raise NotReadyError("no labelled row of the champion's training window can be read")
    if not now.labelled:
        return cannot_tell(f"none of {now.rows:,} rows has a label", rows=now.rows, labelled=0)
    share = compare(now.share, [one.share for one in past], both_sides=True)
    level = compare(now.level, [one.level for one in known], both_sides=True)
    deviation = sqrt(float(np.mean([one.deviation**2 for one in known])))
    rate = terms.alarm_rate / 2
    of_share, needed = share.verdict(rows=now.rows, alarm_rate=rate, least=terms.min_effect)
    of_level, more = level.verdict(rows=now.labelled, alarm_rate=rate, least=terms.min_effect * deviation)
    numbers = {
        "rows": now.rows, "labelled": now.labelled, "share": share.numbers(), "mean": level.numbers(),
        "deviation": deviation, "needed": None if needed is None or more is None else max(needed, more),
    }  # fmt: skip
    return CheckResult(worst(of_share, of_level), said_of(now, share, level, deviation), numbers)


def worst(*verdicts: Verdict) -> Verdict:
    """Return an alarm if any is one, and otherwise that there is too little if that is so of any."""
    order: tuple[Verdict, ...] = ("alarm", "insufficient data", "no alarm")
    return next(verdict for verdict in order if verdict in verdicts)


def said_of(now: LabelCounts, share: Comparison, level: Comparison, deviation: float) -> str:
    """Return both numbers beside the usual ones, in words."""
    away = f" ({level.difference / deviation:+.2g} standard deviations, p = {level.p_value:.2g})" if deviation else ""
    return (
        f"{now.labelled:,} of {now.rows:,} rows have a label, {share.now.value:.1%} and usually {share.usual:.1%} "
        f"(p = {share.p_value:.2g}); their mean is {level.now.value:.4g}, usually {level.usual:.4g}{away}"
    )
