"""The lineage of one task as plain records: what it read, what it wrote, and the ledger records that say so.

A record holds names, versions, types and counts. It holds no credential, no text of a query, and no value of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DatasetName:
    """The name of a dataset within a namespace, as OpenLineage's naming conventions have them."""

    namespace: str
    name: str


@dataclass(frozen=True)
class PartitionVersion:
    """A partition in one version of a table, and the digest of its rows.

    >>> PartitionVersion("2013-01-06T00:00:00", 7, "3fa2c1").text
    '2013-01-06T00:00:00@7:3fa2c1'
    """

    partition: str
    version: int
    digest: str

    @property
    def text(self) -> str:
        """The partition, the version of the table and the digest in one text, equal wherever this content is meant."""
        return f"{self.partition}@{self.version}:{self.digest}"

    @property
    def part(self) -> Part:
        """This partition as a part of its table."""
        return Part(self.text, {"partition": self.partition})


@dataclass(frozen=True)
class Part:
    """A part of a dataset: its content, and the dimensions that select it, such as ``partition`` or ``version``."""

    identifier: str
    dimensions: Mapping[str, str]


@dataclass(frozen=True)
class Assertion:
    """The result of a rule about a dataset, or about one of its columns.

    ``severity`` is ``error``, ``warn`` or ``info``. ``expected`` and ``actual`` are a limit and a number.
    """

    rule: str
    success: bool
    column: str | None = None
    severity: str | None = None
    expected: str | None = None
    actual: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset that a task read or wrote.

    ``version`` identifies its content; ``rows`` were read or written. ``columns`` are types by column, None where they
    are not known. ``parts`` are those that were meant, all if there are none; ``locations`` are the files.
    """

    name: DatasetName
    version: str | None = None
    rows: int | None = None
    columns: Mapping[str, str] | None = None
    parts: tuple[Part, ...] = ()
    locations: tuple[str, ...] = ()
    assertions: tuple[Assertion, ...] = ()


@dataclass(frozen=True)
class Datasets:
    """The datasets of a stage, and the version of the model that it was about."""

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    version: str | None = None


@dataclass(frozen=True)
class RecordReference:
    """A record of the ledger: its number within the model, its kind and its hash."""

    sequence: int
    kind: str
    hash: str


@dataclass(frozen=True)
class TaskLineage:
    """The lineage of one task. ``records`` are those that it appended, or found there and kept."""

    model: str
    partition: str
    datasets: Datasets = field(default_factory=Datasets)
    records: tuple[RecordReference, ...] = ()
