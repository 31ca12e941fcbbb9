"""Strips that set a window beside those of its reference: how far each lies from the others, on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_mlops.core.charts.svg import Scale, element, format_number, line, link, picture, text

WIDTH, LEFT, RIGHT, ROW, FOOT = 720.0, 220.0, 90.0, 22.0, 18.0
LONGEST = 30
"""Characters of a name that are drawn; the whole name is in the tooltip."""


@dataclass(frozen=True)
class Strip:
    """A strip: its name, the distance of the window, those of the reference's own windows, and whether it alarms."""

    name: str
    value: float
    usual: tuple[float, ...]
    alarm: bool = False


def distance_strips(strips: Sequence[Strip], *, label: str) -> str:
    """Return the strips as SVG, on one scale that begins at 0; an empty text where there are none."""
    if not strips:
        return ""
    across = Scale(0.0, max(1e-9, *(max(strip.value, *strip.usual) for strip in strips)), LEFT, WIDTH - RIGHT)
    parts = [_strip(strip, place * ROW, across) for place, strip in enumerate(strips)]
    foot = len(strips) * ROW
    parts += [
        text(format_number(tick), across.place(tick), foot + 12, anchor="middle", class_="quiet")
        for tick in across.ticks()
    ]
    return picture("".join(parts), WIDTH, foot + FOOT, label)


def _strip(strip: Strip, y: float, across: Scale) -> str:
    name = strip.name if len(strip.name) <= LONGEST else f"{strip.name[:LONGEST]}…"
    middle, place = y + ROW / 2, across.place(strip.value)
    parts = [
        text(name, LEFT - 8, middle + 4, anchor="end"),
        line(LEFT, middle, WIDTH - RIGHT, middle, "axis"),
        *(element("circle", cx=across.place(usual), cy=middle, r=3, class_="second") for usual in strip.usual),
        element("rect", x=place - 2, y=y + 3, width=4.0, height=ROW - 6, class_="bad" if strip.alarm else "dot"),
        text(format_number(strip.value), WIDTH - RIGHT + 8, middle + 4, class_="quiet"),
    ]
    alarm = ", alarm" if strip.alarm else ""
    usual = f"{len(strip.usual)} reference windows up to {format_number(max(strip.usual))}"
    return link("".join(parts), None, f"{strip.name}: {format_number(strip.value)}{alarm}; {usual}")
