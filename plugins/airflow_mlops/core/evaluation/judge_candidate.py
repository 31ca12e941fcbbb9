"""Judge one candidate: its metrics, slices, fairness, robustness, cost and importance, and then the gates."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.declaration.evaluate import PERTURBATIONS
from airflow_mlops.core.evaluation.compare_models import MetricReport, compare_metric, values_of
from airflow_mlops.core.evaluation.error_analysis import confusion, residuals
from airflow_mlops.core.evaluation.evaluation_context import CommonGround, JudgedModel
from airflow_mlops.core.evaluation.feature_importance import (
    SHUFFLED_ROWS,
    SHUFFLES,
    Stability,
    importance_stability,
)
from airflow_mlops.core.evaluation.finding_gates import Findings
from airflow_mlops.core.evaluation.gates import Holdout, evaluate_gates, passed
from airflow_mlops.core.evaluation.group_fairness import group_fairness
from airflow_mlops.core.evaluation.known_metrics import METRICS
from airflow_mlops.core.evaluation.metrics_by_slice import slice_reports
from airflow_mlops.core.evaluation.perturbations import RobustnessReport, judge_robustness
from airflow_mlops.core.evaluation.prediction_cost import PredictionCost, how_measured, measure_costs
from airflow_mlops.core.training.row_losses import row_losses


def judge_candidate(ground: CommonGround, candidate: JudgedModel) -> dict[str, Any]:
    """Return everything that is found out about a candidate, as in :class:`CandidateEntry`.

    Raises
    ------
    GateError
        If the rows cannot be judged at all.
    """
    loop, label, predicted = ground.loop, ground.label, candidate.predictions
    holdout = holdout_of(ground, candidate)
    measured = {name: compare_metric(holdout.on_rows(name)) for name in ground.metrics}
    costs = costs_of(ground, candidate)
    robustness = robustness_of(ground, candidate)
    importance = ground.importance(candidate.predict)
    stability = stability_of(ground, importance)
    findings = Findings(robustness, costs, stability, ground.champion_number is not None, int(label.size))
    gates = evaluate_gates(loop.gates, holdout, findings)
    theirs = None if ground.champion is None else ground.champion.predictions
    return {
        "loss": float(row_losses(loop.metric, label, predicted).mean()),
        "metrics": _known(measured),
        "champion_metrics": None if theirs is None else values_of(ground.metrics, label, theirs),
        "gates": [gate.to_dict() for gate in gates],
        "passed": passed(gates),
        "metric_reports": {name: report.to_dict() for name, report in measured.items()},
        "confusion": confusion(label, predicted) if loop.classifies else None,
        "residuals": None if loop.classifies else residuals(label, predicted),
        "slices": slices_of(ground, candidate),
        "fairness": fairness_of(ground, candidate),
        "robustness": {name: report.to_dict() for name, report in robustness.items()},
        "cost": {name: cost.to_dict() for name, cost in costs.items()} | {"how": how_measured(int(label.size))},
        "importance": importance_report(ground, importance, stability),
        "shap": shap_of(ground, candidate),
    }  # fmt: skip


def holdout_of(ground: CommonGround, candidate: JudgedModel) -> Holdout:
    """Return the rows that the gates judge a candidate on."""
    return Holdout(
        ground.label, candidate.predictions, None if ground.champion is None else ground.champion.predictions,
        ground.columns, ground.baselines.predictions,
        {name: metric for name, metric in ground.metrics.items() if name not in METRICS}, ground.champion_failed,
        ground.baselines.reasons, ground.expected_groups, ground.request.seed,
    )  # fmt: skip


def _known(measured: dict[str, MetricReport]) -> dict[str, float]:
    return {name: report.value for name, report in measured.items() if report.value is not None}


def slices_of(ground: CommonGround, candidate: JudgedModel) -> dict[str, Any]:
    """Return the metrics of every declared slice: those that follow from sums, and those that a gate slices.

    The others would cost a sort for every slice.
    """
    evaluate = ground.loop.evaluate
    names = dict.fromkeys([*evaluate.slices, *(name for gate in ground.loop.gates for name in gate.slices)])
    gated = {gate.metric for gate in ground.loop.gates if gate.slices}
    shown = {name: metric for name, metric in ground.metrics.items() if metric.terms is not None or name in gated}
    champion = None if ground.champion is None else ground.champion.predictions
    columns = {name: ground.columns[name] for name in names}
    return slice_reports(shown, ground.label, (candidate.predictions, champion), columns, min_rows=evaluate.min_rows)


def fairness_of(ground: CommonGround, candidate: JudgedModel) -> dict[str, Any]:
    """Return every measure of fairness by column, of those that the declaration or a gate groups by."""
    loop = ground.loop
    return {
        column: {
            measure: report.to_dict()
            for measure, report in group_fairness(
                ground.label, candidate.predictions, ground.columns[column], column, classifies=loop.classifies,
                min_rows=loop.evaluate.min_rows, expected=expected, seed=ground.request.seed,
            ).items()
        }
        for column, expected in ground.expected_groups.items()
    }  # fmt: skip


def robustness_of(ground: CommonGround, candidate: JudgedModel) -> dict[str, RobustnessReport]:
    """Return what each disturbance of the holdout does to a candidate."""
    loop = ground.loop
    found = judge_robustness(
        candidate.predict, ground.holdout.features, ground.label, loop.metric, loop.evaluate.robustness,
        seed=ground.request.seed,
    )  # fmt: skip
    assert set(found) in ({*PERTURBATIONS}, set())
    return found


def costs_of(ground: CommonGround, candidate: JudgedModel) -> dict[str, PredictionCost]:
    """Return what candidate and champion cost, measured in turns."""
    models = {"candidate": candidate} | ({} if ground.champion is None else {"champion": ground.champion})
    return measure_costs(
        {name: model.predict for name, model in models.items()}, {name: model.model for name, model in models.items()},
        {name: model.size for name, model in models.items()}, ground.holdout.features,
    )  # fmt: skip


def stability_of(ground: CommonGround, importance: dict[str, float] | None) -> Stability | None:
    """Return how alike candidate and champion rank the features; None without a champion that predicts."""
    theirs = ground.champion_importance
    if theirs is None:
        return None
    if importance is None:
        return Stability(None, 0, "the candidate cannot predict shuffled rows")
    return importance_stability(importance, theirs)


def importance_report(
    ground: CommonGround, importance: dict[str, float] | None, stability: Stability | None
) -> dict[str, Any]:
    """Return what a report says of what the models lean on."""
    return {
        "permutation": importance, "champion": ground.champion_importance,
        "unit": f"rise of the mean loss of a row ({ground.loop.metric})",
        "rows": min(SHUFFLED_ROWS, int(ground.label.size)), "shuffles": SHUFFLES,
        "stability": None if stability is None else stability.to_dict(),
    }  # fmt: skip


def shap_of(ground: CommonGround, candidate: JudgedModel) -> dict[str, Any] | None:
    """Return mean absolute SHAP values where they are declared."""
    if not ground.loop.evaluate.shap:
        return None
    from airflow_mlops.core.evaluation.shap_values import mean_absolute_shap

    return mean_absolute_shap(
        candidate.model, candidate.predict, ground.holdout.features, seed=ground.request.seed
    )  # fmt: skip
