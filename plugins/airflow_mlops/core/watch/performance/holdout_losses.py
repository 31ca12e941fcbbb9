"""The champion's losses on its own holdout: the reference for the losses of its served predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.data.frame_types import values_of
from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.row_weights import row_weights
from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.watch import Performance
from airflow_mlops.core.errors import LedgerError, NotReadyError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import mean_loss, row_losses
from airflow_mlops.core.training.window import ModelRows, read_window
from airflow_mlops.core.watch.performance.performance_verdict import MeanLoss, losses_by_slice
from airflow_mlops.core.workspace import Workspace

OF_95_PERCENT = 1.959964
"""Standard errors from the middle of a 95 % interval to its end."""


def reference_loss(workspace: Workspace, version: Version, metric: MetricName) -> MeanLoss:
    """Return the mean loss of a version on its holdout, from the report of its evaluation; reads no rows.

    Where the report is gone, or has no interval, the value counts as exact.
    """
    value = version.details.metrics[metric]
    report = _reported_metric(workspace, version, metric)
    rows, ends = int(report.get("rows") or 0), (report.get("low"), report.get("high"))
    if None in ends:
        return MeanLoss(rows, mean_loss(metric, value), 0.0)
    low, high = (mean_loss(metric, float(end)) for end in ends if end is not None)
    return MeanLoss(rows, mean_loss(metric, value), abs(high - low) / 2 / OF_95_PERCENT)


def _reported_metric(workspace: Workspace, version: Version, metric: MetricName) -> dict[str, Any]:
    """Return the evaluation report on a metric; empty where the evidence is gone or has none."""
    report = version.details.report
    try:
        candidates = workspace.evidence.get(str(report))["candidates"] if report else []
    except LedgerError:
        return {}  # removed from the store; audit verify reports it
    name = version.details.candidate
    entry: dict[str, Any] = next((candidate for candidate in candidates if candidate["candidate"] == name), {})
    return dict(entry.get("metric_reports", {}).get(metric) or {})


def reference_slices(
    workspace: Workspace, state: LoopState, version: Version, declared: Performance
) -> tuple[str, dict[str, dict[str, MeanLoss]]]:
    """Return the mean loss of a version on each slice of its holdout, and the digest of its evidence.

    Slices with too few rows are left out. The holdout is read and predicted once for each version and declaration;
    later windows find it in the evidence.

    Raises
    ------
    DataError, NotReadyError
        If the holdout cannot be read, or has no labels.
    """
    metric, columns = declared.metric, sorted(declared.slices)
    query = {"version": version.number, "metric": metric, "columns": columns, "min_rows": declared.min_rows}
    if workspace.loop.train.weight is not None:
        query["weight"] = workspace.loop.train.weight
    for digest in _recorded_slice_digests(state, version):
        try:
            evidence = workspace.evidence.get(digest)
        except LedgerError:
            continue  # removed from the store: the slices are measured again
        if {name: evidence.get(name) for name in (*query, "weight")} == {"weight": None, **query}:
            return digest, _parse_slices(evidence["slices"])
    window = version.details.window
    if not window.holdout:
        raise NotReadyError(f"version {version.number} was judged in another environment, and its holdout is not here")
    holdout = read_window(workspace, window.holdout, schema=version_schema(workspace, version))
    if not len(holdout.rows):
        raise NotReadyError(f"no row of the holdout of version {version.number} has a label")
    label = holdout.rows[workspace.loop.data.label].to_numpy(np.float64)
    predictions = predict(load_version(workspace, version), holdout.features, classifies=workspace.loop.classifies)
    losses = row_losses(metric, label, predictions)
    weight = row_weights(holdout.rows, workspace.loop.train.weight)
    slices = {
        column: {name: [loss.rows, loss.mean, loss.error] for name, loss in by_slice.items()}
        for column, values in columns_of(holdout, columns).items()
        for by_slice, _small in [losses_by_slice(values, losses, declared.min_rows, weight)]
    }
    return workspace.evidence.put({**query, "slices": slices}), _parse_slices(slices)


def _recorded_slice_digests(state: LoopState, version: Version) -> set[str]:
    """Return the digests of the holdout's slices in the records of a version's windows."""
    verdicts = (details for _, details in state.performance.newest_first() if details.champion == version.number)
    return {details.holdout_slices for details in verdicts if details.holdout_slices}


def _parse_slices(slices: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, MeanLoss]]:
    return {
        column: {name: MeanLoss(int(rows), mean, error) for name, (rows, mean, error) in by_slice.items()}
        for column, by_slice in slices.items()
    }


def columns_of(rows: ModelRows, columns: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return those of the named columns that rows or their features have, shape (n_rows,) each."""
    columns_by_name = {}
    for name in columns:
        frame = next((table for table in (rows.rows, rows.features) if name in table.columns), None)
        if frame is not None:
            columns_by_name[name] = values_of(frame[name])
    return columns_by_name
