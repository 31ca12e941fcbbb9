"""Versioned partitions as a Delta table, on local disk or in S3.

Replacing a partition is one atomic commit. Every earlier version stays readable, so a training window can be pinned.
Rows are streamed into one Parquet file, which a commit adds to the table: memory does not grow with the rows, and a
writer that dies before the commit changes nothing. No code here may run before a worker forks: see the ADR on forks.

A table is loaded from its newest checkpoint and the commits after it, so a checkpoint is written every
``CHECKPOINT_EVERY`` commits. A checkpoint names every partition, so most are deleted once they are ``RECENT`` commits
old. Every ``LASTING``-th stays, and every commit stays, so every version stays readable. A partition that is read in
the version that wrote it is found in that one commit, and no table is loaded.
"""

from __future__ import annotations

import json
import logging
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Transaction
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from airflow_mlops.core.data.delta_types import (
    ROW_GROUP,
    conform_batch,
    delta_type,
    iter_row_groups,
    plain_type,
)
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.errors import DataError, EngineError, LakeUnavailableError, MlopsError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.lake import Lake, is_unreachable
from airflow_mlops.core.ports.partitions import BATCH_ROWS
from airflow_mlops.core.sources.batch_sizes import fill_batches

logger = logging.getLogger(__name__)
PARTITION = "partition"
WRITE = "airflow_mlops.write"
SCHEMA = "airflow_mlops.schema"
ATTEMPTS = 8
SEARCHED_COMMITS = 200
"""Number of commits among which a writer looks for its own."""
CHECKPOINT_EVERY = 10
RECENT, LASTING = 200, 100
TRANSACTION_NAMES = 256
"""Number of transaction names in a table: a partition has one of them, and may share it with others."""

# A registered model may need a version years later, so the log that leads to it is never cleaned up.
CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}


@dataclass(frozen=True)
class DataFile:
    """A file of rows in the folder of a table: its name there, its bytes and its rows."""

    name: str
    size: int
    rows: int


