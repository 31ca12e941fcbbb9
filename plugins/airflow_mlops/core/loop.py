"""What a user declares: one model and how it is kept fresh.

The same fields in YAML and in Python. Every model here is strict: an unknown key, a wrong type or a
template is an error and nothing is coerced. ``loop_file`` reads the YAML and says the line.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from airflow_mlops.core.errors import DeclarationError

MetricName = Literal["mae", "rmse", "log_loss", "brier", "accuracy"]
CLASSIFICATION_METRICS = frozenset({"log_loss", "brier", "accuracy"})

Share = Annotated[int, Field(ge=1, le=100, description="percent")]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:name")]
Cron = Annotated[
    str,
    Field(pattern=r"^(@(hourly|daily|weekly|monthly|quarterly|yearly)|[\d*/,LW#?A-Za-z-]+( [\d*/,LW#?A-Za-z-]+){4})$"),
]
Day = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
# A list in YAML is a tuple here, so that a declaration is immutable and hashable as a whole.
Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


class Declared(BaseModel):
    """Base of everything a user declares: strict, immutable, and closed to unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False
    )  # fmt: skip


class Limits(Declared):
    """How much a partition may hold; more is refused, from the file's own footer wherever it has one."""

    rows: int = Field(default=100_000_000, ge=1, description="rows of a partition")
    cells: int = Field(default=1_000_000_000, ge=1, description="rows times columns of a partition")
    bytes: int = Field(default=64_000_000_000, ge=1, description="bytes of a partition once they are decompressed")


def _names_the_partition(text: str) -> str:
    if not re.search(r"\{(partition|year|month|day|hour)\}", text):
        raise ValueError("must hold {partition}, the place of the partition's date, or {year}, {month}, {day}, {hour}")
    return text


Template = Annotated[str, AfterValidator(_names_the_partition)]


class ParquetSource(Declared):
    """Parquet files: one for each partition, or several that a ``*`` stands for."""

    kind: Literal["parquet"] = Field(description="which kind of source")
    uri: Template = Field(description="path with {partition} in it, relative to the project folder, or s3://bucket/key")
    conn_id: str | None = Field(default=None, description="Airflow connection of type aws, for s3://")


class CsvSource(Declared):
    """CSV files, plain or compressed (.gz, .bz2, .zst, .xz); they carry no types, so a contract is required."""

    kind: Literal["csv"] = Field(description="which kind of source")
    uri: Template = Field(description="path with {partition} in it, relative to the project folder, or s3://bucket/key")
    conn_id: str | None = Field(default=None, description="Airflow connection of type aws, for s3://")
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="character between two values")


class SqlSource(Declared):
    """A table, or a query with ``:start`` and ``:end``, of any database that Airflow has a DB-API connection to."""

    kind: Literal["sql"] = Field(description="which kind of source")
    conn_id: str = Field(description="Airflow connection of the database")
    table: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,2}$")] | None = Field(
        default=None, description="table; the rows of a partition are told by the declared time column"
    )
    query: str | None = Field(
        default=None, description="one SELECT that binds :start and :end, the ticks between which the partition lies"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> SqlSource:
        if (self.table is None) == (self.query is None):
            raise ValueError("needs exactly one of table, query")
        if self.query is not None and not (":start" in self.query and ":end" in self.query):
            raise ValueError("query must bind :start and :end, or every partition holds every row")
        return self


class Pages(Declared):
    """How a paged answer goes on: by a link in it, or by counting pages until one is empty."""

    next: str | None = Field(default=None, description="dotted path of the next page's address, or header:Link")
    number: str | None = Field(default=None, description="query parameter with the number of the page")
    first: int = Field(default=1, ge=0, description="number of the first page")

    @model_validator(mode="after")
    def _one_of_both(self) -> Pages:
        if (self.next is None) == (self.number is None):
            raise ValueError("needs exactly one of next, number")
        return self


class HttpSource(Declared):
    """Answers of an HTTP service, as JSON or CSV; they carry no types, so a contract is required."""

    kind: Literal["http"] = Field(description="which kind of source")
    conn_id: str = Field(description="Airflow connection of type http: address, login, password, headers")
    path: Template = Field(description="path and query with {partition} in it, below the connection's address")
    format: Literal["json", "csv"] = Field(default="json", description="what the answers hold")
    records: str | None = Field(
        default=None, description="dotted path of the list of records in a JSON answer; the answer itself if not given"
    )
    pages: Pages | None = Field(default=None, description="how the answer goes on; one page if not given")
    attempts: int = Field(default=5, ge=1, le=20, description="tries of one page, with growing pauses between them")
    timeout: int = Field(default=60, ge=1, le=3600, description="seconds that one page may take")


FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w-]*:[A-Za-z_][\w-]*$", description="view:feature")]


