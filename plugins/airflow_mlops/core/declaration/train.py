"""The section ``train``: the function, the partitions, the place and the limits of a fit."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Cron, Declared, Listed, Reference, section
from airflow_mlops.core.declaration.evaluate import QUANTILE_METRICS, metric_parameter
from airflow_mlops.core.declaration.quantiles import quantile_metric


class FitLimits(Declared):
    """Limits of one fit. A limited fit runs in a process of its own, which is killed beyond the limit."""

    minutes: float | None = Field(
        default=None, gt=0, le=28 * 24 * 60, description="of wall time for each candidate; unlimited if not given"
    )
    memory_mb: int | None = Field(
        default=None,
        ge=64,
        description="of resident memory, of the fit and all processes it starts; unlimited if not given",
    )


class Search(Declared):
    """The parameter search of a candidate with a search space: successive halving."""

    candidates: int = Field(default=27, ge=2, le=10_000, description="combinations of parameters that are tried")
    factor: int = Field(default=3, ge=2, le=10, description="one in this many goes on into the next round")
    validation: int = Field(
        default=20,
        ge=1,
        le=90,
        description="percent of the fitted rows, the newest ones, that combinations are judged on",
    )


class EarlyStopping(Declared):
    """Stop boosting when the newest fitted rows improve no more."""

    rounds: int = Field(default=50, ge=1, le=10_000, description="iterations without an improvement that end the fit")
    validation: int = Field(
        default=10,
        ge=1,
        le=50,
        description="percent of the fitted rows, the newest ones, that are held out from the fit and judged on",
    )


class MistakeCosts(Declared):
    """The costs of the two mistakes of a decision, in any one unit."""

    false_positive: float = Field(gt=0, description="of a row of the other class that is decided as the positive one")
    false_negative: float = Field(gt=0, description="of a row of the positive class that is decided as the other one")


class Threshold(Declared):
    """The probability from which a row is decided as the positive class, chosen by what mistakes cost."""

    costs: MistakeCosts = Field(description="of the two mistakes; only their ratio matters")
    validation: int = Field(
        default=20,
        ge=1,
        le=90,
        description="percent of the fitted rows, the newest ones, that the threshold is chosen on",
    )


class InWorker(Declared):
    """Fit candidates in the worker that runs the task."""

    kind: Literal["worker"] = "worker"


class InInterpreter(Declared):
    """Fit candidates with another Python on the worker's machine, which has packages of its own."""

    kind: Literal["interpreter"]
    python: str = Field(min_length=1, description="path of the interpreter, below the project folder or absolute")


class OnSageMaker(Declared):
    """Fit candidates in a SageMaker training job."""

    kind: Literal["sagemaker"]
    image: str = Field(
        min_length=1, max_length=255, description="container image with Python and requirements-step.lock installed"
    )
    role: str = Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", description="ARN of the role of the job")
    storage: str = Field(pattern=r"^s3://[^/]+(/.*)?$", description="where rows go and the model comes back")
    instance_type: str = Field(
        default="ml.m5.xlarge", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$", description="of the one instance"
    )
    volume_gb: int = Field(default=30, ge=1, le=16_384, description="disk of the instance")
    connection: str = Field(default="aws_default", description="Airflow connection of type aws")


RunsOn = Annotated[InWorker | InInterpreter | OnSageMaker, Field(discriminator="kind")]


class Train(Declared):
    """The function that gives the candidates, and the partitions on which they are fitted."""

    function: Reference
    window: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        default="all", description="newest partitions that a model is fitted on, those of the holdout not counted"
    )
    at_least: int | None = Field(
        default=None, ge=1, description="partitions before the first training; the window if that is a number"
    )
    holdout: int = Field(default=1, ge=1, description="newest partitions, kept for the gates")
    at: Cron = Field(default="0 2 * * *", description="cron expression of the nightly decision")
    seed: int = Field(default=0, description="argument of the training function")
    own_types: Annotated[tuple[Reference, ...], Listed] = Field(
        default=(),
        description="classes and functions of the project that a model may hold; the digest of their code is recorded",
    )
    runs_on: RunsOn = Field(
        default={"kind": "worker"}, validate_default=True, description="where candidates are fitted"
    )
    weight: str | None = Field(
        default=None,
        min_length=1,
        description="column with the weight of each row, a number from 0, in fits and metrics; it is no feature",
    )
    half_life_days: float | None = Field(
        default=None, gt=0, description="age at which a row counts half in a fit, from the newest row of the window"
    )
    quantiles: Annotated[tuple[float, ...], Listed] = Field(
        default=(), description="quantiles that a model predicts, rising; the function is called for each of them"
    )
    limits: FitLimits = section("limits of one fit")
    early_stopping: EarlyStopping | None = Field(
        default=None, description="when to stop boosting; every candidate is then boosted trees of an extra"
    )
    threshold: Threshold | None = Field(
        default=None, description="how the threshold of two classes is chosen; 0.5 if not declared"
    )
    search: Search = section("the parameter search of a candidate with a search space")

    @model_validator(mode="after")
    def _require_enforceable_limits(self) -> Self:
        if isinstance(self.runs_on, OnSageMaker) and self.limits.memory_mb is not None:
            raise ValueError("limits.memory_mb cannot be kept on SageMaker; choose an instance_type with that memory")
        return self

    @model_validator(mode="after")
    def _require_rows_of_one_weight(self) -> Self:
        if self.early_stopping is not None and self.weights is not None:
            key = "half_life_days" if self.weight is None else "weight"
            raise ValueError(f"early_stopping counts every row once, and {key} is declared; leave out one of them")
        return self

    @model_validator(mode="after")
    def _require_threshold_of_plain_rows(self) -> Self:
        if self.threshold is not None and self.weights is not None:
            key = "half_life_days" if self.weight is None else "weight"
            raise ValueError(f"threshold counts every row once, and {key} is declared; leave out one of them")
        if self.threshold is not None and self.early_stopping is not None:
            raise ValueError("threshold and early_stopping each hold out the newest rows; leave out one of them")
        return self

    @model_validator(mode="after")
    def _require_rising_quantiles(self) -> Self:
        quantiles = self.quantiles
        if not quantiles:
            return self
        parameter = metric_parameter(quantile_metric(quantiles))
        if len(quantiles) < 2 or list(quantiles) != sorted(set(quantiles)) or parameter is None:
            raise ValueError("quantiles are two or more rising numbers between 0 and 1, such as 0.05, 0.5, 0.95")
        return self

    @property
    def quantile_metrics(self) -> tuple[str, ...]:
        """The metrics of the declared quantiles, the one that compares models first; empty without quantiles."""
        return (quantile_metric(self.quantiles), *QUANTILE_METRICS) if self.quantiles else ()

    @property
    def weights(self) -> dict[str, Any] | None:
        """The declared weights of rows, as a training request has them; None without any."""
        weights = {"column": self.weight, "half_life_days": self.half_life_days}
        return {name: value for name, value in weights.items() if value is not None} or None

    @property
    def partitions_needed(self) -> int:
        """Number of published partitions that the first training needs, its holdout included."""
        fitted = self.at_least or (self.window if isinstance(self.window, int) else 1)
        return fitted + self.holdout
