"""Horizontal bars with names, such as the columns of a window by how far they moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_mlops.core.charts.svg import Scale, element, format_number, line, link, picture, text

WIDTH, LEFT, RIGHT, ROW = 720.0, 220.0, 90.0, 20.0
LONGEST = 30
"""Characters of a name that are drawn; the whole name is in the tooltip."""


@dataclass(frozen=True)
class Bar:
    """A bar: its name, its value of 0 or more, whether it alarms, and a value below which it is of no matter."""

    name: str
    value: float
    alarm: bool = False
    limit: float | None = None


def bar_chart(bars: Sequence[Bar], *, label: str) -> str:
    """Return the bars as SVG, on one scale that begins at 0; an empty text where there are none."""
    if not bars:
        return ""
    greatest = max(*(bar.value for bar in bars), *(bar.limit or 0.0 for bar in bars), 1e-9)
    across = Scale(0.0, greatest, LEFT, WIDTH - RIGHT)
    parts = [_bar(bar, place * ROW, across) for place, bar in enumerate(bars)]
    return picture("".join(parts), WIDTH, len(bars) * ROW + 4, label)


def _bar(bar: Bar, y: float, across: Scale) -> str:
    name = bar.name if len(bar.name) <= LONGEST else f"{bar.name[:LONGEST]}…"
    end = across.place(bar.value)
    parts = [
        text(name, LEFT - 8, y + 14, anchor="end"),
        element(
            "rect", x=LEFT, y=y + 3, width=max(end - LEFT, 1.0), height=ROW - 6, class_="bad" if bar.alarm else "dot"
        ),
        text(format_number(bar.value), end + 6, y + 14, class_="quiet"),
    ]
    if bar.limit is not None:
        parts.append(line(across.place(bar.limit), y + 1, across.place(bar.limit), y + ROW - 1, "limit"))
    alarm = ", alarm" if bar.alarm else ""
    return link("".join(parts), None, f"{bar.name}: {format_number(bar.value)}{alarm}")
