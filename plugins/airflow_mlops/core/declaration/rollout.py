"""The section ``rollout``: the target, the stages by which a challenger takes over, and its online metrics.

    rollout:
      target: gateway
      stages:
        - {shadow: 20, bake: 30}
        - {canary: 10, bake: 60, approval: human}
        - {live: 100}
      metrics:
        - {metric: errors, worse_by: 0.005}
        - {metric: latency, at_most: 0.2}

A strategy is a named list of stages; ``stages`` overrides it.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Declared, Listed, Share

KINDS = ("shadow", "standby", "canary", "ab", "rolling", "live")
"""Kinds of stage, in the order in which a rollout may use them."""
SERVING = ("canary", "ab", "rolling")
"""Kinds in which the challenger answers requests."""
STRATEGIES: dict[str, tuple[dict[str, int], ...]] = {
    "canary": ({"shadow": 100}, {"canary": 10}, {"canary": 50}, {"live": 100}),
    "shadow": ({"shadow": 100}, {"live": 100}),
    "blue_green": ({"standby": 100}, {"live": 100}),
    "ab": ({"ab": 50}, {"live": 100}),
    "rolling": ({"rolling": 25}, {"rolling": 50}, {"rolling": 75}, {"live": 100}),
}
"""The default stages of each strategy."""
LIVE_TARGETS = ("gateway", "sagemaker")
"""Targets that answer requests online, so that a stage lasts minutes and not partitions."""
PLANNED_ANALYSES = 5
MetricKind = Literal["label", "errors", "latency", "predictions", "kpi", "prometheus"]


class RolloutStage(Declared):
    """A stage of a rollout: its kind (exactly one of ``KINDS``), with its share in percent."""

    shadow: Share | None = Field(default=None, description="the challenger predicts beside the champion, answers none")
    standby: Share | None = Field(default=None, description="the challenger is loaded and warm, and sees nothing")
    canary: Share | None = Field(default=None, description="the challenger serves this share of the keys")
    ab: Share | None = Field(default=None, description="as canary, but judged once, at the end")
    rolling: Share | None = Field(default=None, description="the challenger serves on this share of the replicas")
    live: Share | None = Field(default=None, description="the challenger becomes the champion")
    bake: int = Field(default=0, ge=0, description="least time: scored partitions for batch, otherwise minutes")
    sample: int | None = Field(
        default=None, ge=2, description="number of requests of the challenger for which the analyses are planned"
    )
    max_wait: int | None = Field(
        default=None, ge=1, description="time after which an undecided stage is rolled back, counted as ``bake``"
    )
    approval: Literal["none", "human"] = Field(default="none", description="human: a person lets the stage begin")

    @model_validator(mode="after")
    def _require_one_kind(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"needs exactly one of {', '.join(KINDS)}")
        if self.live is not None and (self.bake or self.sample or self.max_wait):
            raise ValueError("bake goes with a stage before live: once live, there is nothing to wait for")
        if self.max_wait is not None and self.max_wait <= self.bake:
            raise ValueError(f"max_wait ({self.max_wait}) must exceed bake ({self.bake})")
        return self

    @property
    def kind(self) -> str:
        """The kind of the stage, one of ``KINDS``."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def share(self) -> int:
        """Percent of the keys, or of the replicas, in the stage."""
        return int(getattr(self, self.kind))

    @property
    def exposed(self) -> int:
        """Percent of the keys or replicas that the challenger serves; 0 for shadow, standby and live."""
        return self.share if self.kind in SERVING else 0

    @property
    def name(self) -> str:
        """Name of the stage, as in task ids and records: ``canary_10``."""
        return f"{self.kind}_{self.share}"


class OnlineMetric(Declared):
    """An online metric of the challenger during its rollout, and its limits."""

    metric: MetricKind = Field(
        description="label: the loop's metric once labels are there; errors: share of requests it failed; latency: "
        "a quantile in seconds; predictions: distance of the two versions' predictions; kpi: a value for each key "
        "from SQL; prometheus: one number for each version"
    )
    name: str | None = Field(default=None, description="name of the metric, needed if a kind is declared twice")
    at_most: float | None = Field(
        default=None, description="largest value of the challenger that passes, independent of ``better``"
    )
    worse_by: float | None = Field(
        default=None,
        ge=0,
        description="how much worse than the champion still passes: a share of requests for "
        "errors, of rows on which a shadow may disagree for predictions, otherwise relative",
    )
    quantile: float = Field(default=0.99, gt=0, lt=1, description="of latency")
    better: Literal["lower", "higher"] = Field(default="lower", description="of kpi and prometheus")
    query: str | None = Field(
        default=None, description="kpi: SQL that gives ``key`` and ``value``; prometheus: with ``$version`` in it"
    )
    conn_id: str | None = Field(default=None, description="Airflow connection that the query is sent to")

    @model_validator(mode="after")
    def _require_fields_of_metric(self) -> Self:
        is_queried = self.metric in ("kpi", "prometheus")
        if is_queried != (self.query is not None) or is_queried != (self.conn_id is not None):
            raise ValueError(f"{self.metric} {'needs' if is_queried else 'has no'} query and conn_id")
        if self.metric == "prometheus" and "$version" not in str(self.query):
            raise ValueError("query: $version must stand in it, or both versions would have the same number")
        if self.metric in ("latency", "prometheus") and self.at_most is None and self.worse_by is None:
            raise ValueError(f"{self.metric} needs a limit: at_most, worse_by, or both")
        return self

    @property
    def display_name(self) -> str:
        """The name of the metric in records and reports."""
        return self.name or self.metric


