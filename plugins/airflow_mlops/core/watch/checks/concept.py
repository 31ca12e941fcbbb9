"""The check ``concept``: detect that the champion's errors have risen, row by row, since it was trained.

Its losses on the rows of the holdout, and on all labelled rows that it scored since, are one stream in the order of
``data.time``. ADWIN (of river) says where its mean changed. The check alarms as long as the level since the last change
is worse than the level before the first one by ``watch.performance.worse_by``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.frame_types import frame_of
from airflow_mlops.core.training.prediction_columns import stored_predictions
from airflow_mlops.core.training.row_losses import Floats, metric_value, relative_loss, row_losses
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.river_adwin import find_changes
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow

PARTITIONS = 52
"""Newest scored partitions in the stream."""
POINTS = 20_000
"""Points of the stream; of more rows, neighbours are taken together by their mean."""
HIGHEST = 0.995
"""Share of the holdout's losses that lie below what counts as 1 for ADWIN, which knows numbers from 0 to 1."""


@dataclass(frozen=True)
class LossStream:
    """Losses of rows in the order of their time, shape (n_rows,), and the partition of each; the holdout comes first.

    ``holdout`` is the number of rows that are of the holdout.
    """

    losses: Floats
    partitions: npt.NDArray[Any]
    holdout: int


def check_concept(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Judge whether the champion's errors have risen."""
    scored = scored_losses(window, terms)
    if len(scored) < terms.min_rows:
        message = f"{len(scored):,} rows that the champion scored have a label; {terms.min_rows} are needed"
        return cannot_tell(message, rows=len(scored), needed=terms.min_rows)
    held_out = window.reference.held_out
    holdout_losses = row_losses(terms.metric, held_out.label, held_out.predictions)
    stream = LossStream(
        losses=np.concatenate([holdout_losses, scored["loss"].to_numpy(np.float64)]),
        partitions=np.concatenate([np.repeat("the holdout", holdout_losses.size), scored["partition"].to_numpy()]),
        holdout=holdout_losses.size,
    )
    return judge_stream(stream, terms)


def judge_stream(stream: LossStream, terms: CheckTerms) -> CheckResult:
    """Judge whether losses have risen, and stay high.

    Raises
    ------
    DeclarationError
        If river is not installed.
    """
    group = -(-stream.losses.size // POINTS)
    edges = np.arange(0, stream.losses.size, group)
    means = np.add.reduceat(stream.losses, edges) / np.diff(np.append(edges, stream.losses.size))
    lowest, highest = np.quantile(stream.losses[: stream.holdout], [1 - HIGHEST, HIGHEST])
    lowest = min(float(lowest), 0.0)  # a user's metric may have losses below 0
    scale = float(highest) - lowest
    numbers: dict[str, Any] = {"rows": stream.losses.size, "holdout_rows": stream.holdout, "metric": terms.metric}
    changes = find_changes(np.clip((means - lowest) / (scale if scale > 0 else 1.0), 0.0, 1.0), delta=terms.alarm_rate)
    if not changes:
        level = metric_value(terms.metric, stream.losses)
        message = (
            f"no change in {stream.losses.size:,} errors since the holdout; {terms.metric} over all is {level:.4g}"
        )
        return CheckResult("no alarm", message, {**numbers, "level": level, "changes": 0})
    first, last = int(edges[changes[0].began]), int(edges[changes[-1].began])
    before, now = (metric_value(terms.metric, part) for part in (stream.losses[:first], stream.losses[last:]))
    worse = relative_loss(terms.metric, now, before)
    numbers |= {
        "before": before,
        "level": now,
        "worse_by": worse,
        "limit": terms.worse_by,
        "changes": len(changes),
        "since": str(stream.partitions[last]),
        "found": str(stream.partitions[edges[changes[-1].detected]]),
    }
    message = (
        f"the errors changed in {numbers['since']}: {terms.metric} is {now:.4g} since then and was {before:.4g} "
        f"at first ({worse:+.1%}; {terms.worse_by:+.0%} is allowed)"
    )
    return CheckResult("alarm" if worse > terms.worse_by else "no alarm", message, numbers)


def scored_losses(window: WatchedWindow, terms: CheckTerms) -> pd.DataFrame:
    """Return the losses of the labelled rows that the champion scored up to the window, in order of time.

    Returns
    -------
    DataFrame
        With the columns ``partition``, ``time``, ``key`` and ``loss``.
    """
    workspace, data = window.workspace, window.workspace.loop.data
    frames = [pd.DataFrame({"partition": [], "time": [], "key": [], "loss": []})]
    for partition in window.scored_by_champion[-PARTITIONS:]:
        rows = window.labelled(partition)
        if rows.empty:
            continue
        version = window.state.scored[partition].snapshot_version
        columns = workspace.snapshots.read(partition, version=version, columns=[data.key, data.time])
        times = frame_of(columns, (data.key,))
        rows = rows.merge(times.astype({data.key: str}), left_on="key", right_on=data.key, suffixes=("", "_of_data"))
        label = rows["label"].to_numpy(np.float64)
        predictions = stored_predictions(rows, "champion", workspace.loop.class_names).astype(np.float64)
        frames.append(
            pd.DataFrame(
                {
                    "partition": partition,
                    "time": rows[data.time],
                    "key": rows["key"],
                    "loss": row_losses(terms.metric, label, predictions),
                }
            )
        )
    filled = frames[1:] or frames
    return pd.concat(filled, ignore_index=True).sort_values(["partition", "time", "key"])
