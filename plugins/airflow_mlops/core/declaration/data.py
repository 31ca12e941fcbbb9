"""The section ``data``: the source of rows and labels, and the checks before a model sees them."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from airflow_mlops.core.declaration.class_names import ClassName
from airflow_mlops.core.declaration.declared import Cron, Day, Declared, Listed, Reference, Zone, section
from airflow_mlops.core.declaration.key_columns import Key, identifying_columns, key_columns
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.declaration.path_template import is_template, require_placeholder
from airflow_mlops.core.declaration.text_form import TextForm


class Limits(Declared):
    """Size limits of a partition, checked from the footer of a file that has one."""

    rows: int = Field(default=100_000_000, ge=1, description="rows of a partition")
    cells: int = Field(default=1_000_000_000, ge=1, description="rows times columns of a partition")
    bytes: int = Field(default=64_000_000_000, ge=1, description="bytes of a partition once they are decompressed")


Template = Annotated[str, AfterValidator(require_placeholder)]


def _require_known_placeholder(text: str) -> str:
    if is_template(text):
        return require_placeholder(text)
    if "{" in text:
        raise ValueError(
            "holds a placeholder that is not known; there are {partition}, {start}, {end}, {year}, {month}, {day}, "
            "{hour}, and without any of them the files are cut by data.time"
        )
    return text


FileAddress = Annotated[str, Field(min_length=1), AfterValidator(_require_known_placeholder)]
FILE_ADDRESS = (
    "path with {partition}, {start} or {end} in it, relative to the project folder, or s3://bucket/key; without a "
    "placeholder it is one table of all partitions, cut by data.time"
)
Sign = Annotated[str, Field(min_length=1, max_length=1)]


def _require_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"names {repeated!r} more than once")
    return names


PathColumns = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Listed, AfterValidator(_require_distinct)]
PATH_COLUMNS = "columns whose values are in the path of a file, as in region=eu/; null is __HIVE_DEFAULT_PARTITION__"


class ParquetSource(Declared):
    """Parquet files: one for each partition, several that match a ``*``, or one of all partitions."""

    kind: Literal["parquet"] = Field(description="which kind of source")
    uri: FileAddress = Field(description=FILE_ADDRESS)
    conn_id: str | None = Field(default=None, description="Airflow connection of type aws, for s3://")
    path_columns: PathColumns = Field(default=(), description=PATH_COLUMNS)

    @property
    def is_cut_by_time(self) -> bool:
        """Whether the files hold the rows of all partitions."""
        return not is_template(self.uri)


class OrcSource(Declared):
    """ORC files: one for each partition, several that match a ``*``, or one of all partitions."""

    kind: Literal["orc"] = Field(description="which kind of source")
    uri: FileAddress = Field(description=FILE_ADDRESS)
    conn_id: str | None = Field(default=None, description="Airflow connection of type aws, for s3://")
    path_columns: PathColumns = Field(default=(), description=PATH_COLUMNS)

    @property
    def is_cut_by_time(self) -> bool:
        """Whether the files hold the rows of all partitions."""
        return not is_template(self.uri)


class CsvSource(Declared):
    """CSV files, plain or compressed (.gz, .bz2, .zst, .xz); they carry no types, so a contract is required."""

    kind: Literal["csv"] = Field(description="which kind of source")
    uri: FileAddress = Field(description=FILE_ADDRESS)
    conn_id: str | None = Field(default=None, description="Airflow connection of type aws, for s3://")
    path_columns: PathColumns = Field(default=(), description=PATH_COLUMNS)
    delimiter: Sign = Field(default=",", description="character between two values")
    quote: Sign | None = Field(default='"', description="character around a value; null if quotes have no meaning")
    escape: Sign | None = Field(
        default=None, description="character that takes the meaning from the next; none by default, as in RFC 4180"
    )
    comment: Sign | None = Field(default=None, description="character that begins a line to be skipped")
    encoding: str = Field(default="utf-8", description="encoding of the text: utf-8, cp1252, utf-16, …")
    skip_rows: int = Field(default=0, ge=0, le=1000, description="lines before the header that are skipped")
    header: bool | Annotated[tuple[str, ...], Listed] = Field(
        default=True,
        description="true: the first row names the columns; a list of names, or false for those of the contract in "
        "their order, where no row does",
    )
    decimal: Literal[".", ","] = Field(default=".", description="character before the fraction of a number")
    thousands: Sign | None = Field(default=None, description="character between groups of three digits")
    true_values: Annotated[tuple[str, ...], Listed] = Field(
        default=("true", "t"), min_length=1, description="words for true, in any case"
    )
    false_values: Annotated[tuple[str, ...], Listed] = Field(
        default=("false", "f"), min_length=1, description="words for false, in any case"
    )
    nulls: Annotated[tuple[str, ...], Listed] | None = Field(
        default=None, description="texts that mean null; those of the contract if not given"
    )

    @model_validator(mode="after")
    def _require_distinct_signs(self) -> Self:
        signs = [(name, getattr(self, name)) for name in ("delimiter", "quote", "escape", "comment")]
        for place, (name, sign) in enumerate(signs):
            same = next((other for other, taken in signs[:place] if sign is not None and taken == sign), None)
            if same is not None:
                raise ValueError(f"{name} and {same} are both {sign!r}; each sign has one meaning")
        if self.thousands is not None and self.thousands in (self.decimal, self.delimiter):
            raise ValueError(f"thousands is {self.thousands!r}, which is the decimal sign or the delimiter already")
        both = {word.lower() for word in self.true_values} & {word.lower() for word in self.false_values}
        if both:
            raise ValueError(f"{min(both)!r} is among true_values and false_values")
        return self

    @property
    def is_cut_by_time(self) -> bool:
        """Whether the files hold the rows of all partitions."""
        return not is_template(self.uri)

    @property
    def text_form(self) -> TextForm:
        """The written form of the values."""
        return TextForm(self.decimal, self.thousands, self.true_values, self.false_values, self.nulls)


class JsonSource(Declared):
    """JSON lines, plain or compressed (.gz, .bz2, .zst, .xz): one object on each line; a contract is required."""

    kind: Literal["json"] = Field(description="which kind of source")
    uri: Template = Field(description="path with {partition} in it, relative to the project folder, or s3://bucket/key")
    conn_id: str | None = Field(default=None, description="Airflow connection of type aws, for s3://")


class XlsxSource(Declared):
    """A sheet of Excel workbooks: one for each partition, several that match a ``*``, or one of all partitions."""

    kind: Literal["xlsx"] = Field(description="which kind of source")
    uri: FileAddress = Field(description=FILE_ADDRESS)
    conn_id: str | None = Field(default=None, description="Airflow connection of type aws, for s3://")
    sheet: str | None = Field(default=None, min_length=1, description="name of the sheet; the first one if not given")
    skip_rows: int = Field(default=0, ge=0, le=1000, description="rows above the header that are skipped")
    header: bool | Annotated[tuple[str, ...], Listed] = Field(
        default=True,
        description="true: the first row with a value names the columns; a list of names, or false for those of the "
        "contract in their order, where no row does",
    )

    @property
    def is_cut_by_time(self) -> bool:
        """Whether the workbooks hold the rows of all partitions."""
        return not is_template(self.uri)


def _require_no_placeholder(text: str) -> str:
    if "{" in text:
        raise ValueError("is one table of all partitions, cut by data.time; it takes no placeholder")
    return text


class DeltaSource(Declared):
    """A Delta table of all partitions, cut by data.time and read in one version, which the ledger records."""

    kind: Literal["delta"] = Field(description="which kind of source")
    uri: Annotated[str, Field(min_length=1), AfterValidator(_require_no_placeholder)] = Field(
        description="folder of the table, relative to the project folder, or s3://bucket/key"
    )
    conn_id: str | None = Field(default=None, description="Airflow connection of type aws, for s3://")
    version: int | None = Field(default=None, ge=0, description="version of the table; the newest if not given")


class IcebergSource(Declared):
    """An Iceberg table of all partitions, cut by data.time and read at one snapshot, which the ledger records."""

    kind: Literal["iceberg"] = Field(description="which kind of source")
    conn_id: str = Field(description="Airflow connection of type iceberg: its extra holds the catalogue's properties")
    table: Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)+$")] = Field(
        description="namespace and name of the table, as shop.sales"
    )
    snapshot: int | None = Field(default=None, ge=1, description="id of a snapshot; the current one if not given")


class SqlSource(Declared):
    """A table, or a query with ``:start`` and ``:end``, of a database with a DB-API connection in Airflow."""

    kind: Literal["sql"] = Field(description="which kind of source")
    conn_id: str = Field(description="Airflow connection of the database")
    table: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,2}$")] | None = Field(
        default=None, description="table; the time column assigns its rows to partitions"
    )
    query: str | None = Field(
        default=None,
        description="one SELECT that binds :start and :end, the first and last tick of the partition, in UTC",
    )

    @model_validator(mode="after")
    def _require_exactly_one(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("needs exactly one of table, query")
        # Without both bounds each partition would be the whole table.
        if self.query is not None and not (":start" in self.query and ":end" in self.query):
            raise ValueError("query must bind :start and :end, or every partition holds every row")
        return self


class Pages(Declared):
    """Pagination of an answer: by a link to the next page, or by page numbers until a page is empty."""

    next: str | None = Field(default=None, description="dotted path of the next page's address, or header:Link")
    number: str | None = Field(default=None, description="query parameter with the number of the page")
    first: int = Field(default=1, ge=0, description="number of the first page")

    @model_validator(mode="after")
    def _require_exactly_one(self) -> Self:
        if (self.next is None) == (self.number is None):
            raise ValueError("needs exactly one of next, number")
        return self


class HttpSource(Declared):
    """Answers of an HTTP service as JSON or CSV; they carry no types, so a contract is required."""

    kind: Literal["http"] = Field(description="which kind of source")
    conn_id: str = Field(description="Airflow connection of type http: address, login, password, headers")
    path: Template = Field(
        description="path and query with {partition}, {start} or {end} in it, below the connection's address"
    )
    format: Literal["json", "csv"] = Field(default="json", description="format of the answers")
    records: str | None = Field(
        default=None, description="dotted path of the list of records in a JSON answer; the answer itself if not given"
    )
    pages: Pages | None = Field(default=None, description="pagination of the answer; one page if not given")
    attempts: int = Field(default=5, ge=1, le=20, description="tries of one page, with growing pauses between them")
    timeout: int = Field(default=60, ge=1, le=3600, description="seconds that one page may take")


FeatureName = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*:[A-Za-z_][A-Za-z0-9_-]*$", description="view:feature")
]


class FeastSource(Declared):
    """Entity rows of another source, joined point in time with the features of a Feast repository."""

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
    def _require_exactly_one(self) -> Self:
        if (self.feature_service is None) == (not self.features):
            raise ValueError("needs exactly one of feature_service, features")
        return self


AnySource = Annotated[
    ParquetSource
    | OrcSource
    | CsvSource
    | JsonSource
    | DeltaSource
    | IcebergSource
    | SqlSource
    | HttpSource
    | FeastSource
    | XlsxSource,
    Field(discriminator="kind"),
]
LabelSource = Annotated[
    ParquetSource
    | OrcSource
    | CsvSource
    | JsonSource
    | DeltaSource
    | IcebergSource
    | SqlSource
    | HttpSource
    | XlsxSource,
    Field(discriminator="kind"),
]
Severity = Literal["critical", "warning", "info"]


class Labels(Declared):
    """Labels from a separate source: one delivery for each tick, joined to the rows by their key."""

    source: LabelSource = Field(description="source of the labels; one delivery for each tick")
    delay: int = Field(
        ge=0,
        le=1000,
        description="partitions after its own in which the label of a row may arrive; later labels are ignored",
    )
    key: Key | None = Field(
        default=None,
        description="column of a delivery with the row's key, or a list in the order of data.key; that if not given",
    )
    label: str | None = Field(default=None, description="column of a delivery with the label; data.label if not given")
    time: str | None = Field(
        default=None, description="column of a table with the arrival time of a label; data.time if not given"
    )

    @model_validator(mode="after")
    def _require_deliveries(self) -> Self:
        source = self.source
        if self.time is not None:
            return self
        if source.kind in ("delta", "iceberg"):
            raise ValueError(
                f"source of kind {source.kind} is one table of all deliveries: declare time, the column with the "
                "arrival time of a label, by which it is cut into deliveries"
            )
        if isinstance(source, ParquetSource | OrcSource | CsvSource | XlsxSource) and source.is_cut_by_time:
            raise ValueError(
                f"source.uri {source.uri!r} must hold {{partition}}, or declare time, the column with the arrival time "
                "of a label, by which the file is cut into deliveries"
            )
        return self


class Checks(Declared):
    """Checks of a partition against the loop's history; critical refuses, warning notifies, info is recorded."""

    row_count: Severity = Field(default="warning", description="far more or fewer rows than the partitions before")
    duplicates: Severity = Field(default="warning", description="a larger share of rows that differ in the key alone")
    label: Severity = Field(default="warning", description="a shift of the label's mean or rate")
    categories: Severity = Field(default="warning", description="a share of values never seen before in a column")
    one_value: Severity = Field(default="warning", description="one value takes a far larger share of a text column")
    constant: Severity = Field(default="warning", description="a column that used to vary holds one value")
    empty: Severity = Field(default="critical", description="a column that used to hold values is null throughout")
    leakage: Severity = Field(
        default="critical", description="a feature that nearly equals the label, or is known after it"
    )
    at_least: int = Field(default=6, ge=2, description="partitions of history that a check needs")