class FeastSource(Declared):
    """Entity rows of another source, joined with what a Feast feature repository knew at the time of each row."""

    kind: Literal["feast"] = Field(description="which kind of source")
    repo: str = Field(min_length=1, description="folder of feature_store.yaml, relative to the project folder")
    feature_service: str | None = Field(default=None, min_length=1, description="feature service that names the views")
    features: Annotated[tuple[FeatureName, ...], Listed] = Field(
        default=(), description="features as view:feature; either these or a feature service"
    )
    entities: Annotated[ParquetSource | SqlSource, Field(discriminator="kind")] = Field(
        description="source of the rows that features are joined to: entity keys, time, key and label"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> FeastSource:
        if (self.feature_service is None) == (not self.features):
            raise ValueError("needs exactly one of feature_service, features")
        return self


AnySource = Annotated[ParquetSource | CsvSource | SqlSource | HttpSource | FeastSource, Field(discriminator="kind")]
Severity = Literal["critical", "warning", "info"]


class Checks(Declared):
    """What a partition is held against in the loop's own history; critical refuses, warning is told, info noted."""

    row_count: Severity = Field(default="warning", description="far more or fewer rows than the partitions before")
    duplicates: Severity = Field(default="warning", description="a larger share of rows that differ in the key alone")
    label: Severity = Field(default="warning", description="another mean or rate of the label")
    categories: Severity = Field(default="warning", description="a share of values never seen before in a column")
    one_value: Severity = Field(default="warning", description="one value takes a far larger share of a text column")
    constant: Severity = Field(default="warning", description="a column that used to vary holds one value")
    empty: Severity = Field(default="critical", description="a column that used to hold values is null throughout")
    leakage: Severity = Field(default="critical", description="a feature that nearly is the label, or is known later")
    at_least: int = Field(default=6, ge=2, description="partitions of history below which nothing is said")


class Retention(Declared):
    """For how many of the newest partitions a table is kept; what a registered model needs is kept as well."""

    snapshots: int | None = Field(default=None, ge=1, description="partitions of snapshots; all if not given")
    predictions: int | None = Field(default=None, ge=1, description="partitions of predictions; all if not given")
    quarantine: int | None = Field(default=None, ge=1, description="partitions of bad rows; all if not given")


class Data(Declared):
    """Where rows come from, how often, and which columns carry a meaning."""

    source: AnySource = Field(description="where the rows of a partition come from")
    every: Cron = Field(default="@weekly", description="cron expression; one partition for each tick")
    from_: Day | None = Field(default=None, alias="from", description="first tick, an ISO date")
    until: Day | None = Field(default=None, description="last tick, an ISO date")
    contract: str | None = Field(
        default=None, description="path of the contract; without one, the first partition says what columns there are"
    )
    key: str = Field(description="column that tells rows apart; never null, never twice in a partition")
    time: str = Field(description="column with the time of the row; a model never sees it")
    label: str = Field(description="column to predict; null where the label has not arrived")
    expectations: str | None = Field(default=None, description="path of a Great Expectations suite")
    tolerance: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="share of rows that may go to quarantine before the partition is refused",
    )
    features: Reference | None = Field(
        default=None, description="function that makes the features of a frame; without one, the columns are they"
    )
    limits: Limits = Field(default=Limits(), description="how much a partition may hold")
    checks: Checks = Field(default=Checks(), description="what a partition is held against in the loop's history")
    retention: Retention = Field(default=Retention(), description="how long rows are kept")

    @model_validator(mode="after")
    def _types_come_from_somewhere(self) -> Data:
        if self.source.kind in ("csv", "http") and self.contract is None:
            raise ValueError(f"a {self.source.kind} source carries no types: declare data.contract")
        return self


