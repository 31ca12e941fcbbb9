"""Evaluate candidates and the champion on the same holdout, and choose the best candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.windowed_candidate import window_of
from airflow_mlops.core.errors import DataError, GateError, MlopsError, RegistryError, TrainingError
from airflow_mlops.core.evaluation.evaluation_context import EvaluationContext, JudgedModel, build_context, holdout_of
from airflow_mlops.core.evaluation.evaluation_report import REPORT_FORMAT, fits_of
from airflow_mlops.core.evaluation.holdout_looks import count_looks
from airflow_mlops.core.evaluation.judge_candidate import judge_candidate
from airflow_mlops.core.evaluation.recall_versions import EarlierChampions, try_earlier_champions
from airflow_mlops.core.evaluation.track_training import track_training
from airflow_mlops.core.ledger.training_details import CandidateRefused, TrainingFailed
from airflow_mlops.core.registry.model_file import UnreadableModelError
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.training.assemble import TrainingRequest, close_decision
from airflow_mlops.core.training.code_state import setup_digest
from airflow_mlops.core.training.fit_candidate import candidate_file
from airflow_mlops.core.training.inspect_candidates import describe_left_out
from airflow_mlops.core.training.row_losses import DomainError, relative_loss
from airflow_mlops.core.workspace import Workspace

RETURNED = ("loss", "metrics", "champion_metrics", "gates", "passed")


def evaluate_candidates(
    workspace: Workspace, request: TrainingRequest, fits: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Judge the candidates on the holdout; return name, digest, metrics and gates of the best.

    Earlier champions are candidates too; where one of them is the best, ``recalled`` has its number.

    The full report, an :class:`EvaluationReport`, is stored as evidence under ``report``. A candidate that was refused
    before its fit, could not be fitted or kept, or cannot predict is left out: the report and ``left_out`` have the
    reason. The others are judged.

    Raises
    ------
    TrainingError, GateError
        If the holdout, or every candidate, cannot be judged; the failure is recorded.
    """
    fitted = [fit for fit in fits if "error" not in fit]
    left_out = reasons_of_missing(request, fits)
    rows_of_fits = [int(fit["rows"]) for fit in fitted if fit.get("rows") is not None]
    try:
        if not fitted:
            raise TrainingError("; ".join(describe_left_out(left_out)))
        # One thread: many tasks share a machine, and threads that spin while they wait only burn CPU time.
        with threadpool_limits(1):
            context = build_context(workspace, request, window_rows=max(rows_of_fits, default=None))
            entries, failures, models = _judge_all(workspace, context, fitted)
            left_out |= failures
            if len(failures) == len(entries):
                raise TrainingError("; ".join(describe_left_out(left_out)))
            best = best_of(entries)
            below = best["loss"] if best["passed"] else float("inf")
            earlier = try_earlier_champions(workspace, context, below=below)
    except RegistryError:
        raise
    except (TrainingError, GateError, DataError) as error:
        kind = CandidateRefused if isinstance(error, GateError) else TrainingFailed
        close_decision(workspace, kind(decision=request.decision, reason=str(error)), request.partition)
        raise
    left_out |= earlier.left_out
    if earlier.entry is not None and earlier.model is not None:
        entries.append(earlier.entry)
        models[earlier.entry["candidate"]] = earlier.model
        best = earlier.entry if earlier.chosen else best
    missing = [_entry_left_out({"candidate": name}, left_out[name]) for name in sorted(set(left_out) - set(failures))]
    document = report_document(workspace, context, [*entries, *missing], str(best["candidate"]), earlier)
    report = workspace.evidence.put(document)
    run = track_training(workspace, context, document, models)
    return {
        **_chosen_fields(best, fits),
        **{name: best[name] for name in RETURNED},
        "champion": context.champion_number,
        "report": report,
        "training_seconds": round(sum(float(each.get("fit_seconds") or 0.0) for each in fits), 3),
        **({"left_out": left_out} if left_out else {}),
        **({"run": run} if run else {}),
    }


