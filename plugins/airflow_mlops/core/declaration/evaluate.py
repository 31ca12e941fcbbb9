"""The sections ``gates`` and ``evaluate``: conditions on a candidate, and what its evaluation reports."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Declared, Listed, Reference, section
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError

CLASS_METRICS = (
    "accuracy",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier",
    "calibration_error",
)
ROW_CLASS_METRICS = ("log_loss", "brier", "accuracy")
"""Metrics that are the same for two classes and for more."""
SEVERAL_CLASS_METRICS = (
    "balanced_accuracy",
    *(f"{name}_{average}" for name in ("precision", "recall", "f1") for average in ("macro", "micro", "weighted")),
    "roc_auc_ovr",
    "top_2_accuracy",
    "cohen_kappa",
    "expected_calibration_error",
)
"""Further metrics of three classes or more."""
PROBABILITY_METRICS = (
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier",
    "calibration_error",
    "roc_auc_ovr",
    "top_2_accuracy",
    "expected_calibration_error",
)
"""The metrics of classes that need probabilities; the others judge decisions."""
DECISION_METRICS = ("accuracy", "precision", "recall", "f1")
"""The metrics of two classes that judge decisions."""
ROW_NUMBER_METRICS = ("mae", "rmse", "mape", "smape", "rmsle", "mean_poisson_deviance", "mean_gamma_deviance")
NUMBER_METRICS = (*ROW_NUMBER_METRICS, "max_error", "r2", "p50_error", "p90_error", "p99_error")
PERCENT = r"(?:0_[0-9]{0,2}[1-9]|[1-9][0-9]?(?:_[0-9]{0,2}[1-9])?)"
PARAMETERS = {
    "pinball_loss": rf"pinball_loss_p({PERCENT}(?:_p{PERCENT})*)",
    "mean_tweedie_deviance": r"mean_tweedie_deviance_(1_[0-9]{0,2}[1-9])",
}
"""The metrics that carry numbers in their name: the percent of one or several quantiles, or a power from 1 to 2."""
EXAMPLES = ("pinball_loss_p90", "mean_tweedie_deviance_1_5")
"""One metric of each of these kinds."""
QUANTILE_METRICS = ("coverage", "interval_width")
"""Metrics of models that predict several quantiles, beside their mean pinball loss."""
CLASS_FAIRNESS = (
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
)
NUMBER_FAIRNESS = ("group_error_difference", "group_error_ratio", "group_prediction_difference")
FAIRNESS = (*CLASS_FAIRNESS, *NUMBER_FAIRNESS)
PERTURBATIONS = ("noise", "missing_values", "swapped_categories", "out_of_range")
ROBUSTNESS = tuple(f"worse_by_{name}" for name in PERTURBATIONS)
COSTS = ("batch_latency", "row_latency", "model_bytes", "model_memory")
STABILITY = "importance_stability"

CLASSIFICATION_METRICS = frozenset({*CLASS_METRICS, *SEVERAL_CLASS_METRICS, *CLASS_FAIRNESS})
REGRESSION_METRICS = frozenset({*NUMBER_METRICS, *QUANTILE_METRICS, *NUMBER_FAIRNESS})
GATE_METRICS = (
    *CLASS_METRICS,
    *SEVERAL_CLASS_METRICS,
    *NUMBER_METRICS,
    *EXAMPLES,
    *QUANTILE_METRICS,
    *FAIRNESS,
    *ROBUSTNESS,
    *COSTS,
    STABILITY,
)
"""The built-in metrics of a gate; of those with a number in their name, an example."""


def metric_parameter(name: str) -> tuple[str, tuple[float, ...]] | None:
    """Return the kind of a metric and the numbers that its name carries; None for any other metric.

    >>> metric_parameter("pinball_loss_p97_5"), metric_parameter("mean_tweedie_deviance_1_5"), metric_parameter("mae")
    (('pinball_loss', (0.975,)), ('mean_tweedie_deviance', (1.5,)), None)
    """
    for kind, pattern in PARAMETERS.items():
        match = re.fullmatch(pattern, name) if name.startswith(kind) else None
        if match:
            numbers = [float(number.replace("_", ".")) for number in match[1].split("_p")]
            return kind, tuple(round(number / 100, 6) if kind == "pinball_loss" else number for number in numbers)
    return None


METRIC_NAME = r"^[a-z][a-z0-9_]*$"
MetricName = Annotated[
    str,
    Field(
        pattern=METRIC_NAME,
        json_schema_extra={
            "anyOf": [
                {"enum": [*ROW_NUMBER_METRICS, *ROW_CLASS_METRICS]},
                *({"pattern": f"^{pattern.replace('?:', '')}$"} for pattern in PARAMETERS.values()),
                {"pattern": METRIC_NAME},
            ]
        },
    ),
]
"""A metric that is a mean over rows, or its root, so that two models can be compared row by row."""


class OwnMetric(str):
    """The name of a user's metric that is a mean over rows, with the function that gives the number of each row.

    It takes the place of a built-in metric's name wherever models are compared row by row.
    """

    __slots__ = ("better", "function", "unit")
    function: str
    better: Literal["less", "more"]
    unit: str

    def __new__(cls, name: str, function: str = "", better: Literal["less", "more"] = "less", unit: str = "") -> Self:
        """Return the name; ``function`` is ``module:name``."""
        metric = super().__new__(cls, name)
        metric.function, metric.better, metric.unit = function, better, unit
        return metric

    @property
    def sign(self) -> int:
        """The factor from the number of a row to its loss: 1 where less is better, otherwise -1."""
        return 1 if self.better == "less" else -1


def confidence_of_several(confidence: float, tried: int) -> float:
    """Return the confidence that the best of several needs, so that luck passes none of them more often than one.

    This is Bonferroni's correction: the chances of error of all of them add up to that of one.

    >>> round(confidence_of_several(0.8, 4), 2)
    0.95
    """
    return 1 - (1 - confidence) / tried


class Gate(Declared):
    """One condition a candidate must meet on the holdout."""

    metric: str = Field(
        pattern=METRIC_NAME,
        description="a metric, a measure of fairness, robustness, cost or stability, or one named in evaluate.metrics",
        json_schema_extra={"anyOf": [{"enum": list(GATE_METRICS)}, {"pattern": METRIC_NAME}]},
    )
    at_most: float | None = Field(default=None, description="largest value that passes")
    at_least: float | None = Field(default=None, description="smallest value that passes")
    no_worse_than_champion_by: float | None = Field(
        default=None, ge=0, description="allowed relative loss against the champion on the same rows"
    )
    better_than: Literal["dummy", "linear", "champion"] | None = Field(
        default=None, description="the baseline, or the champion, that the candidate must beat on the same rows"
    )
    confidence: float | None = Field(
        default=None,
        ge=0.5,
        lt=1,
        description="one-sided confidence with which the candidate must be better than the champion, or no worse; "
        "without it the values decide",
    )
    group: str | None = Field(default=None, description="column of the groups that a measure of fairness compares")
    slices: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="columns; the gate is judged once for each value of each of them"
    )
    min_rows: int = Field(
        default=100,
        ge=1,
        description="rows below which a slice or a group is reported as too little data, and does not count",
    )

    @model_validator(mode="after")
    def _require_one_limit(self) -> Self:
        limits = [self.at_most, self.at_least, self.no_worse_than_champion_by, self.better_than]
        if sum(limit is not None for limit in limits) != 1:
            raise ValueError("needs exactly one of at_most, at_least, no_worse_than_champion_by, better_than")
        return self

    @property
    def against_champion(self) -> bool:
        """Whether the gate compares the candidate with the champion."""
        return self.no_worse_than_champion_by is not None or self.better_than == "champion"

    def of_several(self, tried: int) -> "Gate":
        """Return the gate for the best of several models that were tried: its confidence counts all of them."""
        if self.confidence is None or tried <= 1:
            return self
        return self.model_copy(update={"confidence": confidence_of_several(self.confidence, tried)})

    @model_validator(mode="after")
    def _require_limit_for_metric(self) -> Self:
        is_absolute = self.at_most is not None or self.at_least is not None
        if self.slices and not is_absolute:
            raise ValueError("slices go with at_most or at_least")
        if self.confidence is not None and not self.against_champion:
            raise ValueError("confidence goes with no_worse_than_champion_by or better_than: champion")
        if self.confidence is not None and self.metric in COSTS:
            raise ValueError(f"confidence goes with metrics of rows, which {self.metric} is not")
        is_of_rows = self.metric not in (*FAIRNESS, *ROBUSTNESS, *COSTS, STABILITY)
        if self.slices and not is_of_rows:
            raise ValueError(f"slices go with metrics of rows, which {self.metric} is not")
        if self.better_than and not is_of_rows:
            raise ValueError(f"better_than goes with metrics of rows, which {self.metric} is not")
        if not is_of_rows and self.metric not in COSTS and not is_absolute:
            raise ValueError(f"{self.metric} goes with at_most or at_least")
        if (self.metric in FAIRNESS) != (self.group is not None):
            raise ValueError("group goes with a measure of fairness, and a measure of fairness needs it")
        return self


class UserMetric(Declared):
    """A user's metric or cost of wrong predictions: a function of labels and predictions."""

    name: str = Field(pattern=METRIC_NAME, description="name of the metric in gates")
    function: Reference = Field(
        description="module:name; called with two float arrays, labels and predictions, and returns a number"
    )
    each_row: bool = Field(
        default=False,
        description="whether the function returns an array with one number for each row, whose mean is the metric; "
        "it can then compare models, in a rollout too, and be watched",
    )
    unit: str = Field(default="", description="of the value, as reports show it")
    better: Literal["less", "more"] = Field(default="less", description="which values are better")

    @model_validator(mode="after")
    def _require_free_name(self) -> Self:
        if self.name in (*GATE_METRICS, "loss", "champion", "candidate") or metric_parameter(self.name):
            raise ValueError(f"{self.name!r} is a metric of its own already; choose another name")
        return self

    @property
    def of_rows(self) -> OwnMetric:
        """The metric as one that is a mean over rows."""
        return OwnMetric(self.name, self.function, self.better, self.unit)


