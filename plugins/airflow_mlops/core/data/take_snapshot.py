"""Take a snapshot: read a partition from its source, enforce its contract, and store all of its rows.

Good rows become a version of the snapshots, bad rows go to quarantine with their reasons, all in one pass. A partition
that was published before is read and compared first, and written only if its content has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.data.enforce_contract import Enforcement, Interval
from airflow_mlops.core.data.erasure import Erasure
from airflow_mlops.core.data.origin import short_origin, whole_origin
from airflow_mlops.core.data.partition_reading import PartitionReading
from airflow_mlops.core.data.profiles.profile_snapshot import SnapshotProfiler, countable_columns
from airflow_mlops.core.data.quarantined_rows import Spool
from airflow_mlops.core.data.read_partition import KeysRepeatError, RepeatedKeys
from airflow_mlops.core.data.shape import Shape, derive_shape
from airflow_mlops.core.errors import DataError, NotReadyError, PartitionRefusedError
from airflow_mlops.core.ledger.data_details import PartitionRefused, SnapshotPublished
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ports.partitions import Arrival
from airflow_mlops.core.ports.spans import span
from airflow_mlops.core.workspace import Workspace

if TYPE_CHECKING:
    from airflow_mlops.core.data.rows_in_database import RowsInDatabase
    from airflow_mlops.core.sources.sql_partition import SqlPartition

LOG = logging.getLogger(__name__)
Judge = Callable[["RowsInDatabase"], tuple[tuple[int, ...], str]]
"""Judges rows in their database; see :func:`take_snapshot`."""
PASSES = 3


@dataclass(frozen=True)
class SnapshotManifest:
    """A partition as it arrived: the version and the content of its snapshot.

    The arrived rows are ``rows`` in the snapshot, ``rejected`` by the contract and in quarantine, and ``erased``, those
    of erased subjects. ``passed`` are the positions in the suite of the expectations that the rows met in their
    database, before they were fetched, and ``passed_suite`` is the digest of its rules.
    """

    partition: str
    version: int
    digest: str
    rows: int
    columns: dict[str, str]
    adopted: bool
    rejected: int = 0
    rejected_version: int | None = None
    content: str = ""
    contract: str = ""
    profile: str | None = None
    bins: str | None = None
    late: int = 0
    erased: int = 0
    mask_key: str | None = None
    ignored: tuple[str, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    passed: tuple[int, ...] = ()
    passed_suite: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        tuples = ("ignored", "warnings", "passed")
        return {**asdict(self), **{name: list(getattr(self, name)) for name in tuples}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SnapshotManifest:
        """Return the manifest that ``to_dict`` wrote."""
        tuples = {name: tuple(values.get(name, ())) for name in ("ignored", "warnings", "passed")}
        return cls(**{**values, **tuples})


def take_snapshot(workspace: Workspace, partition: str, *, judge: Judge | None = None) -> SnapshotManifest:
    """Store the rows of a partition as they arrived, and return their manifest.

    If the content is unchanged, the published snapshot is adopted and nothing is written.

    Parameters
    ----------
    workspace : Workspace
        The loop and its stores.
    partition : str
        Key of the partition.
    judge : callable, optional
        Judges the rows in their database before they are fetched, and raises DataError to refuse them. It returns the
        positions of the expectations that they met, and the digest of the rules.

    Raises
    ------
    SourceMissingError
        If the source has no data yet.
    DataError
        If the data cannot be read or used; the refusal is recorded. If the partition is no tick of ``data.every``;
        that is not recorded, as there is no such partition.
    """
    partition = workspace.loop.data.schedule.require_tick(partition)
    with record_refusal(workspace, partition, "snapshot"):
        state = workspace.state(as_of=partition)
        reader = _SnapshotReader(workspace, partition, state, judge)
        published = state.published.get(partition)
        if published is not None:
            same_rules = published.contract == reader.contract
            checked = reader.read(known=whole_origin(workspace, published.origin) if same_rules else None)
            if checked is None or checked.content == published.arrived_digest:
                return adopt_snapshot(partition, published, checked.warnings if checked else ())
        manifest = reader.read(keep=True)
        assert manifest is not None
        return manifest


def adopt_snapshot(partition: str, published: SnapshotPublished, warnings: tuple[str, ...] = ()) -> SnapshotManifest:
    """Return the manifest of a published snapshot, with the warnings of the present reading."""
    assert published.arrived_version is not None, "a publication names the version that arrived"
    return SnapshotManifest(
        partition,
        published.arrived_version,
        published.snapshot_digest,
        published.snapshot_rows,
        dict(published.columns),
        adopted=True,
        rejected=published.rejected,
        rejected_version=published.rejected_version,
        content=published.arrived_digest,
        contract=published.contract,
        profile=published.profile,
        bins=published.bins,
        late=published.late,
        erased=published.erased,
        mask_key=published.mask_key,
        ignored=published.ignored,
        origin=dict(published.origin),
        warnings=warnings,
    )


class _SnapshotReader:
    """Reads one partition, again if keys may repeat."""

    def __init__(self, workspace: Workspace, partition: str, state: LoopState, judge: Judge | None = None) -> None:
        self.workspace, self.partition, self.state, self.judge = workspace, partition, state, judge
        self.passed: tuple[tuple[int, ...], str] = ((), "")
        contract = workspace.contract
        self.contract = digest_of(contract.to_dict()) if contract else ""

    def read(self, *, known: Mapping[str, Any] | None = None, keep: bool = False) -> SnapshotManifest | None:
        """Read the partition and return its manifest, or None if the source reports no change.

        Parameters
        ----------
        known : mapping, optional
            Origin of the published snapshot.
        keep : bool
            Whether to write the good rows, and the bad ones to quarantine, and store the profile.
        """
        repeated: RepeatedKeys | None = None
        for _ in range(PASSES):
            try:
                return self._read_once(known, repeated, keep=keep)
            except KeysRepeatError as error:
                repeated = self._collect(error)
        raise PartitionRefusedError(f"the source gave other keys at each of {PASSES} readings; ingest it again")

    @span("read")
    def _read_once(
        self, known: Mapping[str, Any] | None, repeated: RepeatedKeys | None, *, keep: bool
    ) -> SnapshotManifest | None:
        with ExitStack() as stack:
            arrival = stack.enter_context(self._open(known, keep=keep))
            spool = stack.enter_context(Spool())
            if arrival.unchanged:
                return None
            require_rows(arrival)
            erasure = Erasure(self.workspace, self.state)
            enforcement = self._enforcement(arrival)
            profiler = stack.enter_context(closing(self._profiler(enforcement.shape))) if keep else None
            reading = stack.enter_context(
                self._reading(arrival, enforcement, erasure, spool, repeated, profiler).opened()
            )
            version, rejected, profile = _keep(reading) if keep else _count(reading)
            partition_pass = reading.partition_pass
            return SnapshotManifest(
                self.partition,
                version,
                partition_pass.digest.hexdigest(),
                partition_pass.digest.rows,
                enforcement.shape.columns,
                adopted=False,
                rejected=spool.rows,
                rejected_version=rejected,
                content=partition_pass.content,
                contract=self.contract,
                profile=profile[0],
                bins=profile[1],
                late=enforcement.late,
                erased=erasure.rows,
                mask_key=enforcement.mask_key,
                ignored=enforcement.shape.ignored,
                origin=short_origin(self.workspace, arrival.origin) if keep else arrival.origin,
                warnings=(*arrival.warnings, *([partition_pass.hint] if partition_pass.hint else [])),
                passed=self.passed[0],
                passed_suite=self.passed[1],
            )

    def _open(self, known: Mapping[str, Any] | None, *, keep: bool) -> AbstractContextManager[Arrival]:
        """Return the arrival; rows that are kept are judged in their database first, where there is a judge."""
        source = self.workspace.source
        if self.judge is None or not keep:
            return source.open(self.partition, known=known)
        from airflow_mlops.core.sources.sql_source import SqlRows

        assert isinstance(source, SqlRows), "engine sql is declared for a source of kind sql alone"
        return source.open(self.partition, known=known, before=self._ask)

    def _ask(self, partition: SqlPartition) -> None:
        from airflow_mlops.core.data.rows_in_database import RowsInDatabase
        from airflow_mlops.core.sources.sql_partition import NotAnsweredError

        assert self.judge is not None, "queries are run for a judge"
        self.passed = ((), "")
        try:
            schema = partition.schema()
            texts = frozenset(name for name in schema.names if partition.has_times_as_text)
            try:
                shape = self._shape(Arrival(schema, iter(()), texts=texts))
            except DataError as error:  # the rows are refused for it where they are read, with their types
                raise NotAnsweredError(str(error)) from error
            self.passed = self.judge(RowsInDatabase(partition, self.partition, schema, shape, self.state))
        except NotAnsweredError as reason:
            LOG.info("partition %s is judged on the rows that are fetched: %s", self.partition, reason)

    def _collect(self, error: KeysRepeatError) -> RepeatedKeys:
        with self.workspace.source.open(self.partition) as arrival, Spool() as spool:
            enforcement, repeated = self._enforcement(arrival), RepeatedKeys(error.hashes)
            erasure = Erasure(self.workspace, self.state)
            return self._reading(arrival, enforcement, erasure, spool, repeated).collect()

    def _reading(self, arrival: Arrival, *parts: Any) -> PartitionReading:
        """Return a reading of an arrival by the declared engine."""
        if self.workspace.loop.engine == "spark":
            from airflow_mlops.core.data.spread_reading import SpreadReading

            return SpreadReading(self.workspace, self.partition, arrival, *parts)
        return PartitionReading(self.workspace, self.partition, arrival, *parts)

    def _profiler(self, shape: Shape) -> SnapshotProfiler:
        return SnapshotProfiler(self.workspace, self.state, countable_columns(self.workspace, list(shape.columns)))

    def _enforcement(self, arrival: Arrival) -> Enforcement:
        data = self.workspace.loop.data
        return Enforcement(
            self._shape(arrival),
            data,
            Interval.of(data.schedule, self.partition),
            self.workspace.secret,
            known_key=self.workspace.state().mask_key,
        )

    def _shape(self, arrival: Arrival) -> Shape:
        earlier = earlier_columns(self.state, self.partition, newest=self.workspace.contract is not None)
        return derive_shape(
            self.workspace.loop.data,
            self.workspace.contract,
            arrival.schema,
            earlier,
            typed=arrival.typed,
            texts=arrival.texts,
            untyped=arrival.untyped,
        )


Kept = tuple[int, int | None, tuple[str | None, str | None]]
"""Version of the snapshots, version of the quarantine, digests of the profile and its bins."""


def _keep(reading: PartitionReading) -> Kept:
    """Write the rows of a reading, good and bad, and its profile."""
    try:
        version = reading.write()
    except PartitionRefusedError:
        reading.quarantine()
        raise
    return version, reading.quarantine(), reading.keep_profile(version)


def _count(reading: PartitionReading) -> Kept:
    """Count the rows of a reading, and write none."""
    reading.count()
    return -1, None, (None, None)


def require_rows(arrival: Arrival) -> None:
    """Raise PartitionRefusedError if an arrival has no row; without rows its columns may have no types."""
    first = next((batch for batch in arrival.batches if batch.num_rows), None)
    if first is not None:
        arrival.batches = chain([first], arrival.batches)
    elif not arrival.broken:
        raise PartitionRefusedError("the partition is empty: 0 rows arrived")


@contextmanager
def record_refusal(workspace: Workspace, partition: str, stage: str) -> Iterator[None]:
    """Record the refusal of a partition if the body raises DataError, and raise the error again."""
    try:
        yield
    except NotReadyError:
        raise
    except DataError as error:
        reason = str(error)
        # Numbered like publications, so that the same fault after a good delivery is recorded again.
        published = workspace.state().published.get(partition)
        number = 0 if published is None else published.publication
        operation = f"refused:{partition}:{number}:{sha256(reason.encode()).hexdigest()[:16]}"
        details = PartitionRefused(stage=stage, reason=reason, personal=personal_columns(workspace))
        workspace.record_fact(workspace.draft(details, operation, partition))
        raise


def personal_columns(workspace: Workspace) -> tuple[str, ...]:
    """Return the columns that the contract calls personal or sensitive, or masks; none without a contract."""
    contract = workspace.contract
    return () if contract is None else tuple(sorted(contract.personal))


def earlier_columns(state: LoopState, partition: str, *, newest: bool) -> dict[str, str] | None:
    """Return the columns of the newest or oldest partition published up to this one, or None.

    Without a contract it is the oldest: a partition that is replaced keeps its own columns.
    """
    key = state.published.newest(until=partition) if newest else state.published.oldest()
    return None if key is None or key > partition else dict(state.published[key].columns)


def digest_of(document: object) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of JSON values, to identify a revision."""
    return sha256(canonical_json(document).encode()).hexdigest()[:16]