def best_of(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the entry of the judged candidate with the least loss, of those that pass; of all where none does."""
    judged = [entry for entry in entries if "loss" in entry]
    return min(judged, key=lambda entry: (not entry["passed"], entry["loss"], entry["candidate"]))


def _chosen_fields(best: dict[str, Any], fits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of the best fit as it was handed over; of an earlier champion its number and its request."""
    if "recalled" not in best:
        return next(fit for fit in fits if fit["candidate"] == best["candidate"])
    own = {name: best[name] for name in ("candidate", "digest", "fit_seconds", "rows", "recalled")}
    return {**own, **{name: value for name, value in fits[0].items() if name == "request"}}


def reasons_of_missing(request: TrainingRequest, fits: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the reasons why candidates have no model, by name: those refused before the fit, and failed fits."""
    failed = {str(fit["candidate"]): str(fit["error"]) for fit in fits if "error" in fit}
    return {**(request.refused or {}), **failed}


def _judge_all(
    workspace: Workspace, context: EvaluationContext, fits: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, JudgedModel]]:
    """Return the entry of each candidate, the reasons of those that have no place, and the judged models, by name."""
    entries: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    models: dict[str, JudgedModel] = {}
    for fit in fits:
        path = workspace.shared(candidate_file(workspace, context.request.operation, fit["candidate"]))
        subject = f"candidate {fit['candidate']!r}"
        try:
            model = load_own_model(workspace, path, fit["digest"], context.request.own_code, subject)
        except UnreadableModelError as error:
            failures[str(fit["candidate"])] = failure_of(str(fit["candidate"]), error)
            entries.append(_entry_left_out(fit, str(error)))
            continue
        try:
            candidate = JudgedModel.of(
                model,
                holdout_of(workspace, context, fit["candidate"]),
                size=path.stat().st_size,
                classifies=workspace.loop.classifies,
            )
            entries.append({**fit, **judge_candidate(context, candidate)})
            models[str(fit["candidate"])] = candidate
        except (TrainingError, DomainError) as error:
            failures[str(fit["candidate"])] = failure_of(str(fit["candidate"]), error)
            entries.append(_entry_left_out(fit, str(error)))
    return entries, failures, models


def failure_of(candidate: str, error: Exception) -> str:
    """Return the reason why a fitted candidate cannot be judged."""
    return f"candidate {candidate!r}: {error}"


def _entry_left_out(fit: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return the report of a candidate that could not be judged."""
    return {**fit, "passed": False, "gates": [], "error": reason}


def report_document(
    workspace: Workspace,
    context: EvaluationContext,
    entries: list[dict[str, Any]],
    best: str,
    earlier: EarlierChampions = EarlierChampions(),  # noqa: B008 -- frozen
) -> dict[str, Any]:
    """Return the :class:`EvaluationReport` of a training; ``entries`` are those of its candidates.

    Parameters
    ----------
    earlier : EarlierChampions, optional
        The earlier champions that were tried; none by default.
    """
    request = context.request
    return {
        "format": REPORT_FORMAT,
        "request": request.to_dict(),
        "holdout": {"pins": [pin.to_dict() for pin in request.window.holdout], "rows": int(context.label.size)},
        "champion": context.champion_number,
        "first_run": context.champion_number is None,
        "champion_failed": context.champion_failed,
        "rows": int(context.label.size),
        "metric": context.loop.metric,
        "baselines": context.baselines.to_dict(),
        "looks": count_looks(workspace.ledger, request, workspace.evidence).to_dict(),
        "candidates": entries,
        "recall": {"losses": earlier.losses, "chosen": earlier.chosen},
        "best": best,
    }


def require_gates(workspace: Workspace, request: TrainingRequest, evaluated: dict[str, Any]) -> None:
    """Raise GateError unless all gates passed in a report about this request and its holdout.

    Raises
    ------
    GateError
        If a gate failed or the report is stale; the refusal is recorded, and the champion stays.
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
            CandidateRefused(
                decision=request.decision,
                reason=str(error),
                report=evaluated["report"],
                left_out=evaluated.get("left_out"),
                training_seconds=evaluated.get("training_seconds"),
                loss_change=loss_change(workspace.loop.metric, evaluated),
                setup=setup_digest(workspace),
                by_window=loss_changes(workspace.loop.metric, report) if request.windows else None,
            ),
            f"candidate_refused:{request.decision}",
            request.partition,
            evidence=(str(evaluated["report"]),),
        )
    )
    raise error


def loss_change(metric: MetricName, evaluated: dict[str, Any]) -> float | None:
    """Return the candidate's loss less the champion's, as a share of that; None where they were not compared."""
    candidate, champion = evaluated["metrics"].get(metric), (evaluated["champion_metrics"] or {}).get(metric)
    return None if candidate is None or champion is None else relative_loss(metric, candidate, champion)


def loss_changes(metric: MetricName, report: dict[str, Any]) -> dict[str, float] | None:
    """Return :func:`loss_change` of the best candidate of each window in a report, by the name of the window."""
    changes: dict[str, float] = {}
    judged = [entry for entry in fits_of(report) if "loss" in entry]
    for entry in sorted(judged, key=lambda entry: (entry["loss"], entry["candidate"])):
        change = loss_change(metric, entry)
        if change is not None:
            changes.setdefault(str(window_of(entry["candidate"])), change)
    return changes or None


def stale_evidence(report: dict[str, Any], request: TrainingRequest, evaluated: dict[str, Any]) -> str | None:
    """Return the reason why a report is no evidence for this candidate and request; None if it is."""
    pins = [pin.to_dict() for pin in request.window.holdout]
    reported = report.get("holdout", {}).get("pins")
    if reported != pins:
        reported_words = ", ".join(f"{pin['partition']} ({pin['digest'][:12]})" for pin in reported or []) or "none"
        requested_words = ", ".join(f"{pin.partition} ({pin.digest[:12]})" for pin in request.window.holdout)
        return f"the evidence is stale: it is about the holdout {reported_words}, and the request has {requested_words}"
    if report["request"]["operation"] != request.operation:
        return f"the evidence is stale: it is about the request {report['request']['operation']}"
    entry = next(
        (candidate for candidate in report["candidates"] if candidate["candidate"] == evaluated["candidate"]), None
    )
    if entry is None or entry.get("digest") != evaluated["digest"]:
        return f"the evidence is stale: it is about another model file than {str(evaluated['digest'])[:12]}"
    if entry["gates"] != evaluated["gates"] or entry["passed"] != evaluated["passed"]:
        return "the evidence is stale: its gates say something else than what was handed over"
    return None
