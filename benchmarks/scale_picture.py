"""Curves over two logarithmic axes, as an SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from airflow_mlops.core.charts.svg import CHART_STYLE, Scale, element, line, picture, polyline, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720.0, 380.0, 70.0, 150.0, 24.0, 44.0
APART = 13.0
"""Pixels between the names of two curves."""


@dataclass(frozen=True)
class Curve:
    """A curve: its name, its class of the style, and its points, all above 0."""

    name: str
    class_: str
    points: Sequence[tuple[float, float]]


def draw_curves(curves: Sequence[Curve], *, across: str, up: str) -> str:
    """Return the curves as the text of an SVG file, on a white ground."""
    xs = [log10(x) for curve in curves for x, _y in curve.points]
    ys = [log10(y) for curve in curves for _x, y in curve.points]
    x_scale = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y_scale = Scale(floor(min(ys)), ceil(max(ys)), HEIGHT - BOTTOM, TOP)
    parts = [element("style", CHART_STYLE), element("rect", x=0, y=0, width=WIDTH, height=HEIGHT, fill="#ffffff")]
    for power in range(floor(min(ys)), ceil(max(ys)) + 1):
        place = y_scale.place(power)
        parts.append(line(LEFT, place, WIDTH - RIGHT, place, "axis"))
        parts.append(text(f"{10.0**power:,.0f}", LEFT - 6, place + 4, anchor="end", class_="quiet"))
    for value in sorted({x for curve in curves for x, _y in curve.points}):
        place = x_scale.place(log10(value))
        parts.append(text(f"{value:g}", place, HEIGHT - BOTTOM + 16, anchor="middle", class_="quiet"))
    names = places_apart([y_scale.place(log10(curve.points[-1][1])) for curve in curves])
    for curve, name_place in zip(curves, names, strict=True):
        points = [(x_scale.place(log10(x)), y_scale.place(log10(y))) for x, y in curve.points]
        parts += [polyline(points, curve.class_), text(curve.name, WIDTH - RIGHT + 8, name_place + 4)]
    parts.append(text(across, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, anchor="middle"))
    parts.append(text(up, LEFT, TOP - 10))
    drawn = picture("".join(parts), WIDTH, HEIGHT, f"{up} by {across}: {', '.join(curve.name for curve in curves)}")
    return drawn.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + "\n"


def places_apart(places: Sequence[float]) -> list[float]:
    """Return places moved down so far that none covers another, in the order given.

    >>> places_apart([100.0, 20.0, 22.0])
    [100.0, 20.0, 33.0]
    """
    moved, last = [0.0] * len(places), float("-inf")
    for index in sorted(range(len(places)), key=lambda index: places[index]):
        moved[index] = last = max(places[index], last + APART)
    return moved
