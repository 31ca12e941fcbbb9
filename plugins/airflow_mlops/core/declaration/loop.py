"""What a user declares: one model and how it is kept fresh.

The same fields in YAML and in Python. Every model here is strict: an unknown key, a wrong type or a
template is an error and nothing is coerced. ``loop_file`` reads the YAML and says the line.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.declaration.declared import Declared, Listed, Reference, section
from airflow_mlops.core.declaration.evaluate import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    Evaluate,
    Gate,
    MetricName,
    kind_of_label,
    row_metrics,
)
from airflow_mlops.core.declaration.retrain import Retrain
from airflow_mlops.core.declaration.rollout import Rollout
from airflow_mlops.core.declaration.train import Train
from airflow_mlops.core.declaration.validation_errors import declaration_error, nearest, refuse_templates
from airflow_mlops.core.declaration.watch import Watch
from airflow_mlops.core.errors import DeclarationError


class Loop(Declared):
    """One model and how Airflow keeps it fresh."""

    model: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="name of the model; its Dags, assets and ledger carry it"
    )
    owner: str = Field(description="owner of the Dags, as Airflow shows it")
    purpose: str | None = Field(default=None, description="what the model is for, and what it is not for")
    tier: Literal["low", "medium", "high"] = Field(
        default="low", description="how much harm a wrong model does; ``include/policy.yaml`` says what each tier needs"
    )
    data: Data = Field(description="where rows come from")
    train: Train = Field(description="what is fitted, on what")
    gates: Annotated[tuple[Gate, ...], Listed] = Field(
        min_length=1, description="what a candidate must show; all must hold, and metrics are of one kind"
    )
    evaluate: Evaluate = section("what else is found out about a candidate")
    rollout: Rollout = section("how a challenger takes over")
    watch: Watch = section("what is watched on every partition")
    retrain: Retrain = section("when a new model is worth its cost")
    notify: Annotated[tuple[Reference, ...], Listed] = Field(
        default=(),
        description="Airflow notifiers or callbacks called when a task of the loop fails, or its validation warns",
    )

    def __init__(self, /, **fields: Any) -> None:
        """Validate ``fields``; a first mistake is one :class:`DeclarationError`."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise declaration_error(error, Loop) from None

    @model_validator(mode="after")
    def _known_metrics(self) -> Self:
        known = self.evaluate.known()
        for index, gate in enumerate(self.gates):
            if gate.metric not in known:
                hint = nearest(gate.metric, known, what="metrics")
                raise DeclarationError(f"no such metric (value {gate.metric!r}); {hint}", key=f"gates[{index}].metric")
        return self

    @model_validator(mode="after")
    def _one_kind_of_metric(self) -> Self:
        names = self._metric_names()
        if kind_of_label(names) is None:
            shown = ", ".join(sorted(names))
            if names & CLASSIFICATION_METRICS and names & REGRESSION_METRICS:
                raise ValueError(f"mixes metrics of classification and regression: {shown}")
            raise ValueError(f"no metric says whether the label is a class or a number; add a gate on one ({shown})")
        return self

    @model_validator(mode="before")
    @classmethod
    def _no_templates(cls, fields: Any) -> Any:
        refuse_templates(fields)
        return fields

    def _metric_names(self) -> set[str]:
        """Return the names of the metrics that gates or the watch ask for."""
        watched = {self.watch.performance.metric} if self.watch.performance else set()
        return watched | {gate.metric for gate in self.gates}

    @property
    def classifies(self) -> bool:
        """Whether the label is a class (0 or 1); told from the metrics of the gates and of the watch."""
        return kind_of_label(self._metric_names()) == "class"

    @property
    def metric(self) -> MetricName:
        """The metric by which models of this loop are compared row by row.

        The watched one, or that of the first gate which is a mean over rows; without any log_loss for classes and
        mae for numbers.
        """
        if self.watch.performance:
            return self.watch.performance.metric
        means = row_metrics("class" if self.classifies else "number")
        gated = {gate.metric: None for gate in self.gates}
        return next((mean for name in gated for mean in means if mean == name), means[0])

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration as JSON values, by the names a user writes."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
