"""In-memory implementations of the ports, so that whole loops of the core run in milliseconds.

They fulfil the contract of each port and write nothing to disk but model files, which are read and written by
skops and so go to a scratch folder. Each passes the same tests as the real store.

    workspace = in_memory_workspace(loop, {"2013-01-06T00:00:00": frame}, scratch=tmp_path)
    take_snapshot(workspace, "2013-01-06T00:00:00")
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pandas as pd
import pyarrow as pa

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DataError, LedgerError, SourceMissingError, StaleLedgerError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.fold import View
from airflow_mlops.core.ledger.kinds import is_wanted, stored_kinds
from airflow_mlops.core.ledger.projection import MemoryStepStore, apply
from airflow_mlops.core.ledger.protocols import Head
from airflow_mlops.core.ledger.record import GENESIS, Draft, Record, canonical_json, chain_record
from airflow_mlops.core.ledger.state import MACHINE, LoopState
from airflow_mlops.core.ledger.state_machine import StateMachine
from airflow_mlops.core.open_workspace import default_target
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival
from airflow_mlops.core.ports.signing_keys import StaticKeys, new_private_key
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult
from airflow_mlops.core.workspace import Ports, Workspace
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry

Frame: TypeAlias = pd.DataFrame | pa.Table | Exception

D = TypeVar("D", bound=Details)


class InMemorySource:
    """Rows by partition key; an exception in the place of rows is raised on reading.

    :param frames: a pandas frame or an Arrow table for each partition key; may be changed between reads
    """

    def __init__(self, frames: Mapping[str, Frame]) -> None:
        self.frames = frames

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:  # noqa: ARG002
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        frame = self.frames.get(partition)
        if frame is None:
            raise SourceMissingError(f"partition {partition}: nothing is there yet")
        if isinstance(frame, Exception):
            raise frame
        rows = pa.Table.from_pandas(frame, preserve_index=False) if isinstance(frame, pd.DataFrame) else frame
        rows = rows.replace_schema_metadata()
        yield Arrival(rows.schema, iter(rows.to_batches(BATCH_ROWS)), origin={"memory": rows.num_rows})


class InMemoryTable:
    """A versioned table: a list of the partitions of each version. The first version is 0."""

    def __init__(self) -> None:
        self._versions: list[dict[str, pa.Table]] = []
        self._lock = threading.Lock()

    def write(self, partition: str, rows: pa.Table | pa.RecordBatchReader) -> int:
        """Replace a partition; see :meth:`airflow_mlops.core.ports.partitions.PartitionedTable.write`."""
        table = rows if isinstance(rows, pa.Table) else rows.read_all()
        with self._lock, external_write("memory.write_table"):
            newest = self._versions[-1] if self._versions else {}
            self._versions.append({**newest, partition: table})
            return len(self._versions) - 1

    def batches(
        self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """Return the rows batch by batch; see :meth:`airflow_mlops.core.ports.partitions.PartitionedTable.batches`."""
        return self.read(partition, version=version, columns=columns).to_reader(max_chunksize=BATCH_ROWS)

    def partitions(self) -> list[str]:
        """Return the keys of the present partitions, in order."""
        newest = self._versions[-1] if self._versions else {}
        return sorted(key for key, rows in newest.items() if rows.num_rows)

    def vacuum(self, keep: Sequence[tuple[str, int]], *, after_hours: int = 24) -> int:  # noqa: ARG002
        """Do nothing: memory has no files to delete."""
        return 0

    def purge(self, partition: str) -> int:
        """Delete a partition from every version but the newest; return the number of versions changed."""
        with self._lock:
            older = [version for version in self._versions[:-1] if partition in version]
            for version in older:
                del version[partition]
            return len(older)

    def read(self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.PartitionedTable.read`."""
        number = len(self._versions) - 1 if version is None else version
        if not 0 <= number < len(self._versions):
            raise DataError(f"the table in memory has no version {version}; it has {len(self._versions)}")
        rows = self._versions[number].get(partition)
        if rows is None or rows.num_rows == 0:
            raise DataError(f"the table in memory holds no partition {partition} in version {version}")
        unknown = sorted(set(columns or ()) - set(rows.column_names))
        if unknown:
            raise DataError(f"the table in memory has no column {unknown[0]!r}")
        return rows.select(list(columns)) if columns else rows


