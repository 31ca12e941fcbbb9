"""Sentences about a verdict that is no alarm: why the rate is not known, and why a large distance is nothing new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from airflow_mlops.core.watch.drift.drift_verdict import GROSS, ColumnDrift
from airflow_mlops.core.watch.drift.window_trust import FEW

MANY_WINDOWS = 26


def describe_doubt(columns: Sequence[ColumnDrift]) -> str:
    """Return why the reference's own windows do not say what is new, and what to do; empty where they do.

    Where columns differ in that, the reason of most of them is given.
    """
    doubts = Counter(column.doubt for column in columns if column.doubt)
    if not doubts:
        return ""
    doubt = doubts.most_common(1)[0][0]
    concerned = [column for column in columns if column.doubt == doubt]
    windows = max((len(column.reference_distances) for column in columns), default=0)
    count = f"{len(concerned)} of {len(columns)} columns"
    if doubt == "one":
        return (
            f"one reference window says nothing of how windows differ, so only a distance of {GROSS:g} or more alarms; "
            f"train on {FEW} windows or more"
        )
    if doubt == "few":
        return (
            f"the {windows} reference windows differ by more than chance and are too few to say how far a window goes "
            f"by itself, so only a distance of {GROSS:g} or more alarms; train on {FEW} windows or more"
        )
    farthest = max(concerned, key=lambda column: max(column.reference_distances, default=0.0))
    if doubt == "order":
        return (
            f"the reference's own windows follow a trend or a season in {count} and cannot say what is new: those of "
            f"{farthest.column!r} move by about {farthest.step:.2g} a window; make features that do not move with time"
        )
    return (
        f"in {count} the reference's own windows move by themselves, those of {farthest.column!r} by up to "
        f"{max(farthest.reference_distances):.2g}, and {windows} of them do not tell how far one in many goes; "
        f"train on {MANY_WINDOWS} windows or more"
    )


def describe_usual_distance(columns: Sequence[ColumnDrift], min_effect: float) -> str:
    """Return why the column that moved farthest does not alarm; empty where no distance matters.

    It is said of a distance of the minimum effect or more that stays quiet, of a column with two reference windows or
    more.
    """
    quiet = [
        column
        for column in columns
        if not column.drifted and column.reference_distances and 0 < min_effect <= column.distance
    ]
    if not quiet:
        return ""
    column = max(quiet, key=lambda column: column.distance)
    return (
        f"{column.column!r} moved by {column.distance:.2f}, the reference's own windows move by up to "
        f"{max(column.reference_distances):.2f}"
    )