class Robustness(Declared):
    """The robustness test: how strongly rows are perturbed, and the relative loss that still passes."""

    tolerance: float = Field(
        default=0.25, ge=0, description="relative loss on disturbed rows up to which a candidate counts as robust"
    )
    rows: int = Field(default=1000, ge=0, description="rows of the holdout that are disturbed; 0 leaves it out")
    share: float = Field(default=0.1, gt=0, le=1, description="of the cells that are emptied, swapped, out of range")
    noise: float = Field(default=0.1, gt=0, description="standard deviations of a number that its noise has")


class Evaluate(Declared):
    """The evaluation of every candidate, with or without a gate on it."""

    metrics: Annotated[tuple[UserMetric, ...], Listed] = Field(
        default=(), description="metrics of your own and business costs, by dotted name"
    )
    slices: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="columns; metrics are given for each value of each of them"
    )
    groups: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="columns of people or places that the model must treat alike; fairness is measured"
    )
    min_rows: int = Field(default=100, ge=1, description="rows below which a slice or group is too little data")
    robustness: Robustness = section("how much worse a candidate may become on disturbed rows")
    shap: bool = Field(default=False, description="whether SHAP values are computed too; costs seconds")

    @model_validator(mode="after")
    def _require_unique_names(self) -> Self:
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names):
            raise ValueError(f"two metrics have the same name; there are {', '.join(names)}")
        return self

    def metric_names(self) -> list[str]:
        """Return the names that a gate accepts as its metric."""
        return [*GATE_METRICS, *(metric.name for metric in self.metrics)]

    def own_metric(self, name: str) -> OwnMetric | None:
        """Return the user's metric of rows of a name; None if there is none."""
        return next((metric.of_rows for metric in self.metrics if metric.name == name and metric.each_row), None)

    def require_row_metric(self, name: str, *, key: str) -> None:
        """Raise DeclarationError unless a metric can compare two models row by row.

        Raises
        ------
        DeclarationError
            At ``key``, with the nearest metric, or what to change in the user's own.
        """
        own = next((metric for metric in self.metrics if metric.name == name), None)
        if own is not None and not own.each_row:
            raise DeclarationError(
                f"{name} gives one number for all rows, and here models are compared row by row; let {own.function} "
                "return one number for each row, and declare each_row: true",
                key=key,
            )
        names = [*row_metrics("number"), *EXAMPLES, *row_metrics("class"), *(each.name for each in self.metrics)]
        if name not in names and metric_parameter(name) is None:
            hint = suggest_name(name, names, kind="metrics")
            raise DeclarationError(f"no such metric of single rows; {hint} (value {name!r})", key=key)


def label_kind(names: set[str]) -> Literal["class", "number"] | None:
    """Return the kind of label that the named metrics need; None if none of them needs one, or they disagree.

    >>> label_kind({"roc_auc", "worse_by_noise"}), label_kind({"mae", "r2"}), label_kind({"model_bytes"})
    ('class', 'number', None)
    """
    classes, numbers = bool(names & CLASSIFICATION_METRICS), any(map(is_of_numbers, names))
    return None if classes == numbers else "class" if classes else "number"


def is_of_numbers(name: str) -> bool:
    """Return whether a metric is one of numbers."""
    return name in REGRESSION_METRICS or metric_parameter(name) is not None


def row_metrics(label: Literal["class", "number"]) -> tuple[MetricName, ...]:
    """Return the metrics without a number in their name that are means over rows, the default first."""
    return ROW_CLASS_METRICS if label == "class" else ROW_NUMBER_METRICS