class Rollout(Declared):
    """The rollout of a challenger."""

    target: Literal["batch", "gateway", "sagemaker"] = Field(
        default="batch", description="what serves: predictions of each partition, the gateway, or an endpoint"
    )
    strategy: Literal["canary", "shadow", "blue_green", "ab", "rolling"] = Field(
        default="canary", description="named list of stages; ``stages`` overrides it"
    )
    approval: Literal["none", "human"] = Field(
        default="none", description="human: a person who did not start the run approves before the rollout"
    )
    stages: Annotated[tuple[RolloutStage, ...], Listed] = Field(
        default=(), validate_default=True, description="in order, growing, the last {live: 100}"
    )
    margin: float = Field(default=0.10, gt=0, description="relative loss at which a challenger is worse")
    min_rows: int = Field(default=100, ge=2, description="labelled rows, or requests, that an analysis needs")
    looks: int = Field(default=PLANNED_ANALYSES, ge=1, le=100, description="interim analyses planned for each stage")
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="chance to stop a challenger exactly at the margin, over all analyses and metrics of a stage",
    )
    metrics: Annotated[tuple[OnlineMetric, ...], Listed] = Field(
        default=(), description="online metrics; by default label on batch, elsewhere errors and predictions"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_stages(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "stages" not in fields:
            stages = STRATEGIES.get(str(fields.get("strategy", "canary")))
            return fields if stages is None else {**fields, "stages": stages}
        return fields

    @model_validator(mode="after")
    def _require_rising_stages(self) -> Self:
        if not self.stages or self.stages[-1].live != 100:
            raise ValueError("the last stage must be {live: 100}")
        # A pair is larger if its kind comes later, or its share is larger within the same kind.
        ranks = [(KINDS.index(stage.kind), stage.share) for stage in self.stages]
        exposed = [stage.exposed for stage in self.stages if stage.kind in SERVING]
        if any(second <= first for first, second in pairwise(ranks)) or exposed != sorted(exposed):
            raise ValueError(f"stages must rise: {', '.join(KINDS)}, each with growing shares")
        return self

    @model_validator(mode="after")
    def _require_stages_of_target(self) -> Self:
        kinds = {stage.kind for stage in self.stages}
        if self.target == "batch" and kinds & {"standby", "rolling"}:
            raise ValueError("standby and rolling need a target that keeps models loaded: gateway or sagemaker")
        if self.target == "sagemaker" and "rolling" in kinds:
            raise ValueError("rolling needs replicas that are told one by one, as those of the gateway; use canary")
        return self

    @model_validator(mode="after")
    def _require_metrics_of_target(self) -> Self:
        names = [metric.display_name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"metrics: {', '.join(names)}: each needs a name of its own")
        online = [metric.metric for metric in self.metrics if metric.metric not in ("label", "kpi", "prometheus")]
        if self.target == "batch" and online:
            raise ValueError(f"metrics: {online[0]} is measured where requests are answered; not with target batch")
        is_rolling = any(stage.kind == "rolling" for stage in self.stages)
        if is_rolling and any(metric.metric == "kpi" for metric in self.metrics):
            raise ValueError("metrics: kpi tells versions apart by their keys, and on replicas each answers any key")
        return self

    @property
    def effective_metrics(self) -> tuple[OnlineMetric, ...]:
        """The declared metrics, or the defaults of the target."""
        return self.metrics or self.default_metrics

    @property
    def default_metrics(self) -> tuple[OnlineMetric, ...]:
        """The default metrics of the target: labels on batch, errors and predictions on the gateway, errors else."""
        by_target: dict[str, tuple[MetricKind, ...]] = {
            "batch": ("label",),
            "gateway": ("errors", "predictions"),
            "sagemaker": ("errors",),
        }
        return tuple(OnlineMetric(metric=kind) for kind in by_target[self.target])

    @property
    def is_live(self) -> bool:
        """Whether the target answers requests online, so that stages last minutes."""
        return self.target in LIVE_TARGETS
