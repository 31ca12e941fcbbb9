"""The course of a metric over partitions with its interval, and marks of what the loop did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_mlops.core.charts.svg import Scale, element, format_number, line, link, picture, polyline, text

WIDTH, HEIGHT = 960.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 36.0, 34.0, 40.0
MARKS = {
    "retrain": ("R", "unsure"),
    "promoted": ("▲", "good"),
    "rolled back": ("▼", "bad"),
    "refused": ("✕", "bad"),
    "rollout": ("◆", "quiet"),
}
"""The sign of each kind of mark, and its class."""
TICKS = 8
MOST_MARKS = 4
"""Marks that are drawn of a partition; more of them would cover the line, and the timeline has them all."""


@dataclass(frozen=True)
class MetricPoint:
    """The metric of a partition.

    ``label`` names the partition; ``value`` is in [``low``, ``high``]; ``reference`` is the value at registration and
    ``href`` leads to the partition. A value of None leaves a gap.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    alarm: bool = False
    href: str | None = None


@dataclass(frozen=True)
class ChartMark:
    """Something that the loop did: its kind, one of ``MARKS``, its partition, a sentence, and a link to its record."""

    kind: str
    label: str
    message: str
    href: str | None = None


def metric_chart(points: Sequence[MetricPoint], marks: Sequence[ChartMark], *, metric: str) -> str:
    """Return the picture as SVG; an empty text where no value is known.

    Parameters
    ----------
    points : sequence of MetricPoint
        In order of their partitions.
    marks : sequence of ChartMark
        Those of partitions that have no point are left out.
    metric : str
        Name of the metric.
    """
    values = [value for point in points for value in (point.value, point.low, point.high, point.reference)]
    if all(point.value is None for point in points):
        return ""
    across = Scale(0.0, max(len(points) - 1.0, 1.0), LEFT, WIDTH - RIGHT)
    up = Scale.over(values, HEIGHT - BOTTOM, TOP)
    parts = [
        *_axes(points, across, up),
        *_bands(points, across, up),
        *_references(points, across, up),
        *_lines(points, across, up),
        *_marks(points, marks, across),
    ]
    return picture("".join(parts), WIDTH, HEIGHT, f"{metric} of {len(points)} partitions")


def _axes(points: Sequence[MetricPoint], across: Scale, up: Scale) -> list[str]:
    parts = []
    for tick in up.ticks():
        parts.append(line(LEFT, up.place(tick), WIDTH - RIGHT, up.place(tick), "axis"))
        parts.append(text(format_number(tick), LEFT - 6, up.place(tick) + 4, anchor="end", class_="quiet"))
    step = max(1, -(-len(points) // TICKS))
    for index in range(0, len(points), step):
        label = points[index].label[:10]
        parts.append(text(label, across.place(index), HEIGHT - BOTTOM + 18, anchor="middle", class_="quiet"))
    return parts


def _runs(points: Sequence[MetricPoint]) -> list[list[int]]:
    """Return the places of values that follow one another without a gap."""
    runs: list[list[int]] = [[]]
    for index, point in enumerate(points):
        if point.value is None:
            runs.append([])
        else:
            runs[-1].append(index)
    return [run for run in runs if run]


def _bands(points: Sequence[MetricPoint], across: Scale, up: Scale) -> list[str]:
    bands = []
    for run in _runs(points):
        whole = [
            (index, low, high)
            for index in run
            if (low := points[index].low) is not None and (high := points[index].high) is not None
        ]
        upper = [(across.place(index), up.place(high)) for index, _, high in whole]
        lower = [(across.place(index), up.place(low)) for index, low, _ in reversed(whole)]
        if len(whole) > 1:
            bands.append(element("polygon", points=" ".join(f"{x},{y}" for x, y in upper + lower), class_="band"))
    return bands


def _references(points: Sequence[MetricPoint], across: Scale, up: Scale) -> list[str]:
    """Return the value at registration as a stepped line, which moves when another champion serves."""
    parts = []
    for index in range(len(points)):
        reference = points[index].reference
        if reference is not None:
            half = (across.place(1) - across.place(0)) / 2
            start, end = max(LEFT, across.place(index) - half), min(WIDTH - RIGHT, across.place(index) + half)
            parts.append(line(start, up.place(reference), end, up.place(reference), "limit"))
    return parts


def _lines(points: Sequence[MetricPoint], across: Scale, up: Scale) -> list[str]:
    parts = []
    for run in _runs(points):
        places = [(across.place(index), up.place(points[index].value or 0.0)) for index in run]
        parts.append(polyline(places, "line"))
        for index, (x, y) in zip(run, places, strict=True):
            point = points[index]
            alarm = ", alarm" if point.alarm else ""
            dot = element("circle", cx=x, cy=y, r=4 if point.alarm else 3, class_="bad" if point.alarm else "dot")
            parts.append(link(dot, point.href, f"{point.label}: {format_number(point.value or 0.0)}{alarm}"))
    return parts


def _marks(points: Sequence[MetricPoint], marks: Sequence[ChartMark], across: Scale) -> list[str]:
    places = {point.label: across.place(index) for index, point in enumerate(points)}
    taken: dict[str, int] = {}
    parts = []
    for mark in marks:
        if mark.label not in places:
            continue
        sign, class_ = MARKS[mark.kind]
        row = taken[mark.label] = taken.get(mark.label, -1) + 1
        if row >= MOST_MARKS:
            continue
        symbol = text(sign, places[mark.label], TOP - 20 + 11 * row, anchor="middle", class_=class_)
        parts.append(line(places[mark.label], TOP - 4, places[mark.label], HEIGHT - BOTTOM, "axis"))
        parts.append(link(symbol, mark.href, f"{mark.label}: {mark.kind}: {mark.message}"))
    return parts
