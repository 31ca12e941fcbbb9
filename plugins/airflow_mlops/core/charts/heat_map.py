"""A heat map: how far each column of each partition has moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_mlops.core.charts.svg import element, format_number, link, picture, text

LEFT, TOP, CELL, ROW = 190.0, 76.0, 22.0, 20.0
LONGEST = 26
"""Characters of a column's name that are drawn; the whole name is in the tooltip."""


@dataclass(frozen=True)
class HeatCell:
    """The distance of a column from its reference in a partition, in [0, 1], and whether it alarmed."""

    value: float
    alarm: bool = False
    href: str | None = None


def heat_map(columns: Sequence[str], partitions: Sequence[str], cells: Mapping[tuple[str, str], HeatCell]) -> str:
    """Return the picture as SVG; an empty text where there are no cells.

    Parameters
    ----------
    columns, partitions : sequence of str
        Names of the rows and of the columns of the picture, in order.
    cells : mapping of (str, str) to HeatCell
        By column and partition; what is missing is left empty.
    """
    if not cells:
        return ""
    greatest = max(0.2, *(cell.value for cell in cells.values()))
    parts = []
    for place, partition in enumerate(partitions):
        x = LEFT + place * CELL + CELL / 2
        turned = f"rotate(-60 {x:.1f} {TOP - 6})"
        parts.append(text(partition[:10], x, TOP - 6, class_="quiet", transform=turned))
    for row, column in enumerate(columns):
        y = TOP + row * ROW
        name = column if len(column) <= LONGEST else f"{column[:LONGEST]}…"
        parts.append(text(name, LEFT - 8, y + 14, anchor="end"))
        for place, partition in enumerate(partitions):
            cell = cells.get((column, partition))
            if cell is not None:
                parts.append(_cell(cell, LEFT + place * CELL, y, f"{column}, {partition}", cell.value / greatest))
    width, height = LEFT + len(partitions) * CELL + 40, TOP + len(columns) * ROW + 6
    return picture("".join(parts), width, height, f"drift of {len(columns)} columns over {len(partitions)} partitions")


def _cell(cell: HeatCell, x: float, y: float, name: str, share: float) -> str:
    alarm = ", alarm" if cell.alarm else ""
    square = element(
        "rect",
        x=x + 1,
        y=y + 1,
        width=CELL - 2,
        height=ROW - 2,
        rx=2,
        class_="bad" if cell.alarm else "dot",
        fill_opacity=f"{0.12 + 0.88 * share:.2f}",
    )
    return link(square, cell.href, f"{name}: distance {format_number(cell.value)}{alarm}")
