"""A sparkline: the course of a metric in the height of a line of text."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_mlops.core.charts.svg import Scale, element, format_number, picture, polyline

WIDTH, HEIGHT, PADDING = 120.0, 28.0, 3.0


def sparkline(values: Sequence[float | None], *, name: str, alarms: Sequence[bool] = ()) -> str:
    """Return the course of a metric as SVG; an empty text where no value is known.

    Parameters
    ----------
    values : sequence of float or None
        Oldest first; None leaves a gap.
    name : str
        Of the metric, for people who do not see the picture.
    alarms : sequence of bool
        Whether the value of the same place alarmed, which a red dot marks.
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    across = Scale(0.0, max(len(values) - 1.0, 1.0), PADDING, WIDTH - PADDING)
    up = Scale.over(known, HEIGHT - PADDING, PADDING)
    runs: list[list[tuple[float, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((across.place(index), up.place(value)))
    parts = [polyline(run, "line") for run in runs if len(run) > 1]
    parts += [element("circle", cx=run[0][0], cy=run[0][1], r=2, class_="dot") for run in runs if len(run) == 1]
    marked = [(index, value) for index, value in enumerate(values) if value is not None and index < len(alarms)]
    parts += [
        element("circle", cx=across.place(index), cy=up.place(value), r=2.5, class_="bad")
        for index, value in marked
        if alarms[index]
    ]
    label = f"{name}, {len(known)} values from {format_number(known[0])} to {format_number(known[-1])}"
    return picture("".join(parts), WIDTH, HEIGHT, label)
