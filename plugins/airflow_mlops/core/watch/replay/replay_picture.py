"""The picture of a replay: benefit against promotions, one mark for each policy, and the line of equal clocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_mlops.core.watch.replay.compare_policies import PolicyFigures
from airflow_mlops.core.watch.replay.replay_report import ReplayReport

OURS, CLOCK = "#0b6e4f", "#8d99ae"


def draw_replay(report: ReplayReport, path: Path) -> None:
    """Draw one panel for the whole history and one for what no cost was chosen on, into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    until = report.partitions[report.split - 1][:10]
    titles = (f"{report.model}: every partition", f"after {until}, the cost chosen before")
    for panel, figures, title in zip(panels, (report.whole, report.later), titles, strict=True):
        _panel(panel, figures, title)
    panels[0].set_ylabel("share of the nightly retraining's benefit")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(panel: object, figures: Sequence[PolicyFigures], title: str) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import PercentFormatter

    assert isinstance(panel, Axes)
    clocks = sorted((one.share, one.clock) for one in figures if one.clock is not None)
    if clocks:
        panel.plot([share for share, _ in clocks], [clock for _, clock in clocks], "o-", color=CLOCK, ms=4,
                   label="a clock with as many promotions")  # fmt: skip
    known = [(one.share, one.benefit, one.name) for one in figures if one.benefit is not None]
    panel.plot([share for share, _, _ in known], [benefit for _, benefit, _ in known], "s", color=OURS, label="policy")
    for share, benefit, name in known:
        panel.annotate(name, (share, benefit), textcoords="offset points", xytext=(5, -11), fontsize=8)
    panel.set_title(title, loc="left", fontsize=10)
    panel.set_xlabel("promotions, as a share of the nightly retraining's")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    panel.legend(frameon=False, loc="lower right", fontsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
