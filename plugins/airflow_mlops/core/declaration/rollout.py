"""What a user declares about a rollout: who serves, by which stages a challenger takes over, and how it is judged.

    rollout:
      target: gateway
      stages:
        - {shadow: 20, bake: 30}
        - {canary: 10, bake: 60, approval: human}
        - {live: 100}
      metrics:
        - {metric: errors, worse_by: 0.005}
        - {metric: latency, at_most: 0.2}

A strategy is a list of stages that has a name; ``stages`` says another one.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Declared, Listed, Share

KINDS = ("shadow", "standby", "canary", "ab", "rolling", "live")
"""Kinds of stage, in the order in which they may follow each other."""
SERVING = ("canary", "ab", "rolling")
"""Kinds in which the challenger answers requests."""
STRATEGIES: dict[str, tuple[dict[str, int], ...]] = {
    "canary": ({"shadow": 100}, {"canary": 10}, {"canary": 50}, {"live": 100}),
    "shadow": ({"shadow": 100}, {"live": 100}),
    "blue_green": ({"standby": 100}, {"live": 100}),
    "ab": ({"ab": 50}, {"live": 100}),
    "rolling": ({"rolling": 25}, {"rolling": 50}, {"rolling": 75}, {"live": 100}),
}
"""The stages of each strategy, where none are declared."""
LIVE_TARGETS = ("gateway", "sagemaker")
"""Targets that answer requests as they come, so that a stage lasts minutes and not partitions."""
PLANNED_LOOKS = 5
MetricKind = Literal["label", "errors", "latency", "predictions", "kpi", "prometheus"]


class RolloutStage(Declared):
    """One stage: exactly one of shadow, standby, canary, ab, rolling and live, with its share in percent."""

    shadow: Share | None = Field(default=None, description="the challenger predicts beside the champion, answers none")
    standby: Share | None = Field(default=None, description="the challenger is loaded and warm, and sees nothing")
    canary: Share | None = Field(default=None, description="the challenger serves this share of the keys")
    ab: Share | None = Field(default=None, description="as canary, but judged once, at the end")
    rolling: Share | None = Field(default=None, description="the challenger serves on this share of the replicas")
    live: Share | None = Field(default=None, description="the challenger becomes the champion")
    bake: int = Field(default=0, ge=0, description="least time: scored partitions for batch, otherwise minutes")
    sample: int | None = Field(
        default=None, ge=2, description="requests of the challenger that its looks are planned on"
    )
    max_wait: int | None = Field(
        default=None, ge=1, description="time after which an undecided stage is rolled back, counted as ``bake``"
    )
    approval: Literal["none", "human"] = Field(default="none", description="human: a person lets the stage begin")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"needs exactly one of {', '.join(KINDS)}")
        if self.live is not None and (self.bake or self.sample or self.max_wait):
            raise ValueError("bake goes with a stage before live: once live, there is nothing to wait for")
        if self.max_wait is not None and self.max_wait <= self.bake:
            raise ValueError(f"max_wait ({self.max_wait}) must exceed bake ({self.bake})")
        return self

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def share(self) -> int:
        """Percent of the keys, or of the replicas, that the stage concerns."""
        return int(getattr(self, self.kind))

    @property
    def exposed(self) -> int:
        """Percent of the keys or replicas that the challenger answers."""
        return self.share if self.kind in SERVING else 0

    @property
    def name(self) -> str:
        """Name of the stage, as in task ids and records: ``canary_10``."""
        return f"{self.kind}_{self.share}"


class OnlineMetric(Declared):
    """One thing by which a challenger is judged while it is rolled out."""

    metric: MetricKind = Field(
        description="label: the loop's metric once labels are there; errors: share of requests it failed; latency: "
        "a quantile in seconds; predictions: distance of the two versions' predictions; kpi: a value for each key "
        "from SQL; prometheus: one number for each version"
    )
    name: str | None = Field(default=None, description="what to call it, where a kind is declared twice")
    at_most: float | None = Field(
        default=None, description="what the challenger's own value may be at most, whatever ``better`` says"
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
    def _complete(self) -> Self:
        asked = self.metric in ("kpi", "prometheus")
        if asked != (self.query is not None) or asked != (self.conn_id is not None):
            raise ValueError(f"{self.metric} {'needs' if asked else 'has no'} query and conn_id")
        if self.metric == "prometheus" and "$version" not in str(self.query):
            raise ValueError("query: $version must stand in it, or both versions would have the same number")
        if self.metric in ("latency", "prometheus") and self.at_most is None and self.worse_by is None:
            raise ValueError(f"{self.metric} needs a limit: at_most, worse_by, or both")
        return self

    @property
    def called(self) -> str:
        """What the metric is called in records and reports."""
        return self.name or self.metric


class Rollout(Declared):
    """How a challenger takes over."""

    target: Literal["batch", "gateway", "sagemaker"] = Field(
        default="batch", description="who serves: predictions made for each partition, the gateway, or an endpoint"
    )
    strategy: Literal["canary", "shadow", "blue_green", "ab", "rolling"] = Field(
        default="canary", description="stages that have a name; ``stages`` says others"
    )
    approval: Literal["none", "human"] = Field(
        default="none", description="human: a person who did not start the run approves before the rollout"
    )
    stages: Annotated[tuple[RolloutStage, ...], Listed] = Field(
        default=(), validate_default=True, description="in order, growing, the last {live: 100}"
    )
    margin: float = Field(default=0.10, gt=0, description="relative loss at which a challenger is worse")
    min_rows: int = Field(default=100, ge=2, description="labelled rows, or requests, that a look needs")
    looks: int = Field(default=PLANNED_LOOKS, ge=1, le=100, description="looks planned for each stage")
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="chance to stop a challenger that is exactly at the margin, over all looks and metrics of a stage",
    )
    metrics: Annotated[tuple[OnlineMetric, ...], Listed] = Field(
        default=(), description="what decides; by default label on batch, elsewhere errors and predictions"
    )

    @model_validator(mode="before")
    @classmethod
    def _stages_of_the_strategy(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "stages" not in fields:
            named = STRATEGIES.get(str(fields.get("strategy", "canary")))
            return fields if named is None else {**fields, "stages": named}
        return fields

    @model_validator(mode="after")
    def _ends_live(self) -> Self:
        if not self.stages or self.stages[-1].live != 100:
            raise ValueError("the last stage must be {live: 100}")
        ranks = [(KINDS.index(stage.kind), stage.share) for stage in self.stages]
        exposed = [stage.exposed for stage in self.stages if stage.kind in SERVING]
        if any(second <= first for first, second in pairwise(ranks)) or exposed != sorted(exposed):
            raise ValueError(f"stages must rise: {', '.join(KINDS)}, each with growing shares")
        return self

    @model_validator(mode="after")
    def _target_can(self) -> Self:
        kinds = {stage.kind for stage in self.stages}
        if self.target == "batch" and kinds & {"standby", "rolling"}:
            raise ValueError("standby and rolling need a target that keeps models loaded: gateway or sagemaker")
        if self.target == "sagemaker" and "rolling" in kinds:
            raise ValueError("rolling needs replicas that are told one by one, as those of the gateway; use canary")
        names = [metric.called for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"metrics: {', '.join(names)}: each needs a name of its own")
        known = {"label", "kpi", "prometheus"} if self.target == "batch" else None
        strange = [metric.metric for metric in self.metrics if known is not None and metric.metric not in known]
        if strange:
            raise ValueError(f"metrics: {strange[0]} is measured where requests are answered; not with target batch")
        if "rolling" in kinds and any(metric.metric == "kpi" for metric in self.metrics):
            raise ValueError("metrics: kpi tells versions apart by their keys, and on replicas each answers any key")
        return self

    @property
    def judged_by(self) -> tuple[OnlineMetric, ...]:
        """The declared metrics, or those of the target where none are declared."""
        return self.metrics or self.judged_by_default

    @property
    def judged_by_default(self) -> tuple[OnlineMetric, ...]:
        """What every target can say: labels on batch, elsewhere errors, and how alike the predictions are."""
        by_target: dict[str, tuple[MetricKind, ...]] = {
            "batch": ("label",),
            "gateway": ("errors", "predictions"),
            "sagemaker": ("errors",),
        }
        return tuple(OnlineMetric(metric=kind) for kind in by_target[self.target])

    @property
    def is_live(self) -> bool:
        """Whether requests are answered as they come, so that stages last minutes."""
        return self.target in LIVE_TARGETS
