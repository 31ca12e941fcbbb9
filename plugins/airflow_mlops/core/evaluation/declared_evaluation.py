"""What a user declares about evaluation: the gates, and what else is found out about a candidate."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declared import Declared, Listed

MetricName = Literal["mae", "rmse", "log_loss", "brier", "accuracy"]
GateMetric = Literal["mae", "rmse", "log_loss", "brier", "accuracy", "roc_auc"]
CLASSIFICATION_METRICS = frozenset({"log_loss", "brier", "accuracy", "roc_auc"})


class Gate(Declared):
    """One condition a candidate must meet on the holdout."""

    metric: GateMetric = Field(description="metric of the candidate on the holdout")
    at_most: float | None = Field(default=None, description="largest value that passes")
    at_least: float | None = Field(default=None, description="smallest value that passes")
    no_worse_than_champion_by: float | None = Field(
        default=None, ge=0, description="allowed relative loss against the champion on the same rows"
    )
    slices: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="columns; the gate is judged once for each value of each of them"
    )
    min_rows: int = Field(
        default=100, ge=1, description="rows below which a slice is reported as too little data, and does not count"
    )

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        limits = [self.at_most, self.at_least, self.no_worse_than_champion_by]
        if sum(limit is not None for limit in limits) != 1:
            raise ValueError("needs exactly one of at_most, at_least, no_worse_than_champion_by")
        if self.slices and self.no_worse_than_champion_by is not None:
            raise ValueError("slices go with at_most or at_least")
        return self


class Evaluate(Declared):
    """What is found out about every candidate, whether a gate asks for it or not."""

    slices: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="columns; metrics are given for each value of each of them"
    )
    groups: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="columns of people or places that the model must treat alike; fairness is measured"
    )
    min_rows: int = Field(default=100, ge=1, description="rows below which a slice or group is too little data")
