"""Whether the windows of a reference say how far further ones go, column by column, and why they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from airflow_mlops.core.watch.drift.column_drift import ColumnShift
from airflow_mlops.core.watch.drift.heavy_tails import Tails
from airflow_mlops.core.watch.drift.window_effects import (
    COLUMN_ORDER_LEVEL,
    HEAVIEST,
    ORDER_LEVEL,
    first_direction,
    order_p_value,
    squared_distances,
    tail_of,
)

Doubt = Literal["", "one", "few", "order", "tails"]
"""Why a threshold is not known: one reference window, few restless ones, windows in order, tails that eight do not show."""

FEW = 6
"""Restless windows below which nothing is asked of their order and tails."""
RESTLESS = 0.002
"""Chance of as much spread among independent rows, below which a column's windows are restless by themselves."""


@dataclass(frozen=True)
class Trust:
    """What is assumed of a column's further windows.

    ``tails`` is None where they are judged as chance, or as normal if the reference's windows differ by a little more.
    ``doubt`` is empty where the stated rate is known to hold. Where there is no model at all, ``gross_only``, nothing but
    a shift that leaves hardly a row in its place is told from what windows do.
    """

    tails: Tails | None = None
    doubt: Doubt = ""
    gross_only: bool = False


def trust_columns(shifts: Sequence[ColumnShift], *, restless: bool) -> list[Trust]:
    """Return what each column's windows say about further ones; the window that is judged has no part in it.

    Parameters
    ----------
    shifts : sequence of ColumnShift
        One for each column.
    restless : bool
        Whether the windows of the reference differ by more than chance, in one column or in all of them.
    """
    windows = max(shift.spread.windows for shift in shifts)
    if windows < 2:
        return [Trust(None, "one", gross_only=True)] * len(shifts)
    if not restless:
        return [Trust()] * len(shifts)
    if windows < FEW:
        return [Trust(None, "few", gross_only=True)] * len(shifts)
    trusts = [Trust()] * len(shifts)
    moving = [
        place
        for place, shift in enumerate(shifts)
        if shift.spread.windows == windows and shift.spread.freedom and shift.spread.p_value <= RESTLESS
    ]
    if not moving:
        return trusts
    distances = np.array([squared_distances(shifts[place].effects) for place in moving])
    together = order_p_value(distances.mean(axis=0)) <= ORDER_LEVEL
    if together and len(moving) > len(shifts) / 2:
        # A column that stood still at the turn of its season says nothing of the next window.
        trusts = [Trust(None, "order", gross_only=True)] * len(shifts)
    ordered = [together or order_p_value(distance) <= COLUMN_ORDER_LEVEL for distance in distances]
    for place, in_order in zip(moving, ordered, strict=True):
        if in_order:
            trusts[place] = Trust(None, "order")
    rest = [place for place, in_order in zip(moving, ordered, strict=True) if not in_order]
    if rest:
        tails = tail_of([first_direction(shifts[place].effects) for place in rest])
        for place in rest:
            trusts[place] = Trust(HEAVIEST, "tails") if tails is None else Trust(tails)
    return trusts
