"""What a user declares about evaluation: the gates, and what else is found out about a candidate."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Declared, Listed, Reference, section

MetricName = Literal["mae", "rmse", "log_loss", "brier", "accuracy"]
"""The metrics that are means over rows: two models can be compared by them row by row."""

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
NUMBER_METRICS = ("mae", "rmse", "r2", "p50_error", "p90_error", "p99_error")
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

CLASSIFICATION_METRICS = frozenset({*CLASS_METRICS, *CLASS_FAIRNESS})
REGRESSION_METRICS = frozenset({*NUMBER_METRICS, *NUMBER_FAIRNESS})
GATE_METRICS = (*CLASS_METRICS, *NUMBER_METRICS, *FAIRNESS, *ROBUSTNESS, *COSTS, STABILITY)
"""Everything that a gate can name without declaring it first."""


class Gate(Declared):
    """One condition a candidate must meet on the holdout."""

    metric: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="a metric, a measure of fairness, robustness, cost or stability, or one named in evaluate.metrics",
        json_schema_extra={"anyOf": [{"enum": list(GATE_METRICS)}, {"pattern": "^[a-z][a-z0-9_]*$"}]},
    )
    at_most: float | None = Field(default=None, description="largest value that passes")
    at_least: float | None = Field(default=None, description="smallest value that passes")
    no_worse_than_champion_by: float | None = Field(
        default=None, ge=0, description="allowed relative loss against the champion on the same rows"
    )
    better_than: Literal["dummy", "linear"] | None = Field(
        default=None, description="the baseline that the candidate must beat on the same rows"
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
    def _one_limit(self) -> Self:
        limits = [self.at_most, self.at_least, self.no_worse_than_champion_by, self.better_than]
        if sum(limit is not None for limit in limits) != 1:
            raise ValueError("needs exactly one of at_most, at_least, no_worse_than_champion_by, better_than")
        absolute = self.at_most is not None or self.at_least is not None
        if self.slices and not absolute:
            raise ValueError("slices go with at_most or at_least")
        of_rows = self.metric not in (*FAIRNESS, *ROBUSTNESS, *COSTS, STABILITY)
        if self.slices and not of_rows:
            raise ValueError(f"slices go with metrics of rows, which {self.metric} is not")
        if self.better_than and not of_rows:
            raise ValueError(f"better_than goes with metrics of rows, which {self.metric} is not")
        if not of_rows and self.metric not in COSTS and not absolute:
            raise ValueError(f"{self.metric} goes with at_most or at_least")
        if (self.metric in FAIRNESS) != (self.group is not None):
            raise ValueError("group goes with a measure of fairness, and a measure of fairness needs it")
        return self


class UserMetric(Declared):
    """A metric of the user's own, or what a wrong prediction costs: a function of labels and predictions."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="what gates call it")
    function: Reference = Field(
        description="module:name; called with two float arrays, labels and predictions, and returns a number"
    )
    unit: str = Field(default="", description="of the value, as reports show it")
    better: Literal["less", "more"] = Field(default="less", description="which values are better")

    @model_validator(mode="after")
    def _own_name(self) -> Self:
        if self.name in (*GATE_METRICS, "loss", "champion", "candidate"):
            raise ValueError(f"{self.name!r} is a metric of its own already; choose another name")
        return self


class Robustness(Declared):
    """How much worse a candidate may become on disturbed rows, and how much they are disturbed."""

    tolerance: float = Field(
        default=0.25, ge=0, description="relative loss on disturbed rows up to which a candidate counts as robust"
    )
    rows: int = Field(default=1000, ge=0, description="rows of the holdout that are disturbed; 0 leaves it out")
    share: float = Field(default=0.1, gt=0, le=1, description="of the cells that are emptied, swapped, out of range")
    noise: float = Field(default=0.1, gt=0, description="standard deviations of a number that its noise has")


class Evaluate(Declared):
    """What is found out about every candidate, whether a gate asks for it or not."""

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
    def _names_once(self) -> Self:
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names):
            raise ValueError(f"two metrics have the same name; there are {', '.join(names)}")
        return self

    def known(self) -> list[str]:
        """Return every name that a gate may have for its metric."""
        return [*GATE_METRICS, *(metric.name for metric in self.metrics)]


def kind_of_label(names: set[str]) -> Literal["class", "number"] | None:
    """Return what metrics with these names say of the label; None where they say nothing or contradict each other.

    >>> kind_of_label({"roc_auc", "worse_by_noise"}), kind_of_label({"mae", "r2"}), kind_of_label({"model_bytes"})
    ('class', 'number', None)
    """
    classes, numbers = bool(names & CLASSIFICATION_METRICS), bool(names & REGRESSION_METRICS)
    return None if classes == numbers else "class" if classes else "number"


def row_metrics(label: Literal["class", "number"]) -> tuple[MetricName, ...]:
    """Return the means over rows that go with a kind of label, first the one that stands where none is declared."""
    return ("log_loss", "brier", "accuracy") if label == "class" else ("mae", "rmse")
