"""Whether the windows of a reference say how far further ones go, column by column, and why they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from airflow_mlops.core.watch.drift.column_drift import ColumnShift
from airflow_mlops.core.watch.drift.heavy_tails import Tails
from airflow_mlops.core.watch.drift.reference_spread import is_restless
from airflow_mlops.core.watch.drift.window_effects import (
    COLUMN_ORDER_LEVEL,
    ORDER_LEVEL,
    are_known,
    careful_tails,
    first_direction,
    independent_columns,
    order_p_value,
    squared_distances,
    tail_of,
)

Doubt = Literal["", "one", "few", "order", "tails"]
"""Why a threshold is not known: one reference window, few restless ones, windows in order, tails that do not show."""

FEW = 6
"""Restless windows below which nothing is asked of their order and tails."""
FEW_LEVEL = 0.01
"""How often few windows of independent rows may be taken for restless, and so say nothing."""
RESTLESS = 0.002
"""Chance of as much spread among independent rows, below which a column's windows are restless by themselves."""


@dataclass(frozen=True)
class Trust:
    """The assumption about a column's further windows.

    ``tails`` is None where they are judged as chance, or as normal if the reference's windows differ by a little more.
    ``doubt`` is empty where the stated rate is known to hold. Where there is no model at all, ``gross_only``, nothing
    but a shift that leaves hardly a row in its place is told from what windows do.
    """

    tails: Tails | None = None
    doubt: Doubt = ""
    gross_only: bool = False


def trust_columns(
    shifts: Sequence[ColumnShift], *, restless: bool, columns: float, lone_is_usual: bool = False
) -> list[Trust]:
    """Return the assumption about each column's further windows; the window that is judged has no part in it.

    Parameters
    ----------
    shifts : sequence of ColumnShift
        One for each column.
    restless : bool
        Whether the windows of the reference differ by more than chance, in one column or in all of them.
    columns : float
        Effective number of independent columns.
    lone_is_usual : bool
        Whether one window by itself is taken for what every window is like.
    """
    windows = max(shift.spread.windows for shift in shifts)
    if windows < 2:
        return [Trust() if lone_is_usual else Trust(None, "one", gross_only=True)] * len(shifts)
    if not restless:
        return [Trust()] * len(shifts)
    if windows < FEW:
        surely = is_restless([shift.spread for shift in shifts], columns=columns, level=FEW_LEVEL)
        return [Trust(None, "few", gross_only=True) if surely else Trust()] * len(shifts)
    moving = [
        place
        for place, shift in enumerate(shifts)
        if shift.spread.windows == windows and shift.spread.freedom and shift.spread.p_value <= RESTLESS
    ]
    return _trust_by_effects(shifts, moving) if moving else [Trust()] * len(shifts)


def _trust_by_effects(shifts: Sequence[ColumnShift], moving: Sequence[int]) -> list[Trust]:
    """Return the assumption about each column, given those whose windows move by themselves.

    Where most columns move, the others share what is said of them: one that stood still at the turn of its season, or
    had no far week yet, says nothing of the next window.
    """
    most = len(moving) > len(shifts) / 2
    distances = np.array([squared_distances(shifts[place].effects) for place in moving])
    together = order_p_value(distances.mean(axis=0)) <= ORDER_LEVEL
    in_order = {
        place
        for place, distance in zip(moving, distances, strict=True)
        if together or order_p_value(distance) <= COLUMN_ORDER_LEVEL
    }
    places = np.array([first_direction(shifts[place].effects) for place in moving])
    tails = tail_of(places)
    of_rest = Trust(tails) if are_known(tails) else Trust(careful_tails(tails), "tails")
    # One trend or season of all columns: they are one column, which tells no tails.
    shared = together and independent_columns(places) <= max(1.0, len(moving) / 2)
    of_others = Trust(None, "order", gross_only=True) if together else of_rest
    trusts = [of_others if most and shift.spread.freedom else Trust() for shift in shifts]
    for place in moving:
        trusts[place] = Trust(None if shared else of_rest.tails, "order") if place in in_order else of_rest
    return trusts
