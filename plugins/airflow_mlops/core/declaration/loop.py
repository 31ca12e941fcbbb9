"""The declaration of a loop: one model and how Airflow keeps it fresh.

YAML and Python have the same fields. Every section is strict: an unknown key, a wrong type or a template is an
error, and no value is coerced. :mod:`read_loop` reads the YAML file and adds the line to the error.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from airflow_mlops.core.declaration.class_names import class_names, require_fitting_classes, require_fitting_threshold
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.declaration.declared import Declared, Listed, section
from airflow_mlops.core.declaration.engine import Engine, require_database, require_splittable
from airflow_mlops.core.declaration.evaluate import (
    CLASSIFICATION_METRICS,
    PROBABILITY_METRICS,
    Evaluate,
    Gate,
    MetricName,
    is_of_numbers,
    label_kind,
    metric_parameter,
    row_metrics,
)
from airflow_mlops.core.declaration.notify import AnyNotify, Notify
from airflow_mlops.core.declaration.quantiles import require_fitting_quantiles
from airflow_mlops.core.declaration.resources import Resources
from airflow_mlops.core.declaration.retrain import Retrain
from airflow_mlops.core.declaration.rollout import Rollout
from airflow_mlops.core.declaration.score import Score
from airflow_mlops.core.declaration.train import Train
from airflow_mlops.core.declaration.validation_errors import declaration_error, refuse_templates, suggest_name
from airflow_mlops.core.declaration.watch import Performance, Watch
from airflow_mlops.core.errors import DeclarationError

MODEL_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""Pattern of the name of a model."""


