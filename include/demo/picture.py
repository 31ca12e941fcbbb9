"""The picture of the demo: the error per week, the loop against the same model never retrained."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

UNITS = {"mae": "mean absolute error (minutes)", "log_loss": "log loss"}
LOOP, NEVER, BACK = "#0b6e4f", "#b0b7c3", "#c0392b"


def draw_picture(summary: dict[str, Any], path: Path) -> None:
    """Draw one panel for each loop into a PNG file."""
    figure, panels = plt.subplots(len(summary["loops"]), 1, figsize=(10, 6.2), sharex=True, squeeze=False)
    for panel, (model, comparison) in zip(panels[:, 0], summary["loops"].items(), strict=True):
        draw_panel(panel, model, comparison)
    panels[-1, 0].set_xlabel("week of 2013; every prediction was made before that week's labels were read")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_panel(panel: Any, model: str, comparison: dict[str, Any]) -> None:
    """Draw one loop: two lines, and a mark for every promotion and rollback."""
    weeks = [day(week["partition"]) for week in comparison["weeks"]]
    panel.plot(
        weeks, [week["never_retrained"] for week in comparison["weeks"]], color=NEVER, label="never retrained", lw=2
    )
    panel.plot(weeks, [week["loop"] for week in comparison["weeks"]], color=LOOP, label="the loop", lw=2)
    low, high = panel.get_ylim()
    for partitions, colour, name in (
        (comparison["promoted"], LOOP, "new champion"),
        (comparison["rolled_back"], BACK, "rolled back"),
    ):
        if partitions:
            marks = [day(partition) for partition in partitions]
            panel.scatter(marks, [low] * len(marks), marker="^", color=colour, label=name, zorder=3, clip_on=False)
    panel.set_ylim(low, high)
    panel.set_ylabel(UNITS.get(comparison["metric"], comparison["metric"]))
    panel.set_title(
        f"{model}: {comparison['loop']:.4g} against {comparison['never_retrained']:.4g} never retrained", loc="left"
    )
    panel.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def day(partition: str) -> datetime:
    """Return a partition as a time for the axis."""
    return datetime.fromisoformat(partition)
