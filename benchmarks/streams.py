"""Replay retrain policies on many streams: what each keeps of nightly's benefit, out of sample, in one table.

The declared policy has the same cost of a promotion on every stream, and defaults for the rest; beside it stands the
policy that a replay of the first half suggests, and the declared one without recall. All are judged on the second half,
beside a clock with as many promotions. ``build/streams.json`` has every figure, ``build/streams.md`` the table.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Regret, Retrain
from airflow_mlops.core.replay.compare_policies import WITHOUT_RECALL, PolicyComparison
from airflow_mlops.core.replay.fit_history import FittedHistory, fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.replay.replay_report import report_replay
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.testing.in_memory import AcceptingValidator, in_memory_workspace
from benchmarks.row import Row
from benchmarks.stream_data import STREAMS, Stream

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
WINDOW = 8
START = datetime(2000, 1, 2)  # noqa: DTZ001
COST = 0.1
"""The cost of a promotion that every stream declares."""
BEHIND, AHEAD, HARM = 0.03, 0.05, 0.01
"""Shares: at most so far behind an equal clock, at least so far ahead on half of the streams, at most so much harm."""
RECALL_AHEAD, RECALL_COST = 0.1, 0.01
"""Shares of nightly's benefit: least lead of recall where a stream recurs, and largest cost of it on the others."""
SAYS_NOTHING = 0.02
"""Benefit of nightly retraining, as a share of never's loss, below which a percentage of it says nothing."""


@dataclass(frozen=True)
class StreamFigures:
    """The figures of each policy on the later half of a stream, by its name, as ``PolicyFigures`` has them.

    ``chosen`` is the policy that was chosen on the first half; the declared one where none was.
    """

    stream: str
    change: str
    origin: str
    metric: str
    seed: int
    partitions: int
    chosen: str
    advice: str
    policies: dict[str, dict[str, Any]]

    def loss(self, name: str) -> float:
        """Return the mean loss of a policy."""
        return float(self.policies[name]["loss"])

    @property
    def gain(self) -> float:
        """The saving of nightly retraining, as a share of the loss of a model that is never retrained."""
        return 1 - self.loss("nightly") / self.loss("never")

    @property
    def is_judged(self) -> bool:
        """Whether nightly retraining saves enough for a share of it to say something."""
        return self.gain >= SAYS_NOTHING

    @property
    def lead(self) -> float | None:
        """Benefit of the declared policy less that of a clock with as many promotions; None where it promotes none."""
        declared = self.policies["declared"]
        return None if declared["clock"] is None else float(declared["benefit"] - declared["clock"])

    @property
    def harm(self) -> float:
        """Loss of the declared policy above that of a model that is never retrained, as a share of it."""
        return self.loss("declared") / self.loss("never") - 1

    @property
    def recall_lead(self) -> float:
        """Benefit of the declared policy less that without recall; a share of never's loss where that says nothing."""
        if self.is_judged:
            with_recall, without = (float(self.policies[name]["benefit"]) for name in ("declared", WITHOUT_RECALL))
            return with_recall - without
        return (self.loss(WITHOUT_RECALL) - self.loss("declared")) / self.loss("never")

    @property
    def recall_pays(self) -> bool:
        """Whether recall is far ahead, or needs no more than half of the fits without being behind."""
        fits, without = (int(self.policies[name]["fits"]) for name in ("declared", WITHOUT_RECALL))
        return self.recall_lead >= RECALL_AHEAD or (without > 0 and 2 * fits <= without and self.recall_lead >= 0)


def declaration(stream: Stream) -> Loop:
    """Return the loop of a stream: a regret policy, and the defaults of everything that decides on a retrain."""
    metric = "log_loss" if stream.classifies else "mae"
    return Loop(
        model="stream",
        owner="benchmarks",
        data={
            "source": {"kind": "parquet", "uri": "{partition}.parquet"},
            "key": "id",
            "time": "at",
            "label": "y",
            "every": "@weekly",
        },
        train={
            "function": f"benchmarks.stream_models:{'classifier' if stream.classifies else 'regressor'}",
            "window": WINDOW,
        },
        gates=[{"metric": metric, "better_than": "dummy"}],
        rollout={"stages": [{"live": 100}]},
        retrain=Retrain(policy=Regret(regret=COST)),
    )


