"""Gates as a picture: the value of each with its interval, beside its limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlops.core.charts.svg import Scale, element, format_number, line, link, picture, text

WIDTH, LEFT, RIGHT, ROW = 860.0, 330.0, 150.0, 26.0
CLASSES = {"pass": "good", "fail": "bad", "too little data": "unsure"}
SIGNS = {"pass": "✓", "fail": "✗", "too little data": "?"}
LONGEST = 48


def gate_chart(gates: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture as SVG; an empty text where no gate has a value.

    Every gate has a scale of its own, since gates are in different units.

    Parameters
    ----------
    gates : sequence of mapping
        Gate reports as JSON values; see :class:`~airflow_mlops.core.evaluation.gate_report.GateReport`.
    """
    drawn = [gate for gate in gates if gate.get("value") is not None]
    if not drawn:
        return ""
    parts = [_gate(gate, row) for row, gate in enumerate(drawn)]
    return picture("".join(parts), WIDTH, len(drawn) * ROW + 6, f"{len(drawn)} gates with value, interval and limit")


def _gate(gate: Mapping[str, Any], row: int) -> str:
    y, verdict = row * ROW + ROW / 2 + 2, str(gate["verdict"])
    value, limit, low, high = (gate.get(key) for key in ("value", "limit", "low", "high"))
    if low is None or high is None or not low <= value <= high:
        low = high = None  # the interval of a comparison is in units of the metric, its value a share of it
    scale = Scale.over([value, limit, low, high], LEFT, WIDTH - RIGHT, margin=0.15)
    class_, name = CLASSES.get(verdict, "unsure"), str(gate["gate"])
    parts = [
        text(f"{SIGNS.get(verdict, '?')} {name[:LONGEST]}", LEFT - 12, y + 4, anchor="end", class_=class_),
        line(LEFT, y, WIDTH - RIGHT, y, "axis"),
    ]
    if low is not None and high is not None:
        start, end = scale.place(low), scale.place(high)
        parts.append(element("rect", x=start, y=y - 4, width=max(end - start, 1.0), height=8, class_="band"))
    parts.append(element("circle", cx=scale.place(float(value)), cy=y, r=4.5, class_=class_))  # type: ignore[arg-type]
    shown = format_number(float(value))  # type: ignore[arg-type]
    if limit is not None:
        parts.append(line(scale.place(limit), y - 9, scale.place(limit), y + 9, "limit"))
        shown += f", limit {format_number(limit)}"
    parts.append(text(shown, WIDTH - RIGHT + 10, y + 4, class_="quiet"))
    return link("".join(parts), None, f"{name}: {verdict}: {gate.get('reason', '')}")