class Train(Declared):
    """Which function gives the candidates, and on which partitions they are fitted."""

    function: Reference
    window: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        default="all", description="newest partitions that a model is fitted on, those of the holdout not counted"
    )
    at_least: int | None = Field(
        default=None, ge=1, description="partitions before the first training; the window if that is a number"
    )
    holdout: int = Field(default=1, ge=1, description="newest partitions, kept for the gates")
    at: Cron = Field(default="0 2 * * *", description="cron expression of the nightly decision")
    seed: int = Field(default=0, description="what the training function is called with")

    @property
    def first_at(self) -> int:
        """Published partitions that the first training waits for."""
        fitted = self.at_least or (self.window if isinstance(self.window, int) else 1)
        return fitted + self.holdout


class Gate(Declared):
    """One condition a candidate must meet on the holdout."""

    metric: MetricName = Field(description="metric of the candidate on the holdout")
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
    def _one_limit(self) -> Gate:
        limits = [self.at_most, self.at_least, self.no_worse_than_champion_by]
        if sum(limit is not None for limit in limits) != 1:
            raise ValueError("needs exactly one of at_most, at_least, no_worse_than_champion_by")
        if self.slices and self.no_worse_than_champion_by is not None:
            raise ValueError("slices go with at_most or at_least")
        return self


class RolloutStage(Declared):
    """One stage: exactly one of shadow, canary and live, with its share of the keys in percent."""

    shadow: Share | None = Field(default=None, description="the challenger predicts beside the champion, serves none")
    canary: Share | None = Field(default=None, description="the challenger serves this share of the keys")
    live: Share | None = Field(default=None, description="the challenger becomes the champion")
    bake: int = Field(default=0, ge=0, description="further scored partitions to wait for")

    @model_validator(mode="after")
    def _one_kind(self) -> RolloutStage:
        if sum(share is not None for share in (self.shadow, self.canary, self.live)) != 1:
            raise ValueError("needs exactly one of shadow, canary, live")
        if self.live is not None and self.bake:
            raise ValueError("bake goes with shadow or canary: once live, there is nothing to wait for")
        return self

    @property
    def kind(self) -> str:
        """``shadow``, ``canary`` or ``live``."""
        return "shadow" if self.shadow else "canary" if self.canary else "live"

    @property
    def share(self) -> int:
        """Percent of the keys that the stage concerns."""
        return self.shadow or self.canary or self.live or 0

    @property
    def name(self) -> str:
        """Name of the stage, as in task ids and records: ``canary_10``."""
        return f"{self.kind}_{self.share}"


class Rollout(Declared):
    """How a challenger takes over."""

    target: Literal["batch"] = Field(default="batch", description="who serves: predictions made for each partition")
    approval: Literal["none"] = Field(default="none", description="whether a person is asked before the rollout")
    stages: Annotated[tuple[RolloutStage, ...], Listed] = Field(
        default=(RolloutStage(shadow=100), RolloutStage(canary=10), RolloutStage(canary=50), RolloutStage(live=100)),
        description="in order: shadow, then canary with growing shares, then {live: 100}",
    )
    margin: float = Field(default=0.10, gt=0, description="relative loss at which a challenger is worse")
    min_rows: int = Field(default=100, ge=2, description="labelled rows a verdict needs")

    @model_validator(mode="after")
    def _ends_live(self) -> Rollout:
        if not self.stages or self.stages[-1].live != 100:
            raise ValueError("the last stage must be {live: 100}")
        order = ["shadow", "canary", "live"]
        ranks = [(order.index(stage.kind), stage.share) for stage in self.stages]
        if any(second <= first for first, second in pairwise(ranks)):
            raise ValueError("stages must rise: shadow, then canary with growing shares, then live")
        return self


