"""Evaluate candidates on the holdout, beside the champion on the same rows, and pick the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from airflow_mlops.core.errors import DataError, GateError, MlopsError, RegistryError, TrainingError
from airflow_mlops.core.evaluation.declared_evaluation import MetricName
from airflow_mlops.core.evaluation.gates import Holdout, evaluate_gates, passed
from airflow_mlops.core.evaluation.metrics import Floats, metric_value, row_losses
from airflow_mlops.core.evaluation.predict import predict
from airflow_mlops.core.evaluation.roc_auc import roc_auc
from airflow_mlops.core.governance.state import Version
from airflow_mlops.core.loop import Loop
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.training.assemble import TrainingRequest, close_decision
from airflow_mlops.core.training.fit_candidate import candidate_file
from airflow_mlops.core.training.window import ModelRows, read_window
from airflow_mlops.core.workspace import Workspace


def evaluate_candidates(
    workspace: Workspace, request: TrainingRequest, fits: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Judge the candidates on the holdout; return the best one's name, digest, metrics and gates.

    The full report is kept as evidence, under ``report``.

    Raises
    ------
    TrainingError, GateError
        If a candidate's predictions, or the holdout, cannot be judged; the ledger says so.
    """
    try:
        holdout = read_window(workspace, request.window.holdout)
        if holdout.rows.empty:
            raise GateError("no row of the holdout has a label; nothing can be judged on it")
        champion = workspace.state(as_of=request.partition).champion
        judged = [_judged(workspace, request, fit, holdout, champion) for fit in fits]
    except RegistryError:
        raise
    except (TrainingError, GateError, DataError) as error:
        kind = "candidate_refused" if isinstance(error, GateError) else "training_failed"
        close_decision(workspace, kind, request.decision, request.partition, str(error))
        raise
    best = min(judged, key=lambda report: (not report["passed"], report["loss"], report["candidate"]))
    report = workspace.evidence.put(
        {
            "request": request.to_dict(),
            "champion": None if champion is None else champion.number,
            "rows": len(holdout.rows),
            "candidates": judged,
            "best": best["candidate"],
        }
    )
    return {**best, "champion": None if champion is None else champion.number, "report": report}


def _judged(
    workspace: Workspace, request: TrainingRequest, fit: dict[str, Any], holdout: ModelRows,
    champion: Version | None,
) -> dict[str, Any]:  # fmt: skip
    """Return one candidate's metrics and gates, all from the same rows as the champion's."""
    loop = workspace.loop
    features, label = holdout.features, holdout.rows[loop.data.label].to_numpy(float)
    path = workspace.shared(candidate_file(workspace, request.operation, fit["candidate"]))
    ours = predict(load_model(path, fit["digest"]), features, classifies=loop.classifies)
    theirs = None if champion is None else predict(
        load_version(workspace, champion), features, classifies=loop.classifies
    )  # fmt: skip
    columns = {name: _slice_column(holdout.rows, name) for gate in loop.gates for name in gate.slices}
    gates = evaluate_gates(loop.gates, Holdout(label, ours, theirs, columns))
    return {
        **fit,
        "loss": float(row_losses(loop.metric, label, ours).mean()),
        "metrics": metrics_of(loop, label, ours),
        "champion_metrics": None if theirs is None else metrics_of(loop, label, theirs),
        "gates": [gate.to_dict() for gate in gates],
        "passed": passed(gates),
    }


def _slice_column(holdout: pd.DataFrame, name: str) -> Any:
    if name not in holdout.columns:
        raise GateError(f"a gate slices by {name!r}; the data has no such column")
    return holdout[name].to_numpy()


def metrics_of(loop: Loop, label: Floats, predicted: Floats) -> dict[str, float]:
    """Return the metrics that belong to the kind of the label; the AUC only where there are rows of both classes."""
    names: tuple[MetricName, ...] = ("log_loss", "brier", "accuracy") if loop.classifies else ("mae", "rmse")
    found = {str(name): metric_value(name, row_losses(name, label, predicted)) for name in names}
    if loop.classifies and 2 <= label.sum() <= label.size - 2:
        found["roc_auc"] = roc_auc(label, predicted).value
    return found


def require_gates(workspace: Workspace, request: TrainingRequest, evaluated: dict[str, Any]) -> None:
    """Let a candidate go on whose gates all passed.

    Raises
    ------
    GateError
        With the numbers of every gate that failed; the ledger says so and the champion stays.
    """
    failed = [gate["reason"] for gate in evaluated["gates"] if gate["verdict"] == "fail"]
    if evaluated["passed"]:
        return
    reason = "; ".join(failed) or "no gate had enough data to pass"
    error: MlopsError = GateError(f"candidate {evaluated['candidate']!r} does not pass: {reason}")
    close_decision(workspace, "candidate_refused", request.decision, request.partition, str(error))
    raise error
