"""Judge one candidate: measure its metrics, slices, fairness, robustness, cost and importance, and apply the gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlops.core.declaration.evaluate import DECISION_METRICS, PERTURBATIONS, PROBABILITY_METRICS
from airflow_mlops.core.evaluation.compare_models import MetricReport, compare_metric, defined_values
from airflow_mlops.core.evaluation.error_analysis import confusion, residuals
from airflow_mlops.core.evaluation.evaluation_context import EvaluationContext, JudgedModel
from airflow_mlops.core.evaluation.feature_importance import (
    SHUFFLED_ROWS,
    SHUFFLES,
    Stability,
    importance_stability,
)
from airflow_mlops.core.evaluation.gates import Holdout, evaluate_gates, gates_pass
from airflow_mlops.core.evaluation.group_fairness import measure_fairness
from airflow_mlops.core.evaluation.known_metrics import METRICS, Metric
from airflow_mlops.core.evaluation.measurement_gates import CandidateMeasurements
from airflow_mlops.core.evaluation.metrics_by_slice import merge_slices, report_slices
from airflow_mlops.core.evaluation.perturbations import RobustnessReport, measure_robustness
from airflow_mlops.core.evaluation.prediction_cost import PredictionCost, describe_method, measure_costs
from airflow_mlops.core.evaluation.several_classes import confusion_matrix
from airflow_mlops.core.ports.spans import span
from airflow_mlops.core.training.decision_threshold import threshold_of
from airflow_mlops.core.training.predict import gives_decisions
from airflow_mlops.core.training.row_losses import Floats, middle, weighted_loss


@span("judge")
def judge_candidate(context: EvaluationContext, candidate: JudgedModel, *, recalled: bool = False) -> dict[str, Any]:
    """Return the report of a candidate, as in :class:`CandidateEntry`.

    Parameters
    ----------
    recalled : bool
        Whether it is an earlier champion, which is held to :attr:`Loop.gates_of_recall`.

    Raises
    ------
    GateError
        If there are no rows, or a label or a prediction is NaN or infinite.
    """
    loop, label, predicted = context.loop, context.label, candidate.predictions
    holdout = build_holdout(context, candidate)
    reports = {name: compare_metric(holdout.on_rows(name)) for name in judged_metrics(context, candidate)}
    costs = measure_costs_of(context, candidate)
    robustness = measure_robustness_of(context, candidate)
    importance = context.importance(candidate.predict, candidate.features)
    stability = measure_stability(context, importance)
    has_champion = context.champion_number is not None
    measurements = CandidateMeasurements(robustness, costs, stability, has_champion, int(label.size))
    in_force = loop.gates_of_recall if recalled else loop.gates_in_force(compared=holdout.champion is not None)
    gates = evaluate_gates(in_force, holdout, measurements)
    return {
        "loss": weighted_loss(loop.metric, label, predicted, context.weight),
        "metrics": _defined_values(reports),
        "champion_metrics": None if context.champion is None else champion_metrics(context, context.champion),
        "gates": [gate.to_dict() for gate in gates],
        "passed": gates_pass(gates),
        "metric_reports": {name: report.to_dict() for name, report in reports.items()},
        "confusion": _confusion(context, candidate),
        "residuals": None if loop.classifies else residuals(label, middle(predicted)),
        "slices": report_all_slices(context, candidate),
        "fairness": report_fairness(context, candidate),
        "robustness": {name: report.to_dict() for name, report in robustness.items()},
        "cost": {name: cost.to_dict() for name, cost in costs.items()} | {"how": describe_method(int(label.size))},
        "importance": report_importance(context, importance, stability),
        "shap": report_shap(context, candidate),
    }


def judged_metrics(context: EvaluationContext, candidate: JudgedModel) -> dict[str, Metric]:
    """Return the metrics of a candidate; one of probabilities says nothing of decisions, and is left out for them."""
    decides = candidate.classifies and gives_decisions(candidate.model)
    return {name: metric for name, metric in context.metrics.items() if not (decides and name in PROBABILITY_METRICS)}


def build_holdout(context: EvaluationContext, candidate: JudgedModel) -> Holdout:
    """Return the rows on which the gates judge a candidate."""
    models = {"candidate": candidate} | ({} if context.champion is None else {"champion": context.champion})
    return Holdout(
        context.label,
        candidate.predictions,
        None if context.champion is None else context.champion.predictions,
        context.columns,
        context.baselines.predictions,
        {name: metric for name, metric in context.metrics.items() if name not in METRICS},
        context.champion_failed,
        context.baselines.reasons,
        context.expected_groups,
        context.request.seed,
        context.weight,
        context.loop.several_class_names,
        {name: model.decisions for name, model in models.items()},
    )


def champion_metrics(context: EvaluationContext, champion: JudgedModel) -> dict[str, float]:
    """Return the metrics of the champion that are defined on the holdout."""
    return {
        name: value
        for metrics, (predicted,) in _by_predictions(context.metrics, champion)
        for name, value in defined_values(metrics, context.label, predicted, context.weight).items()
    }


def _by_predictions(
    metrics: Mapping[str, Metric], *models: JudgedModel
) -> list[tuple[dict[str, Metric], list[Floats]]]:
    """Return metrics with what they judge of each model: decisions apart from predictions where one has a threshold."""
    if all(model.decisions is model.predictions for model in models):
        return [({**metrics}, [model.predictions for model in models])]
    return [
        (
            {name: metric for name, metric in metrics.items() if (name in DECISION_METRICS) is decides},
            [model.decisions if decides else model.predictions for model in models],
        )
        for decides in (False, True)
    ]


def _confusion(context: EvaluationContext, candidate: JudgedModel) -> dict[str, Any] | None:
    predicted = candidate.predictions
    if not context.loop.classifies:
        return None
    if context.loop.several_classes:
        return confusion_matrix(context.label, predicted, context.loop.class_names or ())
    counts: dict[str, Any] = dict(confusion(context.label, candidate.decisions))
    threshold = threshold_of(candidate.model)
    return counts if threshold is None else {**counts, "threshold": threshold}


def _defined_values(reports: dict[str, MetricReport]) -> dict[str, float]:
    return {name: report.value for name, report in reports.items() if report.value is not None}


def report_all_slices(context: EvaluationContext, candidate: JudgedModel) -> dict[str, Any]:
    """Return the metrics of each declared slice: those that follow from sums, and those of gates with slices.

    The other metrics would cost a sort for each slice.
    """
    evaluate = context.loop.evaluate
    names = dict.fromkeys([*evaluate.slices, *(name for gate in context.loop.gates for name in gate.slices)])
    gated = {gate.metric for gate in context.loop.gates if gate.slices}
    judged = judged_metrics(context, candidate)
    metrics = {name: metric for name, metric in judged.items() if metric.terms is not None or name in gated}
    champion = candidate if context.champion is None else context.champion
    columns = {name: context.columns[name] for name in names}
    reports = [
        report_slices(
            part,
            context.label,
            (predicted, None if context.champion is None else by_champion),
            columns,
            min_rows=evaluate.min_rows,
            weight=context.weight,
        )
        for part, (predicted, by_champion) in _by_predictions(metrics, candidate, champion)
    ]
    return merge_slices(*reports)


def report_fairness(context: EvaluationContext, candidate: JudgedModel) -> dict[str, Any]:
    """Return the fairness measures of each column by which the declaration or a gate groups."""
    loop = context.loop
    return {
        column: {
            measure: report.to_dict()
            for measure, report in measure_fairness(
                context.label,
                candidate.decisions,
                context.columns[column],
                column,
                classifies=loop.classifies,
                min_rows=loop.evaluate.min_rows,
                expected=expected,
                seed=context.request.seed,
                classes=loop.several_class_names,
            ).items()
        }
        for column, expected in context.expected_groups.items()
    }


def measure_robustness_of(context: EvaluationContext, candidate: JudgedModel) -> dict[str, RobustnessReport]:
    """Return the effect of each perturbation of the holdout on a candidate."""
    loop = context.loop
    reports = measure_robustness(
        candidate.predict,
        candidate.features,
        context.label,
        loop.metric,
        loop.evaluate.robustness,
        seed=context.request.seed,
    )
    assert set(reports) in ({*PERTURBATIONS}, set())
    return reports


def measure_costs_of(context: EvaluationContext, candidate: JudgedModel) -> dict[str, PredictionCost]:
    """Return the costs of candidate and champion, measured in turns."""
    models = {"candidate": candidate} | ({} if context.champion is None else {"champion": context.champion})
    return measure_costs(
        {name: model.predict for name, model in models.items()},
        {name: model.model for name, model in models.items()},
        {name: model.size for name, model in models.items()},
        candidate.features if context.champion is None else context.champion.features,
    )


def measure_stability(context: EvaluationContext, importance: dict[str, float] | None) -> Stability | None:
    """Return the agreement of the feature rankings of both models; None without a champion that predicts."""
    champion_importance = context.champion_importance
    if champion_importance is None:
        return None
    if importance is None:
        return Stability(None, 0, "the candidate cannot predict shuffled rows")
    return importance_stability(importance, champion_importance)


def report_importance(
    context: EvaluationContext, importance: dict[str, float] | None, stability: Stability | None
) -> dict[str, Any]:
    """Return the report of the permutation importance of both models."""
    return {
        "permutation": importance,
        "champion": context.champion_importance,
        "unit": f"rise of the mean loss of a row ({context.loop.metric})",
        "rows": min(SHUFFLED_ROWS, int(context.label.size)),
        "shuffles": SHUFFLES,
        "stability": None if stability is None else stability.to_dict(),
    }


def report_shap(context: EvaluationContext, candidate: JudgedModel) -> dict[str, Any] | None:
    """Return the mean absolute SHAP values; None if they are not declared."""
    if not context.loop.evaluate.shap:
        return None
    from airflow_mlops.core.evaluation.shap_values import mean_absolute_shap

    return mean_absolute_shap(
        candidate.model,
        candidate.predict,
        candidate.features,
        seed=context.request.seed,
        classes=context.loop.several_class_names,
    )