class DeltaPartitions:
    """A Delta table in ``folder``, created on first write; see :class:`PartitionedTable`."""

    def __init__(self, folder: Lake | str | Path) -> None:
        self._folder = folder if isinstance(folder, Lake) else Lake.on_disk(folder)

    def write(self, partition: str, rows: pa.Table | pa.RecordBatchReader) -> int:
        """Replace a partition with ``rows``; see :meth:`PartitionedTable.write`."""
        reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
        written = self.write_file(partition, reader)
        return self.commit_files(partition, reader.schema, [written] if written else [])

    def write_file(self, partition: str, reader: pa.RecordBatchReader, *, name: str = "") -> DataFile | None:
        """Write rows into a new file of a partition, which no version holds before :meth:`commit_files`.

        Parameters
        ----------
        partition : str
            Its key.
        reader : pyarrow.RecordBatchReader
            The rows, consumed batch by batch; if it raises, the file is removed.
        name : str
            Beginning of the file's name: files of one partition are read in the order of their names.

        Returns
        -------
        DataFile or None
            None without a row.
        """
        schema = _stored_schema(reader.schema)
        with external_write(f"{self._name}.write_file"):
            return self._write_file(partition, reader, schema, name)

    def commit_files(self, partition: str, schema: pa.Schema, files: Sequence[DataFile]) -> int:
        """Replace a partition by files that were written before, in one commit; return the new version of the table.

        Raises
        ------
        EngineError
            If a file is not there as it was written.
        DataError
            If the columns do not fit those of the table.
        LakeUnavailableError
            If the lake does not answer, or others commit all the time.
        """
        self._require_files(partition, files)
        # Without rows no file is added, and the types of an empty partition must not conflict with stored ones.
        stored = _stored_schema(schema)
        table_schema = stored if files else stored.empty_table().select([]).schema
        added = [
            AddAction(file.name, file.size, {PARTITION: partition}, 0, True, json.dumps({"numRecords": file.rows}))
            for file in files
        ]
        table_schema = table_schema.append(pa.field(PARTITION, pa.string()))
        try:
            # Another writer committed at the same moment: the file stays, and only its commit is made again.
            commit = Retrying(
                retry=retry_if_exception_type(CommitFailedError),
                stop=stop_after_attempt(ATTEMPTS),
                wait=wait_exponential(multiplier=0.1),
                reraise=True,
            )
            return commit(self._add_file, partition, added, table_schema, uuid.uuid4().hex)
        except CommitFailedError as error:
            raise LakeUnavailableError(f"{self._folder.uri}: no commit in {ATTEMPTS} attempts: {error}") from error
        except (OSError, MlopsError):
            raise  # a full disk says nothing about the rows
        except Exception as error:
            if type(error) is not Exception and not isinstance(error, DeltaError | pa.ArrowException):
                raise  # nor does anything but the library's own errors, of which some have no type
            kind = LakeUnavailableError if is_unreachable(error) else DataError
            reason = str(error).partition("\n")[0]
            raise kind(f"{self._folder.uri}: partition {partition} cannot be written: {reason}") from error

    @property
    def _name(self) -> str:
        return self._folder.uri.rpartition("/")[2]

    def _add_file(self, partition: str, added: Sequence[AddAction], schema: pa.Schema, operation: str) -> int:
        """Replace a partition by the files ``added`` in one commit, and return the version of the table."""
        table = self._open_for_write(schema)
        with external_write(f"{self._name}.commit"):
            self._commit(table, partition, added, operation)
        version = self._version_of(operation, int(table.version()) + 1)
        self._write_checkpoint(table, version)
        return version

    def discard_files(self, files: Sequence[DataFile]) -> None:
        """Delete files that were written and not committed."""
        for file in files:
            with external_write(f"{self._name}.delete_file"), suppress(FileNotFoundError):
                self._folder.file_system().delete_file(f"{self._folder.location}/{file.name}")

    def _require_files(self, partition: str, files: Sequence[DataFile]) -> None:
        """Raise EngineError unless every file is in this folder: another machine may have written into its own."""
        paths = [f"{self._folder.location}/{file.name}" for file in files]
        for file, info in zip(files, self._folder.file_system().get_file_info(paths), strict=True):
            if not info.is_file or info.size != file.size:
                raise EngineError(
                    f"{self._folder.uri}: {file.name} of partition {partition} was written with {file.size:,} bytes, "
                    "and is not in this folder with as many; the lake must be one folder for all machines, or in S3"
                )

    def _write_file(
        self, partition: str, reader: pa.RecordBatchReader, schema: pa.Schema, beginning: str
    ) -> DataFile | None:
        """Stream the rows into a new file and return it; remove it if the reader fails."""
        name = f"{PARTITION}={partition_slug(partition)}/{beginning}{uuid.uuid4().hex}.parquet"
        files, path = self._folder.file_system(), f"{self._folder.location}/{name}"
        if self._folder.is_local:
            files.create_dir(path.rpartition("/")[0], recursive=True)
        count = 0
        text = [field.name for field in schema if pa.types.is_string(field.type)]
        try:
            with pq.ParquetWriter(path, schema, filesystem=files, use_dictionary=text) as writer:
                for chunk in iter_row_groups(reader):
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
            return None
        return DataFile(name, files.get_file_info(path).size, count)

    def _open_for_write(self, schema: pa.Schema) -> DeltaTable:
        """Return the table with every column of ``schema``; create it if it is missing."""
        table = self._newest()
        if table is None:
            with external_write(f"{self._name}.create_table"):
                DeltaTable.create(
                    self._folder.uri,
                    schema,
                    mode="ignore",
                    partition_by=[PARTITION],
                    configuration=CONFIGURATION,
                    storage_options=self._folder.storage_options(),
                )
            table = self._table(None)
        declared = {field.name: field.type for field in DeltaSchema.from_arrow(schema).fields}
        stored = {field.name: field.type for field in table.schema().fields}
        for name, kind in declared.items():
            if name in stored and stored[name] != kind and not pa.types.is_null(schema.field(name).type):
                raise DataError(
                    f"{self._folder.uri}: column {name!r} is kept as {stored[name]}; it cannot become {kind}"
                )
        new = [Field(name, kind) for name, kind in declared.items() if name not in stored]
        if new:
            with external_write(f"{self._name}.add_columns"):
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
        # Two writers of one partition must not both succeed: the number of the transaction makes the later one fail,
        # also if the partition is new and has no file to remove. Every checkpoint lists every transaction name ever
        # used, so partitions share the names; two writers that meet under one name try again.
        name = f"{PARTITION}:{zlib.crc32(partition.encode()) % TRANSACTION_NAMES}"
        transaction = Transaction(name, (table.transaction_version(name) or 0) + 1)
        metadata = {WRITE: operation, SCHEMA: table.schema().to_json()}
        table.create_write_transaction(
            # All columns of the table: fewer would hide columns of the other partitions.
            list(added),
            "overwrite",
            table.schema(),
            [PARTITION],
            [(PARTITION, "=", partition)],
            commit_properties=CommitProperties(custom_metadata=metadata, app_transactions=[transaction]),
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )

    def _write_checkpoint(self, table: DeltaTable, version: int) -> None:
        """Write a checkpoint of every tenth commit, and delete an old one that newer ones replace."""
        if (version + 1) % CHECKPOINT_EVERY:
            return
        try:
            table.update_incremental()
            with external_write(f"{self._name}.create_checkpoint"):
                table.create_checkpoint()
            old = version - RECENT
            if old >= 0 and (old + 1) % LASTING:
                path = f"{self._log}/{old:020}.checkpoint.parquet"
                files = self._folder.file_system()
                if files.get_file_info(path).is_file:
                    with external_write(f"{self._name}.delete_checkpoint"):
                        files.delete_file(path)
        except (DeltaError, OSError) as error:
            # The commit stands, and a version without a checkpoint is read from the checkpoint before it.
            logger.warning("%s: no checkpoint of version %d: %s", self._folder.uri, version, error)

    def _version_of(self, operation: str, first: int) -> int:
        """Return the version of a commit: ``first``, or a later one if others committed at the same time."""
        # The log is read itself: DeltaTable.history() numbers commits down from the loaded version, and lists newer
        # commits of other writers above it, so that its numbers are wrong while others write.
        for version in range(first, first + SEARCHED_COMMITS):
            actions = self._actions(version)
            if actions is None:
                break
            if any(action.get("commitInfo", {}).get(WRITE) == operation for action in actions):
                return version
        raise LakeUnavailableError(
            f"{self._folder.uri}: commit {operation} is not among the {SEARCHED_COMMITS} from {first} on; run it again"
        )

    def _actions(self, version: int) -> list[dict[str, Any]] | None:
        """Return the actions of a commit, or None if the commit is missing."""
        try:
            with self._folder.file_system().open_input_stream(f"{self._log}/{version:020}.json") as log:
                return [json.loads(line) for line in log.read().splitlines() if line.strip()]
        except FileNotFoundError:
            return None

    def _files_of(self, partition: str, version: int | None) -> tuple[pa.Schema, list[str]]:
        """Return the schema of the table in a version, and the paths of the files of a partition."""
        written = None if version is None or version < 0 else self._files_written_by(partition, version)
        if written is not None:
            return written
        table = self._table(version)
        uris = sorted(table.file_uris(file_pruning_predicate=[(PARTITION, "=", partition)]))
        return pa.schema(table.schema().to_arrow()), [self._path_of(uri) for uri in uris]

    def _files_written_by(self, partition: str, version: int) -> tuple[pa.Schema, list[str]] | None:
        """Return the schema and the paths if the commit of a version wrote the partition, and so all of it."""
        actions = self._actions(version) or []
        schema = next((action["commitInfo"].get(SCHEMA) for action in actions if "commitInfo" in action), None)
        added = [action["add"] for action in actions if "add" in action]
        paths = [action["path"] for action in added if action["partitionValues"].get(PARTITION) == partition]
        if schema is None or not paths:
            return None
        arrow = pa.schema(DeltaSchema.from_json(schema).to_arrow())
        return arrow, [f"{self._folder.location}/{path}" for path in sorted(paths)]

    @property
    def _log(self) -> str:
        return f"{self._folder.location}/_delta_log"

    def _newest(self) -> DeltaTable | None:
        """Return the newest version of the table, or None if it was never written."""
        try:
            return self._table(None)
        except TableNotFoundError:
            # The error is also raised if a folder cannot be reached, and only a missing table is an answer. A table may
            # have been created since: it is opened again, which raises once more where the folder is out of reach.
            if DeltaTable.is_deltatable(self._folder.uri, storage_options=self._folder.storage_options()):
                return self._table(None)
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
            raise self._unreadable(version, error) from error
        if not paths:
            raise DataError(f"{self._folder.uri} holds no partition {partition} in version {version}")
        types = {field.name: plain_type(field.type) for field in schema if field.name != PARTITION}
        unknown = sorted(set(columns or ()) - set(types))
        if unknown:
            raise DataError(f"{self._folder.uri} has no column {unknown[0]!r} in version {version}")
        result_schema = pa.schema([(name, types[name]) for name in columns or types])
        batches = self._read_files(paths, result_schema, version)
        if len(paths) > 1:  # as many rows in a batch as of one file, so that sums of floats do not depend on files
            batches = fill_batches(batches, BATCH_ROWS)
        return pa.RecordBatchReader.from_batches(result_schema, batches)

    def _path_of(self, uri: str) -> str:
        """Return the path of a file of the table in the folder's file system."""
        folder, _, name = uri.rpartition(f"/{PARTITION}=")
        assert folder, uri
        return f"{self._folder.location}/{PARTITION}={name}"

    def _read_files(self, paths: list[str], schema: pa.Schema, version: int | None) -> Iterator[pa.RecordBatch]:
        files = self._folder.file_system()
        for path in paths:
            try:
                # Reading ahead would hold every row group in memory at once.
                with pq.ParquetFile(path, filesystem=files, pre_buffer=False) as file:
                    present = [name for name in schema.names if name in file.schema_arrow.names]
                    for batch in file.iter_batches(BATCH_ROWS, columns=present, use_threads=False):
                        yield conform_batch(batch, schema)
            except (OSError, pa.ArrowException) as error:
                raise self._unreadable(version, error) from error

    def _unreadable(self, version: int | None, error: Exception) -> MlopsError:
        """Return the error about a version that cannot be read: its files are at fault, or the lake does not answer."""
        kind = LakeUnavailableError if is_unreachable(error) else DataError
        return kind(f"{self._folder.uri} cannot be read in version {version}: {error}")

    def partitions(self) -> list[str]:
        """Return the keys of the partitions in the newest version, in order."""
        table = self._newest()
        return [] if table is None else sorted({str(values[PARTITION]) for values in table.partitions()})

    def vacuum(self, keep: Sequence[tuple[str, int]], *, after_hours: int = 24) -> int:
        """Delete the files that no kept partition needs; see :meth:`PartitionedTable.vacuum`."""
        newest = self._newest()
        if newest is None:
            return 0
        unneeded = set(
            newest.vacuum(retention_hours=after_hours, full=True, dry_run=True, enforce_retention_duration=False)
        )
        if not unneeded:
            return 0
        # Delta keeps or drops whole versions, and a version names the files of every partition.
        for partition, version in sorted(set(keep)):
            _, paths = self._files_of(partition, version)
            unneeded -= {path.removeprefix(f"{self._folder.location}/") for path in paths}
        # The log names deleted files for ever, so vacuum lists them again.
        files = self._folder.file_system()
        infos = files.get_file_info([f"{self._folder.location}/{name}" for name in sorted(unneeded)])
        paths = [info.path for info in infos if info.is_file]
        for path in paths:
            with external_write(f"{self._name}.delete_file"):
                files.delete_file(path)
        return len(paths)

    def purge(self, partition: str) -> int:
        """Delete every file of a partition that the newest version does not need, and return their number.

        Older versions of the partition cannot be read any more: this is for erasure, not for retention.
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

        infos = files.get_file_info(FileSelector(folder, allow_not_found=True))
        paths = [info.path for info in infos if info.base_name not in needed]
        for path in paths:
            with external_write(f"{self._name}.delete_file"):
                files.delete_file(path)
        return len(paths)


def _stored_schema(schema: pa.Schema) -> pa.Schema:
    """Return the columns as the table keeps them."""
    return pa.schema([field.with_type(delta_type(field.type)) for field in schema]).remove_metadata()
