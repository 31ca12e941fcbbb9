"""Evaluate candidates on the holdout, beside the champion on the same rows, and pick the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from airflow_mlops.core.errors import DataError, GateError, MlopsError, RegistryError, TrainingError
from airflow_mlops.core.evaluation.evaluation_context import CommonGround, JudgedModel, lay_ground
from airflow_mlops.core.evaluation.evaluation_report import REPORT_FORMAT
from airflow_mlops.core.evaluation.holdout_looks import count_looks
from airflow_mlops.core.evaluation.judge_candidate import judge_candidate
from airflow_mlops.core.ledger.training_details import CandidateRefused, TrainingFailed
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.training.assemble import TrainingRequest, close_decision
from airflow_mlops.core.training.fit_candidate import candidate_file
from airflow_mlops.core.workspace import Workspace

RETURNED = ("loss", "metrics", "champion_metrics", "gates", "passed")


def evaluate_candidates(
    workspace: Workspace, request: TrainingRequest, fits: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Judge the candidates on the holdout; return the best one's name, digest, metrics and gates.

    The full report, an :class:`EvaluationReport`, is kept as evidence under ``report``. A candidate that cannot
    predict is refused by itself; the others are judged.

    Raises
    ------
    TrainingError, GateError
        If the holdout, or any candidate, cannot be judged; the ledger says so.
    """
    try:
        # One thread: a machine is shared by many tasks, and a thread that waits for its turn is CPU time for nothing.
        with threadpool_limits(1):
            ground = lay_ground(workspace, request, window_rows=fits[0].get("rows"))
            entries, failures = _judge_all(workspace, ground, fits)
        if len(failures) == len(entries):
            raise failures[0]
    except RegistryError:
        raise
    except (TrainingError, GateError, DataError) as error:
        kind = CandidateRefused if isinstance(error, GateError) else TrainingFailed
        close_decision(workspace, kind(decision=request.decision, reason=str(error)), request.partition)
        raise
    judged = [entry for entry in entries if "loss" in entry]
    best = min(judged, key=lambda entry: (not entry["passed"], entry["loss"], entry["candidate"]))
    report = workspace.evidence.put(_report(workspace, ground, entries, str(best["candidate"])))
    fit = next(fit for fit in fits if fit["candidate"] == best["candidate"])
    returned = {name: best[name] for name in RETURNED}
    return {**fit, **returned, "champion": ground.champion_number, "report": report}


def _judge_all(
    workspace: Workspace, ground: CommonGround, fits: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[TrainingError]]:
    """Return the entry of each candidate, and the errors of those that cannot predict."""
    entries: list[dict[str, Any]] = []
    failures: list[TrainingError] = []
    for fit in fits:
        path = workspace.shared(candidate_file(workspace, ground.request.operation, fit["candidate"]))
        model = load_model(path, fit["digest"])
        try:
            candidate = JudgedModel.of(
                model, ground.holdout, size=path.stat().st_size, classifies=workspace.loop.classifies
            )
        except TrainingError as error:
            failures.append(TrainingError(f"candidate {fit['candidate']!r}: {error}"))
            entries.append({**fit, "passed": False, "gates": [], "error": str(error)})
            continue
        entries.append({**fit, **judge_candidate(ground, candidate)})
    return entries, failures


def _report(workspace: Workspace, ground: CommonGround, entries: list[dict[str, Any]], best: str) -> dict[str, Any]:
    request = ground.request
    return {
        "format": REPORT_FORMAT,
        "request": request.to_dict(),
        "holdout": {"pins": [pin.to_dict() for pin in request.window.holdout], "rows": int(ground.label.size)},
        "champion": ground.champion_number,
        "first_run": ground.champion_number is None,
        "champion_failed": ground.champion_failed,
        "rows": int(ground.label.size),
        "metric": ground.loop.metric,
        "baselines": ground.baselines.to_dict(),
        "looks": count_looks(workspace.ledger, request, workspace.evidence).to_dict(),
        "candidates": entries,
        "best": best,
    }


def require_gates(workspace: Workspace, request: TrainingRequest, evaluated: dict[str, Any]) -> None:
    """Let a candidate go on whose gates all passed, by a report that is about this request and its holdout.

    Raises
    ------
    GateError
        With the numbers of every gate that failed; the ledger says so and the champion stays.
    """
    report = workspace.evidence.get(str(evaluated["report"]))
    stale = stale_evidence(report, request, evaluated)
    failed = [gate["reason"] for gate in evaluated["gates"] if gate["verdict"] == "fail"]
    if evaluated["passed"] and stale is None:
        return
    reason = stale or "; ".join(failed) or "no gate had enough data to pass"
    error: MlopsError = GateError(f"candidate {evaluated['candidate']!r} does not pass: {reason}")
    workspace.record_fact(
        workspace.draft(
            CandidateRefused(decision=request.decision, reason=str(error), report=evaluated["report"]),
            f"candidate_refused:{request.decision}",
            request.partition,
            evidence=(str(evaluated["report"]),),
        )
    )
    raise error


def stale_evidence(report: dict[str, Any], request: TrainingRequest, evaluated: dict[str, Any]) -> str | None:
    """Return in words why a report is no evidence for this candidate of this request; None where it is."""
    pins = [pin.to_dict() for pin in request.window.holdout]
    found = report.get("holdout", {}).get("pins")
    if found != pins:
        had = ", ".join(f"{pin['partition']} ({pin['digest'][:12]})" for pin in found or []) or "none"
        wanted = ", ".join(f"{pin.partition} ({pin.digest[:12]})" for pin in request.window.holdout)
        return f"the evidence is stale: it is about the holdout {had}, and the request has {wanted}"
    if report["request"]["operation"] != request.operation:
        return f"the evidence is stale: it is about the request {report['request']['operation']}"
    entry = next((one for one in report["candidates"] if one["candidate"] == evaluated["candidate"]), None)
    if entry is None or entry["digest"] != evaluated["digest"]:
        return f"the evidence is stale: it is about another model file than {str(evaluated['digest'])[:12]}"
    if entry["gates"] != evaluated["gates"] or entry["passed"] != evaluated["passed"]:
        return "the evidence is stale: its gates say something else than what was handed over"
    return None
