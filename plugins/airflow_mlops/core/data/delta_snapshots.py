"""Versioned partitions as a Delta table, on local disk or in S3.

Replacing a partition is one atomic commit; every earlier version stays readable, which is how a
training window is pinned. Rows are streamed into one Parquet file, which a commit then makes part of
the table: memory does not grow with the rows, and a writer that dies before the commit has changed
nothing. Nothing of this may run before a worker forks: see the ADR on forks.

A table is loaded from its newest checkpoint and the few commits after it, so a checkpoint is written every
``CHECKPOINT_EVERY`` commits. A checkpoint names every partition, so most of them go again once they are
``RECENT`` commits old; every ``LASTING``-th stays, and with it and the commits, which are all kept, any version
can be read. A partition in the version that wrote it is found in that one commit: nothing is loaded for it.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Transaction
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from airflow_mlops.core.data.delta_types import ROW_GROUP, in_row_groups, kept_type, plain_type, with_schema
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ports.partitions import BATCH_ROWS

logger = logging.getLogger(__name__)
PARTITION = "partition"
WRITE = "airflow_mlops.write"
SCHEMA = "airflow_mlops.schema"
ATTEMPTS = 8
HISTORY = 200
CHECKPOINT_EVERY = 10
RECENT, LASTING = 200, 100
WRITERS = 256
"""Numbers of transactions that a table keeps: each partition has one of them, and may share it."""

# A registered model may need a version years later: the log that leads to it is never cleaned up.
CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}


class DeltaPartitions:
    """A Delta table in ``folder``, made on first write. See :class:`PartitionedTable`."""

    def __init__(self, folder: Lake | str | Path) -> None:
        self._folder = folder if isinstance(folder, Lake) else Lake.on_disk(folder)

    def write(self, partition: str, rows: pa.Table | pa.RecordBatchReader) -> int:
        """Replace a partition with ``rows``; see :meth:`PartitionedTable.write`."""
        reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
        schema = pa.schema([field.with_type(kept_type(field.type)) for field in reader.schema]).remove_metadata()
        added = self._write_file(partition, reader, schema)
        name = self._folder.uri.rpartition("/")[2]
        fault_point(f"{name}_file_written")
        # Without rows nothing is added, and a type that nobody uses shall not stand against those that are kept.
        stamped = (schema if added else schema.empty_table().select([]).schema).append(pa.field(PARTITION, pa.string()))
        operation = uuid.uuid4().hex
        for attempt in range(1, ATTEMPTS + 1):
            try:
                table = self._ready(stamped)
                self._commit(table, partition, added, operation)
                fault_point(f"{name}_committed")
                return self._committed_version(table, operation)
            except CommitFailedError as error:
                # Somebody committed at the same moment; the file stands, only its commit is to be made again.
                if attempt == ATTEMPTS:
                    raise DataError(f"{self._folder.uri}: no commit in {ATTEMPTS} attempts: {error}") from error
                time.sleep(0.05 * 2**attempt)
            except (OSError, DataError):
                raise  # a full disk says nothing about the rows
            except Exception as error:  # the library raises a bare Exception for some types
                said = str(error).partition("\n")[0]
                raise DataError(f"{self._folder.uri}: partition {partition} cannot be written: {said}") from error
        raise AssertionError("unreachable")

    def _write_file(self, partition: str, reader: pa.RecordBatchReader, schema: pa.Schema) -> list[AddAction]:
        """Stream the rows into a new file, removed again if the reader fails; return how to add it."""
        name = f"{PARTITION}={partition_slug(partition)}/{uuid.uuid4().hex}.parquet"
        files, path = self._folder.file_system(), f"{self._folder.location}/{name}"
        if self._folder.is_local:
            files.create_dir(path.rpartition("/")[0], recursive=True)
        count = 0
        text = [field.name for field in schema if pa.types.is_string(field.type)]
        try:
            with pq.ParquetWriter(path, schema, filesystem=files, use_dictionary=text) as writer:
                for chunk in in_row_groups(reader):
                    writer.write_table(chunk.cast(schema), row_group_size=ROW_GROUP)
                    count += chunk.num_rows
        except pa.ArrowInvalid as error:
            files.delete_file(path)
            raise DataError(f"{self._folder.uri}: partition {partition} cannot be written: {error}") from error
        except BaseException:
            files.delete_file(path)
            raise
        if count == 0:
            files.delete_file(path)
            return []
        size = files.get_file_info(path).size
        statistics = json.dumps({"numRecords": count})
        return [AddAction(name, size, {PARTITION: partition}, 0, True, statistics)]

    def _ready(self, schema: pa.Schema) -> DeltaTable:
        """Return the table, made if it is missing, with every column of ``schema``."""
        table = self._newest()
        if table is None:
            DeltaTable.create(
                self._folder.uri, schema, mode="ignore", partition_by=[PARTITION], configuration=CONFIGURATION,
                storage_options=self._folder.storage_options(),
            )  # fmt: skip
            table = self._table(None)
        known = {field.name: field.type for field in DeltaSchema.from_arrow(schema).fields}
        there = {field.name: field.type for field in table.schema().fields}
        for name, kind in known.items():
            if name in there and there[name] != kind and not pa.types.is_null(schema.field(name).type):
                raise DataError(
                    f"{self._folder.uri}: column {name!r} is kept as {there[name]}; it cannot become {kind}"
                )
        new = [Field(name, kind) for name, kind in known.items() if name not in there]
        if new:
            table.alter.add_columns(new)
            table = self._table(None)
        return table

    def _commit(
        self,
        table: DeltaTable,
        partition: str,
        added: Sequence[AddAction],
        operation: str,
    ) -> None:
        # Two writers of one partition must not both think that they replaced it: the transaction's
        # number makes the later one fail, also where the partition is new and there is nothing to remove.
        # Every checkpoint lists all numbers ever used, so partitions share them; two that meet try again.
        name = f"{PARTITION}:{zlib.crc32(partition.encode()) % WRITERS}"
        transaction = Transaction(name, (table.transaction_version(name) or 0) + 1)
        stated = {WRITE: operation, SCHEMA: table.schema().to_json()}
        table.create_write_transaction(
            # All columns that the table has: fewer would hide what the other partitions hold.
            list(added), "overwrite", table.schema(), [PARTITION], [(PARTITION, "=", partition)],
            commit_properties=CommitProperties(custom_metadata=stated, app_transactions=[transaction]),
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )  # fmt: skip

    def _committed_version(self, table: DeltaTable, operation: str) -> int:
        """Return the version of a commit, once there is a checkpoint of it where one is due."""
        version = self._version_of(operation, int(table.version()) + 1)
        self._checkpoint(table, version)
        return version

    def _checkpoint(self, table: DeltaTable, version: int) -> None:
        """Write a checkpoint if a commit is a tenth one, and delete an old one that newer ones make needless."""
        if (version + 1) % CHECKPOINT_EVERY:
            return
        try:
            table.update_incremental()
            table.create_checkpoint()
            old = version - RECENT
            if old >= 0 and (old + 1) % LASTING:
                path = f"{self._log}/{old:020}.checkpoint.parquet"
                files = self._folder.file_system()
                if files.get_file_info(path).is_file:
                    files.delete_file(path)
        except (DeltaError, OSError) as error:
            # The commit stands, and a version without a checkpoint is read from the one before it.
            logger.warning("%s: no checkpoint of version %d: %s", self._folder.uri, version, error)

    def _version_of(self, operation: str, first: int) -> int:
        """Return the version of a commit: ``first`` or, where others committed at the same time, one after it."""
        # The log itself: a table's history counts down from the version that was loaded, and lists newer commits
        # of others above it, so that while others write it gives the numbers of their neighbours.
        for version in range(first, first + HISTORY):
            actions = self._actions(version)
            if actions is None:
                break
            if any(action.get("commitInfo", {}).get(WRITE) == operation for action in actions):
                return version
        raise DataError(f"{self._folder.uri}: commit {operation} is not among those from {first} on; run it again")

    def _actions(self, version: int) -> list[dict[str, Any]] | None:
        """Return the actions of a commit; None where it is not there."""
        try:
            with self._folder.file_system().open_input_stream(f"{self._log}/{version:020}.json") as log:
                return [json.loads(line) for line in log.read().splitlines() if line.strip()]
        except FileNotFoundError:
            return None

    def _files_of(self, partition: str, version: int | None) -> tuple[pa.Schema, list[str]]:
        """Return the schema of the table in a version, and the paths of the files of a partition."""
        written = None if version is None or version < 0 else self._written_by(partition, version)
        if written is not None:
            return written
        table = self._table(version)
        uris = table.file_uris(file_pruning_predicate=[(PARTITION, "=", partition)])
        return pa.schema(table.schema().to_arrow()), [self._path_of(uri) for uri in uris]

    def _written_by(self, partition: str, version: int) -> tuple[pa.Schema, list[str]] | None:
        """Return the schema and the paths if the commit of a version wrote the partition, which it then wrote whole."""
        actions = self._actions(version) or []
        schema = next((action["commitInfo"].get(SCHEMA) for action in actions if "commitInfo" in action), None)
        added = [action["add"] for action in actions if "add" in action]
        paths = [one["path"] for one in added if one["partitionValues"].get(PARTITION) == partition]
        if schema is None or not paths:
            return None
        arrow = pa.schema(DeltaSchema.from_json(schema).to_arrow())
        return arrow, [f"{self._folder.location}/{path}" for path in paths]

    @property
    def _log(self) -> str:
        return f"{self._folder.location}/_delta_log"

    def _newest(self) -> DeltaTable | None:
        """Return the table in its newest version; None where it was never written."""
        try:
            return self._table(None)
        except TableNotFoundError:
            # Also raised where a folder cannot be reached: only that there is no table is an answer.
            if DeltaTable.is_deltatable(self._folder.uri, storage_options=self._folder.storage_options()):
                raise
            return None

    def _table(self, version: int | None) -> DeltaTable:
        return DeltaTable(self._folder.uri, version=version, storage_options=self._folder.storage_options())

    def read(self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a partition; see :meth:`PartitionedTable.read`."""
        return self.batches(partition, version=version, columns=columns).read_all()

    def batches(
        self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """Return the rows of a partition batch by batch; see :meth:`PartitionedTable.batches`."""
        try:
            schema, paths = self._files_of(partition, version)
        except (TableNotFoundError, DeltaError, OverflowError, OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{self._folder.uri} cannot be read in version {version}: {error}") from error
        if not paths:
            raise DataError(f"{self._folder.uri} holds no partition {partition} in version {version}")
        kept = {field.name: plain_type(field.type) for field in schema if field.name != PARTITION}
        strange = sorted(set(columns or ()) - set(kept))
        if strange:
            raise DataError(f"{self._folder.uri} has no column {strange[0]!r} in version {version}")
        wanted = pa.schema([(name, kept[name]) for name in columns or kept])
        return pa.RecordBatchReader.from_batches(wanted, self._read_files(paths, wanted, version))

    def _path_of(self, uri: str) -> str:
        """Return where a file of the table lies, as the folder's file system names it."""
        folder, _, name = uri.rpartition(f"/{PARTITION}=")
        assert folder, uri
        return f"{self._folder.location}/{PARTITION}={name}"

    def _read_files(self, paths: list[str], wanted: pa.Schema, version: int | None) -> Iterator[pa.RecordBatch]:
        files = self._folder.file_system()
        for path in paths:
            try:
                # Reading ahead would hold every row group at once.
                with pq.ParquetFile(path, filesystem=files, pre_buffer=False) as file:
                    there = [name for name in wanted.names if name in file.schema_arrow.names]
                    for batch in file.iter_batches(BATCH_ROWS, columns=there, use_threads=False):
                        yield with_schema(batch, wanted)
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{self._folder.uri} cannot be read in version {version}: {error}") from error

    def partitions(self) -> list[str]:
        """Return the keys of the partitions that are there now, in order."""
        table = self._newest()
        return [] if table is None else sorted({str(values[PARTITION]) for values in table.partitions()})

    def vacuum(self, keep: Sequence[tuple[str, int]], *, after_hours: int = 24) -> int:
        """Delete the files that nothing needs; see :meth:`PartitionedTable.vacuum`."""
        newest = self._newest()
        if newest is None:
            return 0
        found = newest.vacuum(
            retention_hours=after_hours, full=True, dry_run=True, enforce_retention_duration=False
        )  # fmt: skip
        gone = set(found)
        if not gone:
            return 0
        # Delta itself keeps or drops versions whole, and a version names every partition there was.
        for partition, version in sorted(set(keep)):
            _, paths = self._files_of(partition, version)
            gone -= {path.removeprefix(f"{self._folder.location}/") for path in paths}
        # The log names a file for good, also once it is deleted.
        files = self._folder.file_system()
        listed = files.get_file_info([f"{self._folder.location}/{name}" for name in sorted(gone)])
        there = [info.path for info in listed if info.is_file]
        for path in there:
            files.delete_file(path)
        return len(there)

    def purge(self, partition: str) -> int:
        """Delete every file of a partition that the newest version does not need, whoever needs it; return how many.

        Older versions cannot be read for that partition any more: this is for erasing, not for tidying.
        """
        newest = self._newest()
        if newest is None:
            return 0
        files = self._folder.file_system()
        needed = {
            uri.rpartition("/")[2] for uri in newest.file_uris(file_pruning_predicate=[(PARTITION, "=", partition)])
        }
        folder = f"{self._folder.location}/{PARTITION}={partition_slug(partition)}"
        from pyarrow.fs import FileSelector

        found = files.get_file_info(FileSelector(folder, allow_not_found=True))
        gone = [info.path for info in found if info.base_name not in needed]
        for path in gone:
            files.delete_file(path)
        return len(gone)