def dated(partitions: list[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return partitions by weekly keys, with a key and a time for each row."""
    weeks = {}
    for place, rows in enumerate(partitions):
        end = START + timedelta(weeks=place)
        ids = [f"{place}-{row}" for row in range(len(rows))]
        weeks[end.isoformat()] = rows.reset_index(drop=True).assign(id=ids, at=pd.Timestamp(end) - pd.Timedelta("1D"))
    return weeks


def fitted(stream: Stream, seed: int, *, processes: int = 2) -> FittedHistory:
    """Return the history of a stream with every model that could be fitted on it."""
    frames = dated(stream.make(seed))
    with tempfile.TemporaryDirectory(prefix="stream-") as scratch:
        workspace = in_memory_workspace(declaration(stream), frames, scratch=Path(scratch), root=ROOT)
        for key in frames:
            manifest = take_snapshot(workspace, key)
            publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, AcceptingValidator()))
        return fit_history(workspace, past_partitions(workspace), processes=processes)


def measure(stream: Stream, seed: int) -> StreamFigures:
    """Return the figures of a stream: its models are fitted once, its policies replayed on them."""
    comparison = PolicyComparison(fitted(stream, seed))
    report = report_replay(comparison, ["declared", WITHOUT_RECALL, "never", "nightly", "clock:4"])
    return StreamFigures(
        stream=stream.name,
        change=stream.change,
        origin=stream.origin,
        metric=comparison.loop.metric,
        seed=seed,
        partitions=len(report.partitions),
        chosen=report.suggested or "declared",
        advice=report.advice,
        policies={figures.name: figures.to_dict() for figures in report.later},
    )


def streams() -> list[Row]:
    """Return the rows: how far the declared policy falls behind an equal clock, leads it, and does harm, at worst."""
    measured: list[StreamFigures] = []
    for stream in STREAMS:
        print(f"    {stream.name}", flush=True)
        measured.append(measure(stream, SEED))
        store(measured)
    return rows_of(measured)


def rows_of(measured: list[StreamFigures]) -> list[Row]:
    """Return the rows of the figures of all streams."""
    judged = [figures for figures in measured if figures.is_judged]
    leads = [figures.lead for figures in judged if figures.lead is not None]
    changing = [figures for figures in judged if figures.change != "none"]
    ahead = sum(figures.lead is not None and figures.lead >= AHEAD for figures in changing)
    unhelped = [figures.harm for figures in measured if not figures.is_judged]
    behind, share, harm = (
        -min(leads, default=0.0),
        ahead / len(changing) if changing else 0.0,
        max(unhelped, default=0.0),
    )
    clock = "a clock with as many promotions"
    return [
        Row(
            "streams_behind_clock",
            behind,
            BEHIND,
            clock,
            "share of nightly's benefit",
            behind / BEHIND,
            f"at worst {BEHIND:.0%} behind",
            behind <= BEHIND,
        ),
        Row(
            "streams_ahead_of_clock",
            share,
            0.5,
            clock,
            f"share of streams {AHEAD:.0%} ahead",
            share / 0.5,
            "on half of those that change",
            share >= 0.5,
        ),
        Row(
            "streams_harm",
            harm,
            HARM,
            "never retrained",
            "share of its loss",
            harm / HARM,
            f"at worst {HARM:.0%} above never where retraining does not help",
            harm <= HARM,
        ),
        *recall_rows(measured),
    ]


def recall_rows(measured: list[StreamFigures]) -> list[Row]:
    """Return the rows of recall: where a stream recurs it pays, and on the others it costs nothing."""
    recurring = [figures for figures in measured if figures.change == "recurring"]
    others = [figures for figures in measured if figures.change != "recurring"]
    share = sum(figures.recall_pays for figures in recurring) / len(recurring) if recurring else 0.0
    cost = max((-figures.recall_lead for figures in others), default=0.0)
    peer = "the same policy without recall"
    return [
        Row(
            "streams_recall_recurring",
            share,
            1.0,
            peer,
            f"share of recurring streams {RECALL_AHEAD:.0%} ahead, or with half of the fits",
            share,
            "on every stream that recurs",
            share >= 1.0,
        ),
        Row(
            "streams_recall_elsewhere",
            cost,
            RECALL_COST,
            peer,
            "share of nightly's benefit",
            cost / RECALL_COST,
            f"at worst {RECALL_COST:.0%} behind where nothing recurs",
            cost <= RECALL_COST,
        ),
    ]


def store(measured: list[StreamFigures]) -> None:
    """Store the figures in ``build/streams.json``, and as a table in ``build/streams.md``."""
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    (folder / "streams.json").write_text(json.dumps([asdict(figures) for figures in measured], indent=2) + "\n")
    (folder / "streams.md").write_text("\n".join(table(measured)) + "\n")


def table(measured: list[StreamFigures]) -> list[str]:
    """Return the figures as the lines of a table in Markdown."""
    policies = ["never", "nightly", "every fourth", "declared", "without recall", "equal clock", "suggested before"]
    names = ["stream", "changes", *policies]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|", *map(table_row, measured)]


def table_row(figures: StreamFigures) -> str:
    """Return a stream's line of the table: losses first, then what each policy keeps of nightly's benefit."""

    def kept(name: str) -> str:
        row = figures.policies[name]
        if not figures.is_judged:
            return f"{figures.loss(name) / figures.loss('never') - 1:+.1%} of the loss, {row['promotions']} promotions"
        return f"{row['benefit']:.0%} at {row['share']:.0%}"

    clock = figures.policies["declared"]["clock"]
    cells = [
        figures.stream,
        figures.change,
        f"{figures.loss('never'):.4g}",
        f"{figures.loss('nightly'):.4g}",
        kept("clock:4"),
        kept("declared"),
        kept(WITHOUT_RECALL),
        f"{clock:.0%}" if figures.is_judged and clock is not None else "-",
        f"`{figures.chosen}`: {kept(figures.chosen)}",
    ]
    return f"| {' | '.join(cells)} |"
