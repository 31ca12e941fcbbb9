"""The picture of a replay: a line for each policy, with its benefit, its promotions and the clock that equals it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_mlops.core.watch.replay.compare_policies import PolicyFigures
from airflow_mlops.core.watch.replay.replay_report import ReplayReport

OURS, CLOCK, LINE = "#0b6e4f", "#8d99ae", "#d9dee7"
LOW = -0.25
"""Smallest benefit that is drawn where it is; a worse one stands at the edge, and the figure beside it tells."""


def draw_replay(report: ReplayReport, path: Path) -> None:
    """Draw one panel for the whole history and one for what no cost was chosen on, into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    lines = max(len(report.whole), len(report.later))
    figure, panels = plt.subplots(1, 2, figsize=(12, 1.4 + 0.34 * lines))
    until = report.partitions[report.split - 1][:10]
    titles = (f"{report.model}: every partition", f"after {until}, the cost chosen before")
    for panel, figures, title in zip(panels, (report.whole, report.later), titles, strict=True):
        _panel(panel, sorted(figures, key=lambda one: one.share), title)
    marks, words = panels[0].get_legend_handles_labels()
    figure.legend(marks, words, frameon=False, loc="lower center", ncols=2, fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(panel: object, figures: Sequence[PolicyFigures], title: str) -> None:
    """Draw the policies from the fewest promotions, below, to the most."""
    from matplotlib.axes import Axes
    from matplotlib.ticker import PercentFormatter

    assert isinstance(panel, Axes)
    known = [(row, one.benefit) for row, one in enumerate(figures) if one.benefit is not None]
    clocks = [(row, one.clock) for row, one in enumerate(figures) if one.clock is not None]
    low = max(LOW, min((value for _, value in [*known, *clocks]), default=0.0))
    panel.hlines(range(len(figures)), low, 1, color=LINE, lw=0.8, zorder=0)
    panel.plot([max(clock, low) for _, clock in clocks], [row for row, _ in clocks], "o", color=CLOCK,
               ms=6, label="a clock with as many promotions, mean over its phases")  # fmt: skip
    panel.plot([max(benefit, low) for _, benefit in known], [row for row, _ in known], "s", color=OURS,
               ms=6, label="the policy")  # fmt: skip
    for row, one in enumerate(figures):
        benefit = "unknown" if one.benefit is None else f"{one.benefit:.0%}"
        panel.annotate(f"{benefit} at {one.share:.0%}", (1.04, row), xycoords=("axes fraction", "data"), va="center",
                       fontsize=8)  # fmt: skip
    panel.set_yticks(range(len(figures)), [one.name for one in figures], fontsize=8)
    panel.set_xlim(low - 0.05, 1.05)
    panel.xaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_xlabel(
        "benefit, as a share of the nightly retraining's; right: at which share of its promotions", fontsize=8
    )
    panel.set_title(title, loc="left", fontsize=10)
    panel.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
