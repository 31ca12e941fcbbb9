"""Measure performance: the served predictions of a partition against the labels that have arrived."""

from __future__ import annotations

from typing import Any

import pandas as pd

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.evaluation.metrics import metric_value, relative_loss, row_losses
from airflow_mlops.core.training.window import PinnedPartition, read_partition
from airflow_mlops.core.workspace import Workspace


def measure_performance(workspace: Workspace, partition: str) -> dict[str, Any]:
    """Return, and record, the metric of a scored partition beside the champion's value on its holdout.

    ``verdict`` is ``alarm``, ``no alarm`` or ``insufficient data``. A partition older than the newest
    one decided on is ``historical``: recorded, never alarming.

    Raises
    ------
    NotReadyError
        If nothing was scored, or no performance is declared.
    """
    declared = workspace.loop.watch.performance
    if declared is None:
        raise NotReadyError("no performance is declared to be watched")
    state = workspace.state(as_of=partition)
    scored = state.scored.get(partition)
    if scored is None:
        raise NotReadyError(f"partition {partition} was not scored")
    known = state.performance.get(partition)
    if known is not None and known["snapshot"] == scored["snapshot"]:
        return {"partition": partition, **known}
    frame = labelled_predictions(workspace, partition, scored)
    details: dict[str, Any] = {
        "metric": declared.metric, "rows": len(frame), "snapshot": scored["snapshot"],
        "champion": scored["champion"], "historical": is_historical(workspace, partition),
    }  # fmt: skip
    if len(frame) < declared.min_rows:
        details |= {"verdict": "insufficient data", "needed": declared.min_rows}
    else:
        losses = row_losses(declared.metric, frame["label"].to_numpy(float), frame["served_prediction"].to_numpy())
        value = metric_value(declared.metric, losses)
        reference = float(state.versions[scored["champion"]].details["metrics"][declared.metric])
        worse = relative_loss(declared.metric, value, reference)
        alarm = worse > declared.worse_by and not details["historical"]
        details |= {
            "value": value, "reference": reference, "worse_by": worse, "limit": declared.worse_by,
            "verdict": "alarm" if alarm else "no alarm",
        }  # fmt: skip
    record = workspace.record_fact(
        workspace.draft("performance_judged", f"performance:{partition}:{scored['publication']}", partition, **details)
    )
    return {"partition": partition, **record.details}


def labelled_predictions(workspace: Workspace, partition: str, scored: dict[str, Any]) -> pd.DataFrame:
    """Return the served predictions of a partition with the labels that have arrived."""
    data = workspace.loop.data
    pin = PinnedPartition(partition, int(scored["snapshot_version"]), str(scored["snapshot"]))
    labels = read_partition(workspace, pin, label=True)[[data.key, data.label]].dropna()
    labels = labels.rename(columns={data.key: "key", data.label: "label"}).astype({"key": str})
    predictions: pd.DataFrame = workspace.predictions.read(partition, version=int(scored["version"])).to_pandas()
    return predictions.merge(labels, on="key", validate="one_to_one")


def is_historical(workspace: Workspace, partition: str) -> bool:
    """Whether a newer partition than this one was decided on before."""
    newest = workspace.state().high_water
    return newest is not None and partition < newest
