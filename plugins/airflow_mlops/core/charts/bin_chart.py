"""A histogram of a column in a window, beside the one of its reference."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_mlops.core.charts.svg import Scale, element, format_number, line, link, picture, text

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720.0, 220.0, 52.0, 12.0, 44.0
LABELS = 12
"""Bins whose labels are drawn; every bin has its label in its tooltip."""


def bin_chart(labels: Sequence[str], reference: Sequence[float], window: Sequence[float], *, column: str) -> str:
    """Return the shares of rows by bin as SVG, the reference grey and the window in colour; empty without bins.

    Parameters
    ----------
    labels : sequence of str, shape (n_bins,)
        What each bin holds.
    reference, window : sequence of float, shape (n_bins,)
        Shares of rows, in [0, 1].
    column : str
        Name of the column.
    """
    if not labels:
        return ""
    up = Scale(0.0, max([*reference, *window, 0.01]) * 1.05, HEIGHT - BOTTOM, TOP)
    room = (WIDTH - LEFT - 8) / len(labels)
    parts = []
    for tick in up.ticks(3):
        parts.append(line(LEFT, up.place(tick), WIDTH - 8, up.place(tick), "axis"))
        parts.append(text(f"{100 * tick:.3g} %", LEFT - 6, up.place(tick) + 4, anchor="end", class_="quiet"))
    every = max(1, -(-len(labels) // LABELS))
    for place, (label, before, now) in enumerate(zip(labels, reference, window, strict=True)):
        x, bars = LEFT + place * room, []
        for offset, share, class_ in ((0.08, before, "second"), (0.5, now, "dot")):
            top = up.place(share)
            height = round(HEIGHT - BOTTOM - top, 1)
            bars.append(element("rect", x=x + offset * room, y=top, width=0.4 * room, height=height, class_=class_))
        message = f"{label}: {format_number(100 * before)} % of the reference, {format_number(100 * now)} % here"
        parts.append(link("".join(bars), None, message))
        if place % every == 0:
            parts.append(text(label[:14], x + room / 2, HEIGHT - BOTTOM + 16, anchor="middle", class_="quiet"))
    return picture("".join(parts), WIDTH, HEIGHT, f"{column}: shares of rows by bin, reference and window")
