"""What the champion lost on its own holdout: the reference that its served predictions are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.watch import Performance
from airflow_mlops.core.errors import LedgerError, NotReadyError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import row_losses
from airflow_mlops.core.training.window import ModelRows, read_window
from airflow_mlops.core.watch.performance.performance_verdict import MeanLoss, losses_by_slice
from airflow_mlops.core.workspace import Workspace

OF_95_PERCENT = 1.959964
"""Standard errors from the middle of an interval of 95 % to its end."""


def reference_loss(workspace: Workspace, version: Version, metric: MetricName) -> MeanLoss:
    """Return the mean loss of a version on its holdout, from the report of its evaluation; reads no rows.

    Where the report is gone, or has no interval, the value counts as exact.
    """
    value = version.details.metrics[metric]
    found = _reported(workspace, version, metric)
    rows, ends = int(found.get("rows") or 0), (found.get("low"), found.get("high"))
    if None in ends:
        return MeanLoss(rows, _loss(metric, value), 0.0)
    low, high = (_loss(metric, float(end)) for end in ends if end is not None)
    return MeanLoss(rows, _loss(metric, value), abs(high - low) / 2 / OF_95_PERCENT)


def _reported(workspace: Workspace, version: Version, metric: MetricName) -> dict[str, Any]:
    """Return what the evaluation said of the metric; empty where that is not to be had."""
    report = version.details.report
    try:
        judged = workspace.evidence.get(str(report))["candidates"] if report else []
    except LedgerError:
        return {}  # taken from the store; audit verify says so
    entry: dict[str, Any] = next((one for one in judged if one["candidate"] == version.details.candidate), {})
    return dict(entry.get("metric_reports", {}).get(metric) or {})


def _loss(metric: MetricName, value: float) -> float:
    """Return the mean loss that a value of a metric stands for."""
    if metric == "accuracy":
        return 1 - value
    return max(value, 0.0) ** 2 if metric == "rmse" else value


def reference_slices(
    workspace: Workspace, state: LoopState, version: Version, declared: Performance
) -> tuple[str, dict[str, dict[str, MeanLoss]]]:
    """Return the mean loss of a version on each slice of its holdout, and the digest that it is kept under.

    Slices with too few rows are left out.

    The holdout is read and predicted once for each version and declaration; later windows find it in the evidence.

    Raises
    ------
    DataError, NotReadyError
        If the holdout cannot be read, or has no labels.
    """
    metric, columns = declared.metric, sorted(declared.slices)
    asked = {"version": version.number, "metric": metric, "columns": columns, "min_rows": declared.min_rows}
    for digest in _kept_before(state, version):
        try:
            kept = workspace.evidence.get(digest)
        except LedgerError:
            continue  # taken from the store: it is measured anew
        if {name: kept[name] for name in asked} == asked:
            return digest, _read(kept["slices"])
    window = version.details.window
    holdout = read_window(workspace, window.holdout)
    if not len(holdout.rows):
        raise NotReadyError(f"no row of the holdout of version {version.number} has a label")
    label = holdout.rows[workspace.loop.data.label].to_numpy(np.float64)
    theirs = predict(load_version(workspace, version), holdout.features, classifies=workspace.loop.classifies)
    losses = row_losses(metric, label, theirs)
    slices = {
        column: {name: [loss.rows, loss.mean, loss.error] for name, loss in of.items()}
        for column, values in columns_of(holdout, columns).items()
        for of, _small in [losses_by_slice(values, losses, declared.min_rows)]
    }
    return workspace.evidence.put({**asked, "slices": slices}), _read(slices)


def _kept_before(state: LoopState, version: Version) -> set[str]:
    """Return the digests under which windows of a version have kept its slices."""
    judged = (known for _, known in state.performance.newest_first() if known.champion == version.number)
    return {known.holdout_slices for known in judged if known.holdout_slices}


def _read(slices: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, MeanLoss]]:
    return {
        column: {name: MeanLoss(int(rows), mean, error) for name, (rows, mean, error) in of.items()}
        for column, of in slices.items()
    }


def columns_of(rows: ModelRows, columns: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the columns that rows, or their features, have, shape (n_rows,) each."""
    found = {}
    for name in columns:
        frame = next((one for one in (rows.rows, rows.features) if name in one.columns), None)
        if frame is not None:
            found[name] = frame[name].to_numpy()
    return found
