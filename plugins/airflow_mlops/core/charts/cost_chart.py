"""The cost of retrains beside that of a stale model: summed regret over partitions, and the time of fits below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_mlops.core.charts.svg import Scale, element, format_number, line, link, picture, polyline, text

WIDTH, LEFT, RIGHT = 960.0, 58.0, 36.0
REGRET_TOP, REGRET_BOTTOM, FITS_TOP, FITS_BOTTOM, HEIGHT = 22.0, 130.0, 168.0, 230.0, 256.0
TICKS, BAR = 8, 8.0


@dataclass(frozen=True)
class FitBar:
    """A training: the seconds of its fits, None where they are not known, whether it gave a version, and a sentence."""

    seconds: float | None
    registered: bool
    message: str
    href: str | None = None


@dataclass(frozen=True)
class CostPoint:
    """A partition: its name, the regret summed since the promotion, None where it is not known, and its trainings."""

    label: str
    regret: float | None = None
    fits: tuple[FitBar, ...] = ()


def cost_chart(points: Sequence[CostPoint], *, limit: float | None = None) -> str:
    """Return the picture as SVG; an empty text where no regret and no training is known.

    Parameters
    ----------
    points : sequence of CostPoint
        In order of their partitions.
    limit : float, optional
        Summed regret beyond which a retrain is worth its cost.
    """
    measured = [point.regret for point in points if point.regret is not None]
    trainings = sum(len(point.fits) for point in points)
    if not measured and not trainings:
        return ""
    across = Scale(0.0, max(len(points) - 1.0, 1.0), LEFT + BAR, WIDTH - RIGHT - BAR)
    # Without regret the fits move up to where it would be.
    up = 0.0 if measured else FITS_TOP - REGRET_TOP - 22
    parts = [*_regret(points, limit, across), *_fits(points, across, up), *_labels(points, across, up)]
    label = f"Regret of {len(measured)} partitions and the fits of {trainings} trainings"
    return picture("".join(parts), WIDTH, HEIGHT - up, label)


def _regret(points: Sequence[CostPoint], limit: float | None, across: Scale) -> list[str]:
    values = [point.regret for point in points if point.regret is not None]
    if not values:
        return [text("Regret was not measured.", LEFT, REGRET_TOP - 8, class_="quiet")]
    up = Scale.over([0.0, limit, *values], REGRET_BOTTOM, REGRET_TOP + 8)
    parts = [text("Regret since the promotion", LEFT, REGRET_TOP - 8, class_="quiet")]
    for tick in up.ticks(3):
        parts.append(line(LEFT, up.place(tick), WIDTH - RIGHT, up.place(tick), "axis"))
        parts.append(text(format_number(tick), LEFT - 6, up.place(tick) + 4, anchor="end", class_="quiet"))
    if limit is not None:
        parts.append(line(LEFT, up.place(limit), WIDTH - RIGHT, up.place(limit), "limit"))
    places = [
        (across.place(index), up.place(point.regret), point)
        for index, point in enumerate(points)
        if point.regret is not None
    ]
    parts.append(polyline([(x, y) for x, y, _ in places], "line"))
    for x, y, point in places:
        beyond = limit is not None and (point.regret or 0.0) > limit
        dot = element("circle", cx=x, cy=y, r=4 if beyond else 3, class_="bad" if beyond else "dot")
        words = ", more than a promotion costs" if beyond else ""
        parts.append(link(dot, None, f"{point.label}: {format_number(point.regret or 0.0)}{words}"))
    return parts


def _fits(points: Sequence[CostPoint], across: Scale, shift: float) -> list[str]:
    highest, lowest = FITS_TOP - shift, FITS_BOTTOM - shift
    known = [fit.seconds for point in points for fit in point.fits if fit.seconds is not None]
    up = Scale(0.0, max([*known, 1e-9]), lowest, highest)
    parts = [
        text("Seconds of fits", LEFT, highest - 10, class_="quiet"),
        line(LEFT, lowest, WIDTH - RIGHT, lowest, "axis"),
    ]
    if known:
        parts.append(text(format_number(max(known)), LEFT - 6, highest + 4, anchor="end", class_="quiet"))
    for index, point in enumerate(points):
        for place, fit in enumerate(point.fits):
            top = lowest - 2 if fit.seconds is None else min(up.place(fit.seconds), lowest - 2)
            x = across.place(index) - BAR / 2 + place * 3
            class_ = "dot" if fit.registered else "bad"
            bar = element("rect", x=x, y=top, width=BAR, height=lowest - top, class_=class_)
            parts.append(link(bar, fit.href, f"{point.label}: {fit.message}"))
    return parts


def _labels(points: Sequence[CostPoint], across: Scale, shift: float) -> list[str]:
    step = max(1, -(-len(points) // TICKS))
    return [
        text(points[index].label[:10], across.place(index), HEIGHT - shift - 8, anchor="middle", class_="quiet")
        for index in range(0, len(points), step)
    ]
