"""The loop as a ring of its stages, each with its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_mlops.core.charts.svg import element, line, link, picture, text

BOX, HEIGHT, GAP, TOP = 124.0, 54.0, 22.0, 14.0
CLASSES = {"good": "good", "bad": "bad", "busy": "unsure", "idle": "quiet"}


@dataclass(frozen=True)
class LoopNode:
    """A stage of the loop: its name, its state (``good``, ``bad``, ``busy`` or ``idle``), a word or two, and a link."""

    name: str
    state: str
    message: str
    href: str | None = None


def loop_drawing(nodes: Sequence[LoopNode]) -> str:
    """Return the stages in a row as SVG, with the arrow from the last back to the first."""
    width = len(nodes) * (BOX + GAP)
    parts, middle = [], TOP + HEIGHT / 2
    for place, node in enumerate(nodes):
        x = place * (BOX + GAP) + GAP / 2
        parts.append(_node(node, x))
        if place + 1 < len(nodes):
            parts.append(line(x + BOX, middle, x + BOX + GAP - 4, middle, "axis"))
            parts.append(text("▸", x + BOX + GAP - 6, middle + 4, anchor="middle", class_="quiet"))
    low, last = TOP + HEIGHT + 18, width - GAP / 2 - BOX / 2
    path = f"M {last:.0f} {TOP + HEIGHT:.0f} V {low:.0f} H {GAP / 2 + BOX / 2:.0f} V {TOP + HEIGHT + 4:.0f}"
    parts.append(element("path", d=path, class_="axis"))
    parts.append(text("▴", GAP / 2 + BOX / 2, TOP + HEIGHT + 10, anchor="middle", class_="quiet"))
    return picture(
        "".join(parts), width, low + 8, "the loop: " + ", ".join(f"{node.name}: {node.message}" for node in nodes)
    )


def _node(node: LoopNode, x: float) -> str:
    class_ = CLASSES[node.state]
    parts = [
        element("rect", x=x, y=TOP, width=BOX, height=HEIGHT, rx=6, class_="box"),
        element("circle", cx=x + 12, cy=TOP + 17, r=4.5, class_=class_),
        text(node.name, x + 22, TOP + 21),
        text(node.message[:20], x + 10, TOP + 41, class_="quiet"),
    ]
    return link("".join(parts), node.href, f"{node.name}: {node.message}")
