"""Draw a replay: a line for each policy, with its benefit, its promotions and the benefit of an equal clock."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path

from airflow_mlops.core.replay.compare_policies import PolicyFigures
from airflow_mlops.core.replay.replay_report import ReplayReport

POLICY, CLOCK, LINE = "#0b6e4f", "#8d99ae", "#d9dee7"
ENDS = (-0.25, 1.5)
"""Range of benefits that is drawn; marks beyond it are at its edge, beside the figure as text."""


def draw_replay(report: ReplayReport, path: Path) -> None:
    """Draw a panel for the whole history and one for the partitions after the choice of a cost, into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    lines = max(len(report.whole), len(report.later))
    figure, panels = plt.subplots(1, 2, figsize=(12, 1.4 + 0.34 * lines))
    until = report.partitions[report.split - 1][:10]
    titles = (f"{report.model}: every partition", f"after {until}, the cost chosen before")
    for panel, figures, title in zip(panels, (report.whole, report.later), titles, strict=True):
        _panel(panel, sorted(figures, key=lambda row: row.share), title)
    marks, labels = panels[0].get_legend_handles_labels()
    figure.legend(marks, labels, frameon=False, loc="lower center", ncols=2, fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(panel: object, figures: Sequence[PolicyFigures], title: str) -> None:
    """Draw the policies from the fewest promotions, below, to the most."""
    from matplotlib.axes import Axes
    from matplotlib.ticker import PercentFormatter

    assert isinstance(panel, Axes)
    rows = range(len(figures))
    clocks = [_clip_to_ends(figure.clock) for figure in figures]
    benefits = [_clip_to_ends(figure.benefit) for figure in figures]
    positions = [position for position in (*clocks, *benefits) if not isnan(position)]
    low, high = min(positions, default=0.0), max(positions, default=1.0)
    panel.hlines(rows, low, high, color=LINE, lw=0.8, zorder=0)
    panel.plot(clocks, rows, "o", color=CLOCK, ms=6, label="a clock with as many promotions, mean over its phases")
    panel.plot(benefits, rows, "s", color=POLICY, ms=6, label="the policy")
    for row, figure in enumerate(figures):
        benefit = "unknown" if figure.benefit is None else f"{figure.benefit:.0%}"
        panel.annotate(
            f"{benefit} at {figure.share:.0%}", (1.04, row), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
    panel.set_yticks(rows, [figure.name for figure in figures], fontsize=8)
    panel.set_xlim(low - 0.05, high + 0.05)
    panel.xaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_xlabel(
        "benefit, as a share of the nightly retraining's; right: at which share of its promotions", fontsize=8
    )
    panel.set_title(title, loc="left", fontsize=10)
    panel.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def _clip_to_ends(value: float | None) -> float:
    """Return the position of a mark: clipped to ``ENDS``, and NaN, which is not drawn, without a value."""
    return nan if value is None else min(max(value, ENDS[0]), ENDS[1])
