"""The analyses of a step of a rollout: the statistic of each look between the boundaries that pass and fail it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_mlops.core.charts.svg import Scale, element, format_number, line, link, picture, polyline, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560.0, 220.0, 46.0, 90.0, 14.0, 36.0
CLASSES = {"pass": "good", "fail": "bad", "inconclusive": "unsure"}


@dataclass(frozen=True)
class LookPoint:
    """The look of an analysis at a metric.

    ``information`` is the share of the planned sample; ``z`` how many standard errors the challenger is worse than
    the margin allows; it fails above ``fail_boundary`` and passes below minus ``pass_boundary``.
    """

    information: float
    z: float
    pass_boundary: float
    fail_boundary: float
    verdict: str
    message: str


def boundary_chart(looks: Sequence[LookPoint], *, name: str) -> str:
    """Return the picture as SVG; an empty text where no look was taken.

    Parameters
    ----------
    looks : sequence of LookPoint
        In order of their information.
    name : str
        Of the step and the metric.
    """
    if not looks:
        return ""
    across = Scale(0.0, 1.0, LEFT, WIDTH - RIGHT)
    limits = [value for look in looks for value in (look.fail_boundary, -look.pass_boundary, look.z)]
    up = Scale.over([*limits, 0.0], HEIGHT - BOTTOM, TOP)
    parts = [line(LEFT, up.place(0), WIDTH - RIGHT, up.place(0), "axis")]
    parts += [
        text(f"{100 * tick:.0f} %", across.place(tick), HEIGHT - BOTTOM + 18, anchor="middle", class_="quiet")
        for tick in across.ticks(4)
    ]
    parts += [
        text(format_number(tick), LEFT - 6, up.place(tick) + 4, anchor="end", class_="quiet") for tick in up.ticks(4)
    ]
    for sign, label, class_ in ((1, "fails above", "bad-line"), (-1, "passes below", "good-line")):
        edge = [
            (across.place(look.information), up.place(look.fail_boundary if sign > 0 else -look.pass_boundary))
            for look in looks
        ]
        parts.append(polyline([(LEFT, edge[0][1]), *edge, (WIDTH - RIGHT, edge[-1][1])], class_))
        parts.append(text(label, WIDTH - RIGHT + 6, edge[-1][1] + 4, class_="quiet"))
    parts.append(polyline([(across.place(look.information), up.place(look.z)) for look in looks], "line"))
    for look in looks:
        class_ = CLASSES.get(look.verdict, "unsure")
        dot = element("circle", cx=across.place(look.information), cy=up.place(look.z), r=5, class_=class_)
        parts.append(link(dot, None, f"{look.verdict}: {look.message}"))
    return picture("".join(parts), WIDTH, HEIGHT, f"{name}: {len(looks)} analyses between their boundaries")
