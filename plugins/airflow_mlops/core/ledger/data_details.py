"""Records about data: partitions published, refused, scored, labelled, expired, and subjects erased from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_mlops.core.ledger.details import Details


@dataclass(frozen=True, kw_only=True)
class SnapshotPublished(Details):
    """A partition may be used from here on.

    ``version`` is the version of the table ``snapshots``, ``digest`` the content digest of the published rows;
    ``arrived_*`` and ``snapshot_*`` are of the rows as they arrived, before expectations took any out. ``columns``
    are types by column, ``contract`` the digest of the contract that was applied. ``publication`` counts the
    publications of the partition from 1; the ledger's reader fills it in. ``released`` rows came out of quarantine,
    where a person accepted them for ``accepted_because``. ``personal`` are the columns whose values a page must not
    show, by the contract; None where that was not recorded.
    """

    KIND: ClassVar[str] = "snapshot_published"
    SUMMARY: ClassVar[str] = "A partition may be used from here on: its version, digest, rows and quarantined rows."

    version: int
    digest: str
    rows: int = 0
    quarantined: int = 0
    quarantine_version: int | None = None
    report: str | None = None
    suite: str = ""
    warnings: tuple[str, ...] = ()
    arrived_version: int | None = None
    arrived_digest: str = ""
    snapshot_digest: str = ""
    snapshot_rows: int = 0
    rejected: int = 0
    rejected_version: int | None = None
    columns: dict[str, str] = field(default_factory=dict)
    contract: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    profile: str | None = None
    bins: str | None = None
    late: int = 0
    erased: int = 0
    mask_key: str | None = None
    ignored: tuple[str, ...] = ()
    replaces: str | None = None
    outdated: tuple[str, ...] | None = None
    released: int | None = None
    accepted_because: str | None = None
    personal: tuple[str, ...] | None = None
    publication: int | None = None


@dataclass(frozen=True, kw_only=True)
class PartitionRefused(Details):
    """A partition may not be used: ``stage`` refused it, ``reason`` says why.

    ``personal`` are the columns whose values a page must not show, by the contract; None where it was not recorded.
    """

    KIND: ClassVar[str] = "partition_refused"
    SUMMARY: ClassVar[str] = "A partition may not be used, and why. It can be delivered and ingested again."

    stage: str = ""
    reason: str = ""
    personal: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PartitionsExpired(Details):
    """Partitions beyond their retention, by table."""

    KIND: ClassVar[str] = "partitions_expired"
    SUMMARY: ClassVar[str] = "Partitions beyond their retention, by table; their rows were let go."

    tables: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ErasedSnapshot:
    """A partition of the snapshots after the erasure of a subject; ``was`` is its digest before."""

    version: int
    arrived_version: int
    digest: str
    rows: int
    snapshot_digest: str
    snapshot_rows: int
    was: str


@dataclass(frozen=True, kw_only=True)
class ErasedPredictions:
    """A partition of the predictions after the erasure of a subject."""

    version: int
    rows: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class ErasedQuarantine:
    """A partition of the quarantine after the erasure of a subject; ``erased`` counts the subject's rows."""

    quarantine_version: int | None = None
    quarantined: int = 0
    erased: int = 0


@dataclass(frozen=True, kw_only=True)
class ErasedLabels:
    """A delivery of labels after the erasure of a subject; ``erased`` counts all labels ever erased from it."""

    version: int
    digest: str
    rows: int
    erased: int = 0


@dataclass(frozen=True, kw_only=True)
class PartitionErasure:
    """The changes of one partition by the erasure of a subject, by table."""

    snapshots: ErasedSnapshot | None = None
    predictions: ErasedPredictions | None = None
    quarantine: ErasedQuarantine | None = None
    labels: ErasedLabels | None = None

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that were changed."""
        return tuple(name for name, change in vars(self).items() if change is not None)


@dataclass(frozen=True, kw_only=True)
class SubjectForgotten(Details):
    """A subject's rows were erased. ``subject`` is a keyed hash, ``mask_key`` the fingerprint of the key."""

    KIND: ClassVar[str] = "subject_forgotten"
    SUMMARY: ClassVar[str] = "A subject's rows were erased: from which partitions, and which versions had seen them."

    subject: str
    column: str = ""
    mask_key: str | None = None
    partitions: dict[str, PartitionErasure] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PredictionsPublished(Details):
    """A partition was scored.

    ``snapshot`` and ``snapshot_version`` name the rows; ``served`` counts rows by version. ``unseen`` counts, by
    version and column, the rows with a value that is none of the levels of a category: it is null for the model.
    """

    KIND: ClassVar[str] = "predictions_published"
    SUMMARY: ClassVar[str] = "A partition was scored: by which champion, beside which challenger, and who served."

    champion: str
    version: int = 0
    digest: str = ""
    rows: int = 0
    publication: int = 1
    snapshot: str = ""
    snapshot_version: int = 0
    challenger: str | None = None
    served: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, dict[str, int]] | None = None


@dataclass(frozen=True, kw_only=True)
class LabelsArrived(Details):
    """A delivery of labels. ``touches`` counts its labels by partition, ``touched`` has their digests."""

    KIND: ClassVar[str] = "labels_arrived"
    SUMMARY: ClassVar[str] = (
        "Labels of a source of their own: of which delivery, how many, and which partitions they touch."
    )

    since: str
    digest: str
    version: int
    delivery: int = 1
    rows: int = 0
    delivered: int = 0
    duplicates: int = 0
    empty: int = 0
    erased: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    unknown: int = 0
    ambiguous: int = 0
    touches: dict[str, int] = field(default_factory=dict)
    touched: dict[str, str] = field(default_factory=dict)
    origin: Any = None
    replaces: str | None = None
    message: str = ""