class Loop(Declared):
    """One model and how Airflow keeps it fresh."""

    model: str = Field(pattern=MODEL_NAME, description="name of the model; its Dags, assets and ledger carry it")
    owner: str = Field(description="owner of the Dags, as Airflow shows it")
    purpose: str | None = Field(default=None, description="what the model is for, and what it is not for")
    tier: Literal["low", "medium", "high"] = Field(
        default="low", description="how much harm a wrong model does; ``include/policy.yaml`` says what each tier needs"
    )
    data: Data = Field(description="the source of rows, its schedule and its checks")
    engine: Engine = Field(
        default="local",
        description="where rows are checked and counted: in the task; on the executors of the Spark cluster of "
        "connection mlops_spark; or with sql in the database of the source, before any row is fetched; the "
        "verdicts are the same",
    )
    train: Train = Field(description="the training function and its partitions")
    gates: Annotated[tuple[Gate, ...], Listed] = Field(
        min_length=1, description="conditions on a candidate; all must hold, and metrics are of one kind"
    )
    evaluate: Evaluate = section("further evaluation of a candidate")
    rollout: Rollout = section("how a challenger takes over from the champion")
    score: Score | None = Field(
        default=None, description="where partitions are scored; in the worker that runs the task if not declared"
    )
    watch: Watch = section("monitoring of every scored partition")
    retrain: Retrain = section("policy, cooldown and budget of retraining")
    resources: Resources | None = Field(
        default=None, description="pools, queues and executor settings of the tasks, by stage"
    )
    notify: AnyNotify = Field(
        default=(),
        description="notifiers by kind of decision; or a list of Airflow notifiers or callbacks called when a task of "
        "the loop fails, or its validation warns",
    )

    def __init__(self, /, **fields: Any) -> None:
        """Validate ``fields``.

        Raises
        ------
        DeclarationError
            For the first fault, with the dotted path of its key.
        """
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise declaration_error(error, Loop) from None

    @model_validator(mode="after")
    def _require_metrics(self) -> Self:
        names = self.evaluate.metric_names()
        for index, gate in enumerate(self.gates):
            if gate.metric not in names and metric_parameter(gate.metric) is None:
                # pydantic passes an error that is no ValueError on as it is, with its own key.
                hint = suggest_name(gate.metric, names, kind="metrics")
                raise DeclarationError(f"no such metric (value {gate.metric!r}); {hint}", key=f"gates[{index}].metric")
        if self.watch.performance:
            self.evaluate.require_row_metric(self.watch.performance.metric, key="watch.performance.metric")
        return self

    @model_validator(mode="after")
    def _require_one_label_kind(self) -> Self:
        names = self.metric_names
        if label_kind(names) is None:
            listing = ", ".join(sorted(names))
            if names & CLASSIFICATION_METRICS and any(map(is_of_numbers, names)):
                raise ValueError(f"mixes metrics of classification and regression: {listing}")
            raise ValueError(f"no metric says whether the label is a class or a number; add a gate on one ({listing})")
        return self

    @model_validator(mode="after")
    def _require_source_of_engine(self) -> Self:
        if self.engine == "spark":
            require_splittable(self.data.source)
        elif self.engine == "sql":
            require_database(self.data.source)
        return self

    @model_validator(mode="after")
    def _require_weight_of_its_own(self) -> Self:
        weight = self.train.weight
        if weight is not None and weight in self.data.key_and_time | {self.data.label}:
            raise DeclarationError(
                f"{weight!r} is the key, the time or the label already; a weight is a column of its own",
                key="train.weight",
            )
        return self

    @model_validator(mode="after")
    def _require_receiver_of_deadline(self) -> Self:
        by_kind, hours = self.notify_by_kind, self.watch.deadline
        receivers = self.callbacks if by_kind is None else tuple(by_kind.notifiers_of("overdue", self.tier))
        if hours is not None and not receivers:
            raise DeclarationError(
                f"a run that is late after {hours} hours is told to nobody; declare notify.overdue for tier "
                f"{self.tier}, or take the deadline out",
                key="watch.deadline",
            )
        return self

    @model_validator(mode="after")
    def _require_classes(self) -> Self:
        require_fitting_classes(self)
        require_fitting_quantiles(self)
        require_fitting_threshold(self)
        return self

    @model_validator(mode="before")
    @classmethod
    def _refuse_templates(cls, fields: Any) -> Any:
        refuse_templates(fields)
        return fields

    @property
    def callbacks(self) -> tuple[str, ...]:
        """The callbacks of failed tasks and warnings, where ``notify`` is a list."""
        return () if isinstance(self.notify, Notify) else self.notify

    @property
    def notify_by_kind(self) -> Notify | None:
        """The notifiers by kind of decision; None where ``notify`` is a list."""
        return self.notify if isinstance(self.notify, Notify) else None

    @property
    def metric_names(self) -> set[str]:
        """The names of the metrics of the gates and of the watch."""
        watched = {self.watch.performance.metric} if self.watch.performance else set()
        return watched | {gate.metric for gate in self.gates}

    @property
    def classifies(self) -> bool:
        """Whether the label is a class, as the metrics of the gates and of the watch imply."""
        return label_kind(self.metric_names) == "class"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the declared classes by their codes, from 0; None where the label is 0 or 1, or a number."""
        data = self.data
        return None if data.classes is None else class_names(data.classes, data.positive)

    @property
    def several_classes(self) -> bool:
        """Whether three classes or more are declared, so that a prediction is a probability of each."""
        return self.data.classes is not None and len(self.data.classes) > 2

    @property
    def several_class_names(self) -> tuple[str, ...] | None:
        """The names of three or more declared classes by their codes; None otherwise."""
        return self.class_names if self.several_classes else None

    @property
    def metric(self) -> MetricName:
        """The metric that compares models of this loop row by row.

        It is the watched metric, otherwise the metric of the first gate that is a mean over rows, otherwise log_loss
        for classes, the mean pinball loss for quantiles and mae for other numbers. A user's own is an
        :class:`OwnMetric`.
        """
        own = self.evaluate.own_metric
        if self.watch.performance:
            return own(self.watch.performance.metric) or self.watch.performance.metric
        means = row_metrics("class" if self.classifies else "number")
        gated = (own(gate.metric) or gate.metric for gate in self.gates)
        default = (*self.train.quantile_metrics, means[0])[0]
        is_mean = (*means, *(metric.name for metric in self.evaluate.metrics if metric.each_row))
        return next((name for name in gated if name in is_mean or metric_parameter(name)), default)

    def gates_in_force(self, *, compared: bool) -> tuple[Gate, ...]:
        """Return the declared gates and, where none of them compares with the champion, that of ``retrain.confidence``.

        Parameters
        ----------
        compared : bool
            Whether there is a champion that can predict the holdout. Otherwise the declared gates alone decide, so that
            a champion that is broken is not in the way of the next.
        """
        confidence = self.retrain.confidence
        if not compared or confidence == "none" or any(gate.against_champion for gate in self.gates):
            return self.gates
        return (*self.gates, Gate(metric=self.metric, better_than="champion", confidence=confidence))

    @property
    def gates_of_recall(self) -> tuple[Gate, ...]:
        """The gates of an earlier champion: the declared ones, and evidence that it is better than the champion.

        Each confidence counts as many versions as may be tried, since the best of many is partly luck.
        """
        confidence = None if self.retrain.confidence == "none" else self.retrain.confidence
        evidence = Gate(metric=self.metric, better_than="champion", confidence=confidence)
        return tuple(gate.of_several(self.retrain.recall) for gate in (*self.gates, evidence))

    @property
    def performance(self) -> Performance | None:
        """The declared performance, with the metric as :attr:`metric` has it; None where none is watched."""
        declared = self.watch.performance
        return None if declared is None else declared.model_copy(update={"metric": self.metric})

    @property
    def probability_metrics(self) -> tuple[str, ...]:
        """The metrics by which models of this loop are gated, watched or compared and that need probabilities."""
        names = dict.fromkeys([*(gate.metric for gate in self.gates), self.metric])
        return tuple(name for name in names if name in PROBABILITY_METRICS)

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration as JSON values, under the keys of its YAML file."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
