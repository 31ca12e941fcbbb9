"""The section ``train``: the function, the partitions, the place and the limits of a fit."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from airflow_mlops.core.declaration.declared import Cron, Declared, Listed, Reference, section
from airflow_mlops.core.declaration.evaluate import QUANTILE_METRICS, metric_parameter
from airflow_mlops.core.declaration.quantiles import quantile_metric
from airflow_mlops.core.declaration.search_space import OptunaSearch


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


class Sample(Declared):
    """A sample of the window's labelled rows, on which candidates are fitted; the holdout is judged as a whole."""

    rows: int = Field(ge=100, description="most rows of a fit; classes keep their shares")
    by: str | None = Field(
        default=None, min_length=1, description="column of the rows whose values keep their shares, too"
    )


class Search(Declared):
    """The parameter search: successive halving of spaces that the function gives, Optuna of those declared here."""

    candidates: int = Field(default=27, ge=2, le=10_000, description="combinations of parameters that are tried")
    factor: int = Field(default=3, ge=2, le=10, description="one in this many goes on into the next round")
    validation: int = Field(
        default=20,
        ge=1,
        le=90,
        description="percent of the fitted rows, the newest ones, that combinations are judged on",
    )
    optuna: OptunaSearch | None = Field(default=None, description="spaces that Optuna searches, by candidate")

    @property
    def parameters(self) -> dict[str, list[str]]:
        """The names of the parameters that Optuna searches, by candidate; empty without it."""
        return {name: list(space) for name, space in (self.optuna.spaces if self.optuna else {}).items()}

    def settings(self, metric: str) -> dict[str, Any]:
        """Return the settings and the metric of comparison, as a training request has them."""
        return {**self.model_dump(mode="json", exclude_none=True), "metric": metric}


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
    """The probability from which a row is decided as the positive class: declared, or chosen by what mistakes cost."""

    value: float | None = Field(default=None, gt=0, lt=1, description="the probability, where it is not to be chosen")
    costs: MistakeCosts | None = Field(
        default=None, description="of the two mistakes; only their ratio matters; the training chooses the probability"
    )
    validation: int = Field(
        default=20,
        ge=1,
        le=90,
        description="percent of the fitted rows, the newest ones, that the threshold is chosen on",
    )

    @model_validator(mode="after")
    def _require_one_of_value_and_costs(self) -> Self:
        if (self.value is None) == (self.costs is None):
            raise ValueError("needs value, the probability itself, or costs, by which it is chosen, and not both")
        return self


class InWorker(Declared):
    """Fit candidates in the worker that runs the task."""

    kind: Literal["worker"] = "worker"


class InInterpreter(Declared):
    """Fit candidates with another Python on the worker's machine, which has packages of its own."""

    kind: Literal["interpreter"]
    python: str = Field(min_length=1, description="path of the interpreter, below the project folder or absolute")


InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$")]


