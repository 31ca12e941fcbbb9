"""Take a snapshot: read a partition from its source, hold it to its contract, keep it in full.

Good rows become a version of the snapshots, bad rows go to quarantine with their reasons, all in one pass.
A partition that was published before is looked at first, and written only if its content is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import chain
from typing import Any

import pyarrow as pa

from airflow_mlops.core.data.enforce_contract import Enforcement, Interval
from airflow_mlops.core.data.erasure import Erasure
from airflow_mlops.core.data.profiles.profile_snapshot import SnapshotProfiler, counted_columns
from airflow_mlops.core.data.quarantined_rows import SCHEMA, Spool
from airflow_mlops.core.data.read_partition import KeysRepeatError, PartitionPass, RepeatedKeys, Watcher
from airflow_mlops.core.data.shape import Shape, derive_shape
from airflow_mlops.core.declaration.partition_key import previous_tick
from airflow_mlops.core.errors import DataError, NotReadyError, PartitionRefusedError
from airflow_mlops.core.ledger.data_details import PartitionRefused, SnapshotPublished
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ports.partitions import Arrival
from airflow_mlops.core.workspace import Workspace

PASSES = 3

Consume = Callable[[pa.RecordBatchReader], int | None]


@dataclass(frozen=True)
class SnapshotManifest:
    """A partition as it arrived: where it is kept and what it holds.

    ``rows`` are in the snapshot, ``rejected`` in quarantine by the contract, ``erased`` are of subjects that
    are forgotten; together they are what arrived.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return {**asdict(self), "ignored": list(self.ignored), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SnapshotManifest:
        """Return the manifest that ``to_dict`` wrote."""
        return cls(**{**values, "ignored": tuple(values["ignored"]), "warnings": tuple(values["warnings"])})


def take_snapshot(workspace: Workspace, partition: str) -> SnapshotManifest:
    """Keep the rows of a partition as they arrived and return their manifest.

    The same content again adopts the snapshot that was published before, and writes nothing.

    Raises
    ------
    SourceMissingError
        If there is nothing yet.
    DataError
        If what is there cannot be read or used; the ledger says so too.
    """
    with refusing(workspace, partition, "snapshot"):
        state = workspace.state(as_of=partition)
        taking = _Taking(workspace, partition, state)
        known = state.published.get(partition)
        if known is not None:
            same_rules = known.contract == taking.contract
            seen = taking.read(_drain, known=known.origin if same_rules else None)
            if seen is None or seen.content == known.arrived_digest:
                return adopt(partition, known, seen.warnings if seen else ())
        taken = taking.read(lambda rows: workspace.snapshots.write(partition, rows), keep=True)
        assert taken is not None
        return taken


def adopt(partition: str, known: SnapshotPublished, warnings: tuple[str, ...] = ()) -> SnapshotManifest:
    """Return the manifest of a snapshot that is published already; the warnings are those of today."""
    assert known.arrived_version is not None, "a publication names the version that arrived"
    return SnapshotManifest(
        partition,
        known.arrived_version,
        known.snapshot_digest,
        known.snapshot_rows,
        dict(known.columns),
        adopted=True,
        rejected=known.rejected,
        rejected_version=known.rejected_version,
        content=known.arrived_digest,
        contract=known.contract,
        profile=known.profile,
        bins=known.bins,
        late=known.late,
        erased=known.erased,
        mask_key=known.mask_key,
        ignored=known.ignored,
        origin=dict(known.origin),
        warnings=warnings,
    )


def _drain(rows: pa.RecordBatchReader) -> None:
    for _batch in rows:
        pass


class _Taking:
    """The reading of one partition, as often as it takes."""

    def __init__(self, workspace: Workspace, partition: str, state: LoopState) -> None:
        self.workspace, self.partition, self.state = workspace, partition, state
        contract = workspace.contract
        self.contract = digest_of(contract.to_dict()) if contract else ""

    def read(
        self, consume: Consume, *, known: Mapping[str, Any] | None = None, keep: bool = False
    ) -> SnapshotManifest | None:
        """Read the partition and return its manifest, or None if the source says that nothing changed.

        Parameters
        ----------
        consume : callable
            Takes the good rows; an error from below reaches it before it could commit them.
        known : mapping, optional
            Origin of the snapshot before.
        keep : bool
            Whether bad rows go to quarantine and the profile is kept.
        """
        repeated: RepeatedKeys | None = None
        for _ in range(PASSES):
            try:
                return self._once(consume, known, repeated, keep=keep)
            except KeysRepeatError as found:
                repeated = self._collect(found)
        raise PartitionRefusedError(f"the source gave other keys at each of {PASSES} readings; ingest it again")

    def _once(
        self, consume: Consume, known: Mapping[str, Any] | None, repeated: RepeatedKeys | None, *, keep: bool
    ) -> SnapshotManifest | None:
        data = self.workspace.loop.data
        with ExitStack() as opened:
            arrival = opened.enter_context(self.workspace.source.open(self.partition, known=known))
            spool = opened.enter_context(Spool())
            if arrival.unchanged:
                return None
            refuse_nothing(arrival)
            erasure = Erasure(self.workspace, self.state)
            arrival.batches = erasure.rest(arrival.batches)
            enforcement = self._enforcement(arrival)
            profiler = opened.enter_context(closing(self._profiler(enforcement.shape))) if keep else None
            watchers: list[Watcher] = [profiler] if profiler else []
            reading = PartitionPass(enforcement, data, spool, repeated, watchers)
            schema = enforcement.shape.schema
            try:
                version = consume(pa.RecordBatchReader.from_batches(schema, reading.good_rows(arrival)))
            except PartitionRefusedError:
                if keep:
                    self._quarantine(spool)
                raise
            rejected = self._quarantine(spool) if keep else None
            content, digest, rows = reading.content, reading.digest.hexdigest(), reading.digest.rows
            profile = profiler.keep(self.partition, version) if profiler and version is not None else (None, None)
            return SnapshotManifest(
                self.partition, -1 if version is None else version, digest, rows, enforcement.shape.columns,
                adopted=False, rejected=spool.rows, rejected_version=rejected, content=content,
                contract=self.contract, profile=profile[0], bins=profile[1], late=enforcement.late, erased=erasure.rows,
                mask_key=enforcement.mask_key,
                ignored=enforcement.shape.ignored, origin=arrival.origin, warnings=tuple(arrival.warnings),
            )  # fmt: skip

    def _collect(self, found: KeysRepeatError) -> RepeatedKeys:
        with self.workspace.source.open(self.partition) as arrival, Spool() as spool:
            arrival.batches = Erasure(self.workspace, self.state).rest(arrival.batches)
            repeated = RepeatedKeys(found.hashes)
            return PartitionPass(self._enforcement(arrival), self.workspace.loop.data, spool, repeated).collect(arrival)

    def _profiler(self, shape: Shape) -> SnapshotProfiler:
        return SnapshotProfiler(self.workspace, self.state, counted_columns(self.workspace, list(shape.columns)))

    def _enforcement(self, arrival: Arrival) -> Enforcement:
        data = self.workspace.loop.data
        return Enforcement(
            self._shape(arrival), data, Interval.between(previous_tick(data.every, self.partition), self.partition),
            self.workspace.secret, known_key=self.workspace.state().mask_key,
        )  # fmt: skip

    def _shape(self, arrival: Arrival) -> Shape:
        earlier = earlier_columns(self.state, self.partition, newest=self.workspace.contract is not None)
        return derive_shape(
            self.workspace.loop.data, self.workspace.contract, arrival.schema, earlier, typed=arrival.typed,
            texts=arrival.texts,
        )  # fmt: skip

    def _quarantine(self, spool: Spool) -> int | None:
        """Replace what the quarantine holds of the partition; return the version, None where nothing is there."""
        if spool.rows:
            return self.workspace.quarantine.write(self.partition, spool.reader())
        if self.partition in self.workspace.quarantine.partitions():
            self.workspace.quarantine.write(self.partition, SCHEMA.empty_table())
        return None


def refuse_nothing(arrival: Arrival) -> None:
    """Refuse an arrival without a single row, whose columns need not have types either."""
    first = next((batch for batch in arrival.batches if batch.num_rows), None)
    if first is not None:
        arrival.batches = chain([first], arrival.batches)
    elif not arrival.broken:
        raise PartitionRefusedError("the partition is empty: 0 rows arrived")


@contextmanager
def refusing(workspace: Workspace, partition: str, stage: str) -> Iterator[None]:
    """Record in the ledger that a partition was refused, and let the error go on."""
    try:
        yield
    except NotReadyError:
        raise
    except DataError as error:
        reason = str(error)
        # Numbered like publications, so that the same fault after a good delivery is told again.
        known = workspace.state().published.get(partition)
        number = 0 if known is None else known.publication
        operation = f"refused:{partition}:{number}:{sha256(reason.encode()).hexdigest()[:16]}"
        workspace.record_fact(workspace.draft(PartitionRefused(stage=stage, reason=reason), operation, partition))
        raise


def earlier_columns(state: LoopState, partition: str, *, newest: bool) -> dict[str, str] | None:
    """Return the columns of the newest or oldest partition published up to this one, or None.

    Without a contract it is the oldest: a partition that is replaced keeps its own columns.
    """
    key = state.published.newest(until=partition) if newest else state.published.oldest()
    return None if key is None or key > partition else dict(state.published[key].columns)


def digest_of(document: object) -> str:
    """Return the SHA-256 of JSON values, 16 digits of it: enough to tell one revision from another."""
    return sha256(canonical_json(document).encode()).hexdigest()[:16]