class Drift(Declared):
    """A calibrated alarm on the inputs."""

    alarm_rate: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="share of windows without drift that alarm, all columns together",
    )
    min_effect: float = Field(
        default=0.1, ge=0, lt=1, description="total variation distance below which a shift is no matter"
    )


class Performance(Declared):
    """An alarm on the champion's metric once labels have arrived."""

    metric: MetricName = Field(description="also the metric by which candidates are compared")
    worse_by: float = Field(default=0.10, gt=0, description="relative loss against the value on the holdout")
    min_rows: int = Field(default=100, ge=2, description="labelled rows a verdict needs")


class Watch(Declared):
    """What is watched on every partition."""

    drift: Drift | None = Field(default=None, description="not watched if not declared")
    performance: Performance | None = Field(default=None, description="not watched if not declared")


class Alarm(Declared):
    """k of n: how many of the newest windows must alarm."""

    windows: int = Field(default=2, ge=1, description="k: so many windows must alarm; at most ``of``")
    of: int = Field(default=3, ge=1, description="n: of so many of the newest windows that this champion scored")

    @model_validator(mode="after")
    def _within(self) -> Alarm:
        if self.windows > self.of:
            raise ValueError(f"windows ({self.windows}) must not exceed of ({self.of})")
        return self


class Clock(Declared):
    """Retrain when so many partitions have passed since the last retrain."""

    clock: int = Field(ge=1, description="partitions")
    or_alarm: bool = Field(default=False, description="also retrain as soon as k of n windows alarm")


class Retrain(Declared):
    """When a new model is worth its cost."""

    policy: Literal["alarm", "never"] | Clock = Field(
        default="alarm", description="what asks for a retrain; ``never`` leaves it to a person"
    )
    alarm: Alarm = Field(default=Alarm(), description="how many windows must alarm")
    cooldown: int = Field(default=2, ge=0, description="partitions between two retrains")
    budget: int = Field(default=13, ge=1, description="promotions for every 52 partitions")