class InMemoryLedger:
    """Records in a list, and their projection; a :class:`~airflow_mlops.core.ledger.protocols.Ledger`.

    :param model: name of the model
    :param clock: returns the time to note on a record; always the same by default, so that runs compare equal
    """

    def __init__(self, model: str, *, clock: Callable[[], datetime] = lambda: datetime.fromtimestamp(0, UTC)) -> None:
        self.model = model
        self._clock = clock
        self._records: list[Record[Any]] = []
        self._operations: dict[str, Record[Any]] = {}
        self._steps = MemoryStepStore()
        self._leases: dict[str, tuple[str, float]] = {}
        self._lock = threading.RLock()

    def records(
        self, *kinds: type[Details], partition: str | None = None, after: int = 0, newest_first: bool = False
    ) -> Iterator[Record[Any]]:
        """Yield records; see :meth:`airflow_mlops.core.ledger.protocols.Ledger.records`."""
        with self._lock:
            records = self._records[after:]
        stored = stored_kinds(kinds)
        for record in reversed(records) if newest_first else records:
            if kinds and not (record.kind in stored and is_wanted(record, kinds)):
                continue
            if partition in (None, record.partition):
                yield record

    def record(self, sequence: int) -> Record[Any] | None:
        """Return the record with a sequence number; None if there is none."""
        with self._lock:
            return self._records[sequence - 1] if 0 < sequence <= len(self._records) else None

    def recorded(self, operation: str) -> Record[Any] | None:
        """Return the record of an operation; None if there is none."""
        with self._lock:
            return self._operations.get(operation)

    def head(self) -> Head:
        """Return the number and the hash of the last record."""
        with self._lock:
            return Head(len(self._records), self._records[-1].hash if self._records else GENESIS)

    def state(self, *, as_of: str | None = None, before: str | None = None) -> LoopState:
        """Return the state; see :meth:`airflow_mlops.core.ledger.protocols.Ledger.state`."""
        facts = self._steps.seen(View(as_of, before))
        with self._lock:
            return LoopState(len(self._records), facts.value(MACHINE, "") or StateMachine(), facts)

    def append(self, draft: Draft[D], *, read: int) -> Record[D]:
        """Append ``draft`` as number ``read + 1``; see :meth:`airflow_mlops.core.ledger.protocols.Ledger.append`."""
        with self._lock:
            existing = self._operations.get(draft.operation)
            if existing is not None:
                return existing
            count = len(self._records)
            if read > count:
                raise LedgerError(f"{self.model}: there is no record {read} to append to")
            if read < count:
                raise StaleLedgerError(
                    f"{self.model}: {draft.kind} was decided on record {read}, and another record came first; "
                    "read the ledger again and decide again"
                )
            record = chain_record(
                draft,
                model=self.model,
                sequence=read + 1,
                previous_hash=self.head().hash,
                recorded_at=self._clock().isoformat(),
            )
            with external_write(f"ledger.{draft.kind}"):
                self._records.append(record)
                self._operations[record.operation] = record
                apply(record, self._steps)
            return record

    def take_lease(self, name: str, holder: str, *, seconds: float) -> bool:
        """Take a lease; see :meth:`airflow_mlops.core.ledger.protocols.Ledger.take_lease`."""
        now = self._clock().timestamp()
        with self._lock:
            if name in self._leases and self._leases[name][1] > now:
                return False
            self._leases[name] = holder, now + seconds
            return True

    def end_lease(self, name: str, holder: str) -> None:
        """End a lease; see :meth:`airflow_mlops.core.ledger.protocols.Ledger.end_lease`."""
        with self._lock:
            if self._leases.get(name, ("", 0.0))[0] == holder:
                del self._leases[name]


class InMemoryEvidence:
    """JSON documents by digest; ``contents`` holds their bytes."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def put(self, document: Any) -> str:
        """Store ``document`` and return its digest."""
        content = canonical_json(document).encode()
        digest = hashlib.sha256(content).hexdigest()
        with external_write("memory.put_evidence"):
            self.contents.setdefault(digest, content)
        return digest

    def get(self, digest: str) -> Any:
        """Return the document of ``digest``; see :meth:`airflow_mlops.core.ledger.protocols.EvidenceStore.get`."""
        content = self.contents.get(digest)
        if content is None:
            raise LedgerError(f"evidence {digest} is missing from memory")
        if hashlib.sha256(content).hexdigest() != digest:
            raise LedgerError(f"evidence {digest} was changed after it was written")
        return json.loads(content)

    def location(self, digest: str) -> str:
        """Return a URI of the document of ``digest``."""
        return f"memory:{digest}.json"


class AcceptingValidator:
    """A validator that accepts every row."""

    def check(self, rows: pa.Table, expectations: Sequence[Expectation]) -> list[ExpectationResult]:  # noqa: ARG002
        """Return a success for each expectation, in order."""
        return [
            ExpectationResult(expectation.type, expectation.kwargs.get("column"), expectation.severity, True, 0, False)
            for expectation in expectations
        ]


def in_memory_workspace(
    loop: Loop, frames: Mapping[str, Frame], *, scratch: Path, root: Path | None = None, actor: str = "test"
) -> Workspace:
    """Return a workspace whose ports are all in memory.

    :param frames: the rows of each partition key, as pandas or Arrow; partitions may be added later
    :param scratch: folder for model files
    :param root: project folder with the suite and the training function; ``scratch`` by default
    :param actor: the actor that the ledger records
    """
    source, ledger = InMemorySource(frames), InMemoryLedger(loop.model)
    evidence, registry = InMemoryEvidence(), InMemoryRegistry()
    keys = StaticKeys(new_private_key())
    tables = {name: InMemoryTable() for name in ("snapshots", "quarantine", "predictions", "labels")}
    ports = Ports(
        source=lambda: source,
        table=tables.__getitem__,
        ledger=lambda: ledger,
        evidence=lambda: evidence,
        registry=lambda: registry,
        keys=lambda: keys,
        target=default_target,
    )
    return Workspace(loop, root or scratch, scratch, ports, actor)
