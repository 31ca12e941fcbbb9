"""The section ``watch``: what is monitored on every scored partition, and when it alarms."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Declared, Listed
from airflow_mlops.core.declaration.evaluate import MetricName

CheckName = Literal[
    "predictions",
    "label_rate",
    "estimated_performance",
    "multivariate",
    "reconstruction",
    "importance",
    "concept",
    "service",
]


class Drift(Declared):
    """An alarm on the distribution of the inputs, calibrated here or computed by Evidently."""

    engine: Literal["calibrated", "evidently"] = Field(
        default="calibrated", description="``evidently`` needs the extra of that name, a method and a threshold"
    )
    method: Literal["psi", "jensenshannon", "kl_div", "hellinger", "wasserstein", "ks"] | None = Field(
        default=None, description="of Evidently, for every column; the last two know of numbers alone"
    )
    threshold: float | None = Field(
        default=None, gt=0, description="of Evidently's method; a column alarms from here on, with ks below it"
    )
    alarm_rate: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="share of windows without drift that alarm, all columns together",
    )
    min_effect: float = Field(
        default=0.1, ge=0, lt=1, description="total variation distance below which a shift is ignored"
    )

    @model_validator(mode="after")
    def _require_settings_of_engine(self) -> "Drift":
        settings = [name for name in ("method", "threshold") if getattr(self, name) is not None]
        if self.engine == "evidently" and len(settings) < 2:
            raise ValueError("engine evidently needs a method and a threshold, both stated")
        if self.engine == "calibrated" and settings:
            raise ValueError(f"{' and '.join(settings)} belong to engine evidently; the calibrated one finds its own")
        return self


class Performance(Declared):
    """An alarm on the champion's metric, judged once labels have arrived."""

    metric: MetricName = Field(description="also the metric by which candidates are compared")
    worse_by: float = Field(default=0.10, gt=0, description="relative loss against the value on the holdout")
    min_rows: int = Field(default=100, ge=2, description="labelled rows a verdict needs, of each slice too")
    alarm_rate: float = Field(
        default=0.025, gt=0, lt=0.5, description="share of windows no worse than ``worse_by`` that may alarm, at most"
    )
    slices: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="columns; the metric is judged for each value of each of them as well"
    )


class Watch(Declared):
    """The monitoring of every scored partition."""

    drift: Drift | None = Field(default=None, description="not watched if not declared")
    performance: Performance | None = Field(default=None, description="not watched if not declared")
    checks: Annotated[tuple[CheckName, ...], Listed] = Field(
        default=(), description="further checks of every scored partition"
    )
    max_age: int | None = Field(
        default=None,
        ge=1,
        description="published partitions since the champion's training window after which it is stale",
    )
    overdue: int | None = Field(
        default=None, ge=1, description="hours after which a partition, its predictions or its labels are overdue"
    )
    deadline: int | None = Field(
        default=None,
        ge=1,
        description="hours after which a run that is queued or running is late, told though no worker takes any task",
    )