class Retention(Declared):
    """Number of newest partitions kept of each table; partitions of a registered model are kept too."""

    snapshots: int | None = Field(default=None, ge=1, description="partitions of snapshots; all if not given")
    predictions: int | None = Field(default=None, ge=1, description="partitions of predictions; all if not given")
    quarantine: int | None = Field(default=None, ge=1, description="partitions of bad rows; all if not given")

    @property
    def is_declared(self) -> bool:
        """Whether retention of any table is limited."""
        return any(limit is not None for limit in (self.snapshots, self.predictions, self.quarantine))


class Data(Declared):
    """The source of rows, its schedule, and the columns with a role."""

    source: AnySource = Field(description="source of the rows of a partition")
    every: Cron = Field(default="@weekly", description="cron expression; one partition for each tick")
    timezone: Zone = Field(
        default="UTC",
        description="IANA name of the time zone whose clock every, from and until are read on; keys stay in UTC",
    )
    from_: Day | None = Field(default=None, alias="from", description="first tick, an ISO date")
    until: Day | None = Field(default=None, description="last tick, an ISO date")
    contract: str | None = Field(
        default=None, description="path of the contract; without one, the first partition fixes the columns"
    )
    key: Key = Field(
        description="column that identifies a row, or a list of columns that do together; never null, unique in a "
        "partition"
    )
    time: str = Field(description="column with the time of the row; a model never sees it")
    label: str = Field(description="column to predict; null where the label has not arrived")
    classes: Annotated[tuple[ClassName, ...], Listed] | None = Field(
        default=None,
        min_length=2,
        max_length=100,
        description="classes of the label as the data has them, text or integers; without them a label of classes is "
        "0 or 1, false or true",
    )
    positive: ClassName | None = Field(
        default=None, description="of two classes, the one whose probability is predicted; the second if not given"
    )
    labels: Labels | None = Field(
        default=None,
        description="separate source of labels; then the label need not be a column of the rows",
    )
    expectations: str | None = Field(default=None, description="path of a Great Expectations suite")
    tolerance: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="share of rows that may go to quarantine before the partition is refused",
    )
    features: Reference | None = Field(
        default=None,
        description="function that computes the features from a frame; the columns themselves if not given",
    )
    limits: Limits = section("size limits of a partition")
    checks: Checks = section("checks of a partition against the loop's history")
    retention: Retention = section("number of partitions that are kept")

    @model_validator(mode="after")
    def _require_typed_columns(self) -> Self:
        if self.source.kind in ("csv", "json", "http", "xlsx") and self.contract is None:
            raise ValueError(f"a {self.source.kind} source carries no types: declare data.contract")
        return self

    @model_validator(mode="after")
    def _require_classes(self) -> Self:
        classes = self.classes or ()
        if len({str(name) for name in classes}) < len(classes):
            raise ValueError(f"classes: two of {', '.join(map(str, classes))} are the same; write each class once")
        if self.positive is not None and (len(classes) != 2 or self.positive not in classes):
            raise ValueError(
                f"positive is {self.positive!r}, and it is one of two declared classes; classes has "
                f"{', '.join(map(str, classes)) or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _require_fitting_keys(self) -> Self:
        if self.label in self.key_columns:
            raise ValueError(
                f"key: {self.label!r} is the label, which a key cannot hold: it may arrive later, or change"
            )
        delivered = self.labels.key if self.labels is not None else None
        if delivered is not None and len(key_columns(delivered)) != len(self.key_columns):
            raise ValueError(
                f"labels.key names {', '.join(key_columns(delivered))}, and key {', '.join(self.key_columns)}: name as "
                "many columns, in the same order"
            )
        return self

    @model_validator(mode="after")
    def _require_ordered_days(self) -> Self:
        if self.from_ is not None and self.until is not None and self.until < self.from_:
            raise ValueError(f"until: {self.until} lies before from: {self.from_}, so that no partition is left")
        return self

    @model_validator(mode="after")
    def _require_time_in_rows(self) -> Self:
        source = self.source
        if not isinstance(source, ParquetSource | OrcSource | CsvSource):
            return self
        if source.is_cut_by_time and self.time in source.path_columns:
            raise ValueError(
                f"time: {self.time!r} is among path_columns, and files without a placeholder are cut by the times in "
                f"their rows; write the folder as a placeholder, as in {self.time}={{partition}}/"
            )
        return self

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The declared columns of the key; ``key`` is the one column that holds the whole of it."""
        return key_columns(self.key)

    @property
    def key_and_time(self) -> frozenset[str]:
        """Columns that no model sees: the key, its parts, and the time."""
        return identifying_columns(self.key) | {self.time}

    @property
    def schedule(self) -> PartitionSchedule:
        """The ticks of the partitions."""
        return PartitionSchedule(self.every, self.timezone)

    @property
    def first_moment(self) -> str | None:
        """The first instant of the day ``from``, as a key."""
        return None if self.from_ is None else self.schedule.start_of(self.from_)

    @property
    def last_moment(self) -> str | None:
        """The first instant of the day ``until``, as a key: the last possible tick."""
        return None if self.until is None else self.schedule.start_of(self.until)

    @property
    def text_form(self) -> TextForm:
        """The written form of the values, where the source has no types."""
        return self.source.text_form if isinstance(self.source, CsvSource) else TextForm()