class Loop(Declared):
    """One model and how Airflow keeps it fresh."""

    model: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="name of the model; its Dags, assets and ledger carry it"
    )
    owner: str = Field(description="owner of the Dags, as Airflow shows it")
    data: Data = Field(description="where rows come from")
    train: Train = Field(description="what is fitted, on what")
    gates: Annotated[tuple[Gate, ...], Listed] = Field(
        min_length=1, description="what a candidate must show; all must hold, and metrics are of one kind"
    )
    rollout: Rollout = Field(default=Rollout(), description="how a challenger takes over")
    watch: Watch = Field(default=Watch(), description="what is watched on every partition")
    retrain: Retrain = Field(default=Retrain(), description="when a new model is worth its cost")
    notify: Annotated[tuple[Reference, ...], Listed] = Field(
        default=(),
        description="Airflow notifiers or callbacks called when a task of the loop fails, or its validation warns",
    )

    def __init__(self, /, **fields: Any) -> None:
        """Validate ``fields``; a first mistake is one :class:`DeclarationError`."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise declaration_error(error) from None

    @model_validator(mode="after")
    def _one_kind_of_metric(self) -> Loop:
        metrics = {gate.metric for gate in self.gates}
        if self.watch.performance:
            metrics.add(self.watch.performance.metric)
        if metrics & CLASSIFICATION_METRICS and metrics - CLASSIFICATION_METRICS:
            raise ValueError(f"mixes metrics of classification and regression: {', '.join(sorted(metrics))}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _no_templates(cls, fields: Any) -> Any:
        refuse_templates(fields)
        return fields

    @property
    def classifies(self) -> bool:
        """Whether the label is a class (0 or 1); told from the gates' metrics."""
        return self.gates[0].metric in CLASSIFICATION_METRICS

    @property
    def metric(self) -> MetricName:
        """The metric by which models of this loop are compared: the watched one, or the first gate's."""
        return self.watch.performance.metric if self.watch.performance else self.gates[0].metric

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration as JSON values, by the names a user writes."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def refuse_templates(value: Any, path: tuple[str | int, ...] = ()) -> None:
    """Raise :class:`DeclarationError` where a string below ``value`` holds a Jinja template.

    A rendered field is shown in the Airflow UI, so a template could print a secret there.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_templates(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_templates(item, (*path, index))
    elif isinstance(value, str) and re.search(r"\{\{|\{%", value):
        raise DeclarationError(
            f"holds a template: {value!r}; a declaration is never rendered, write the value", key=dotted(path)
        )


def dotted(path: tuple[str | int, ...]) -> str:
    """Return a path as people write it: ``gates[1].at_most``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def declaration_error(error: ValidationError) -> DeclarationError:
    """Return the first fault that pydantic found as one error: where, which value, the nearest valid key."""
    # An unknown key says more than the missing one it was a misspelling of.
    first = min(map(_without_union, error.errors()), key=lambda fault: fault["type"] != "extra_forbidden")
    unknown_key = first["type"] == "extra_forbidden"
    path, keys = follow(first["loc"], unknown_key=unknown_key)
    shown = repr(first["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    if unknown_key:
        message = f"unknown key (value {shown}); {nearest(str(path[-1]), keys)}"
    elif first["type"] == "missing":
        message = "is required and missing"
    else:
        message = f"{first['msg'].removeprefix('Value error, ')} (value {shown})"
    return DeclarationError(message, key=dotted(path))


def _without_union(fault: Any) -> dict[str, Any]:
    """Return a fault of a union told apart by ``kind`` as what a person did: a misspelt key, none, or no such kind."""
    if fault["type"] not in ("union_tag_not_found", "union_tag_invalid"):
        return dict(fault)
    loc, given, kind = fault["loc"], fault["input"], fault["ctx"]["discriminator"].strip("'")
    if fault["type"] == "union_tag_invalid":
        valid = [tag.strip(" '") for tag in fault["ctx"]["expected_tags"].split(",")]
        message = f"no such {kind}; {nearest(str(given[kind]), valid, what=f'{kind}s')}"
        return {"type": "value_error", "loc": (*loc, kind), "input": given[kind], "msg": message}
    strange = [key for key in given if len(follow((*loc, key), unknown_key=False)[0]) == len(loc)]
    if strange:
        return {"type": "extra_forbidden", "loc": (*loc, strange[0]), "input": given[strange[0]]}
    return {"type": "missing", "loc": (*loc, kind), "input": given}


def nearest(word: str, valid: list[str], *, what: str = "keys") -> str:
    """Return a hint that names the valid key nearest to ``word``, or all of them."""
    import difflib  # only needed once something is wrong

    close = difflib.get_close_matches(word, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid {what}: {', '.join(sorted(valid))}"


def follow(loc: tuple[str | int, ...], *, unknown_key: bool) -> tuple[tuple[str | int, ...], list[str]]:
    """Return ``loc`` without pydantic's own union tags, and the valid keys where its last part stands."""
    path: list[str | int] = []
    models: list[type[BaseModel]] = [Loop]
    keys: list[str] = []
    for position, part in enumerate(loc):
        names = {
            field.alias or name: field.annotation for model in models for name, field in model.model_fields.items()
        }
        tagged = [model for model in models if part in _kinds(model)]
        if isinstance(part, int):
            path.append(part)
        elif tagged and position < len(loc) - 1:
            models = tagged
        elif part in names:
            path.append(part)
            keys, models = list(names), models_in(names[part])
        elif unknown_key and position == len(loc) - 1:
            path.append(part)
            keys = list(names)
    return tuple(path), keys


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return the values of ``kind`` by which a union tells ``model`` from its others."""
    from typing import get_args

    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the declared models that an annotation mentions."""
    from typing import get_args

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]