class OnSageMaker(Declared):
    """Fit candidates in a SageMaker training job."""

    kind: Literal["sagemaker"]
    image: str = Field(
        min_length=1, max_length=255, description="container image with Python and requirements-step.lock installed"
    )
    role: str = Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", description="ARN of the role of the job")
    storage: str = Field(pattern=r"^s3://[^/]+(/.*)?$", description="where rows go and the model comes back")
    instance_type: InstanceType | tuple[InstanceType, ...] = Field(
        default="ml.m5.xlarge",
        description="of the one instance; of a list the next one where SageMaker has none of the one before",
    )
    spot_wait_minutes: int | None = Field(
        default=None,
        ge=1,
        description="longest wait for a spot instance, which costs less and may be taken away; if not declared the "
        "instance is not one",
    )
    checkpoints: bool = Field(
        default=False,
        description="keep what a fit has finished below ``storage``, so that a job that lost its instance goes on "
        "behind it",
    )
    volume_gb: int = Field(default=30, ge=1, le=16_384, description="disk of the instance")
    connection: str = Field(default="aws_default", description="Airflow connection of type aws")

    @field_validator("instance_type", mode="before")
    @classmethod
    def _require_each_type_once(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if not value or len(set(map(str, value))) < len(value):
            raise ValueError("a list of instance types has one or more, each once")
        return tuple(value) if len(value) > 1 else value[0]

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The declared types, in the order in which they are tried."""
        return (self.instance_type,) if isinstance(self.instance_type, str) else self.instance_type


Window = Annotated[int, Field(ge=1)] | Literal["all"]
"""Newest partitions that a model is fitted on: their number, or all there are."""
RunsOn = Annotated[InWorker | InInterpreter | OnSageMaker, Field(discriminator="kind")]


def rising_windows(windows: Sequence[Any]) -> Any:
    """Return a list of windows as a tuple; of a single one, that window.

    >>> rising_windows([4, 13, "all"]), rising_windows([4])
    ((4, 13, 'all'), 4)

    Raises
    ------
    ValueError
        If one is neither a number of partitions nor ``all``, or they do not rise, with ``all`` last.
    """
    for window in windows:
        if window != "all" and (type(window) is not int or window < 1):
            raise ValueError(f"holds {window!r}, which is neither a number of partitions from 1 on nor all")
    rising: list[Any] = sorted({window for window in windows if window != "all"})
    rising += ["all"] if "all" in windows else []
    if not rising or list(windows) != rising:
        advice = f"; write [{', '.join(map(str, rising))}]" if rising else ""
        raise ValueError(
            "a list of windows has numbers of partitions that rise, each once, and all at its end, such as "
            f"[4, 13, all]{advice}"
        )
    return tuple(windows) if len(windows) > 1 else windows[0]


class Train(Declared):
    """The function that gives the candidates, and the partitions on which they are fitted."""

    function: Reference
    window: Window | tuple[Window, ...] = Field(
        default="all",
        description="newest partitions that a model is fitted on, those of the holdout not counted; of a rising list "
        "each candidate is fitted on each",
    )
    at_least: int | None = Field(
        default=None, ge=1, description="partitions before the first training; the shortest window if that is a number"
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
    sample: Sample | None = Field(
        default=None, description="the rows of the window that a fit takes; all of them if not declared"
    )
    limits: FitLimits = section("limits of one fit")
    early_stopping: EarlyStopping | None = Field(
        default=None, description="when to stop boosting; every candidate is then boosted trees of an extra"
    )
    threshold: Threshold | None = Field(
        default=None, description="how the threshold of two classes is chosen; 0.5 if not declared"
    )
    search: Search = section("the parameter search of a candidate with a search space")

    @field_validator("window", mode="before")
    @classmethod
    def _require_rising_windows(cls, window: Any) -> Any:
        return rising_windows(window) if isinstance(window, list | tuple) else window

    @model_validator(mode="after")
    def _require_enforceable_limits(self) -> Self:
        if isinstance(self.runs_on, OnSageMaker) and self.limits.memory_mb is not None:
            raise ValueError("limits.memory_mb cannot be kept on SageMaker; choose an instance_type with that memory")
        return self

    @model_validator(mode="after")
    def _require_threshold_of_plain_rows(self) -> Self:
        if self.threshold is None or self.threshold.value is not None:
            return self  # a declared probability needs no rows
        if self.weights is not None:
            key = "half_life_days" if self.weight is None else "weight"
            raise ValueError(f"threshold counts every row once, and {key} is declared; leave out one of them")
        if self.early_stopping is not None:
            raise ValueError("threshold and early_stopping each hold out the newest rows; leave out one of them")
        return self

    @model_validator(mode="after")
    def _require_one_fit_of_each_trial(self) -> Self:
        if self.search.optuna is not None and (self.early_stopping is not None or self.quantiles):
            key = "quantiles" if self.quantiles else "early_stopping"
            raise ValueError(f"search.optuna searches no models of {key}; leave out one of them")
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
    def windows(self) -> tuple[int | Literal["all"], ...]:
        """The declared windows, the shortest first."""
        return self.window if isinstance(self.window, tuple) else (self.window,)

    @property
    def has_several_windows(self) -> bool:
        """Whether each candidate is fitted on several windows."""
        return isinstance(self.window, tuple)

    @property
    def longest_window(self) -> int | Literal["all"]:
        """The longest declared window, which holds all others."""
        return self.windows[-1]

    @property
    def partitions_needed(self) -> int:
        """Number of published partitions that the first training needs, its holdout included."""
        shortest = self.windows[0]
        fitted = self.at_least or (shortest if isinstance(shortest, int) else 1)
        return fitted + self.holdout

    def window_lengths(self, available: int) -> dict[str, int]:
        """Return the number of fitted partitions of each declared window by its name, the shortest first.

        Of windows that are equal, since no more partitions are ``available``, the longest alone is there.

        >>> Train(function="a:b", window=[4, 13, "all"]).window_lengths(9)
        {'4': 4, 'all': 9}
        """
        lengths: dict[str, int] = {}
        for window in self.windows:
            length = available if window == "all" else min(window, available)
            lengths = {name: other for name, other in lengths.items() if other != length} | {str(window): length}
        return lengths
