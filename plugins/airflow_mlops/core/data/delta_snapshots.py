"""Versioned partitions as a Delta table, on local disk or in S3.

Replacing a partition is one atomic commit. Every earlier version stays readable, so a training window can be pinned.
Rows are streamed into one Parquet file, which a commit adds to the table: memory does not grow with the rows, and a
writer that dies before the commit changes nothing. No code here may run before a worker forks: see the ADR on forks.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, Transaction
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from airflow_mlops.core.data.delta_types import ROW_GROUP, conform_batch, delta_type, iter_row_groups, plain_type
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ports.partitions import BATCH_ROWS

PARTITION = "partition"
WRITE = "airflow_mlops.write"
ATTEMPTS = 8
SEARCHED_COMMITS = 200
"""Number of newest commits among which a writer looks for its own."""

# A registered model may need a version years later, so the log that leads to it is never cleaned up.
CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}


class DeltaPartitions:
    """A Delta table in ``folder``, created on first write; see :class:`PartitionedTable`."""

    def __init__(self, folder: Lake | str | Path) -> None:
        self._folder = folder if isinstance(folder, Lake) else Lake.on_disk(folder)

    def write(self, partition: str, rows: pa.Table | pa.RecordBatchReader) -> int:
        """Replace a partition with ``rows``; see :meth:`PartitionedTable.write`."""
        reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
        schema = pa.schema([field.with_type(delta_type(field.type)) for field in reader.schema]).remove_metadata()
        added = self._write_file(partition, reader, schema)
        fault_point(f"{self._name}_file_written")
        # Without rows no file is added, and the types of an empty partition must not conflict with stored ones.
        table_schema = schema if added else schema.empty_table().select([]).schema
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
            raise DataError(f"{self._folder.uri}: no commit in {ATTEMPTS} attempts: {error}") from error
        except (OSError, DataError):
            raise  # a full disk says nothing about the rows
        except Exception as error:  # the library raises a bare Exception for some types
            reason = str(error).partition("\n")[0]
            raise DataError(f"{self._folder.uri}: partition {partition} cannot be written: {reason}") from error

    @property
    def _name(self) -> str:
        return self._folder.uri.rpartition("/")[2]

    def _add_file(self, partition: str, added: Sequence[AddAction], schema: pa.Schema, operation: str) -> int:
        """Replace a partition by the files ``added`` in one commit, and return the version of the table."""
        self._commit(self._open_for_write(schema), partition, added, operation)
        fault_point(f"{self._name}_committed")
        return self._version_of(operation)

    def _write_file(self, partition: str, reader: pa.RecordBatchReader, schema: pa.Schema) -> list[AddAction]:
        """Stream the rows into a new file and return the action that adds it; remove it if the reader fails."""
        name = f"{PARTITION}={partition_slug(partition)}/{uuid.uuid4().hex}.parquet"
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
            return []
        size = files.get_file_info(path).size
        statistics = json.dumps({"numRecords": count})
        return [AddAction(name, size, {PARTITION: partition}, 0, True, statistics)]

    def _open_for_write(self, schema: pa.Schema) -> DeltaTable:
        """Return the table with every column of ``schema``; create it if it is missing."""
        options = self._folder.storage_options()
        if not DeltaTable.is_deltatable(self._folder.uri, storage_options=options):
            DeltaTable.create(
                self._folder.uri,
                schema,
                mode="ignore",
                partition_by=[PARTITION],
                configuration=CONFIGURATION,
                storage_options=options,
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
        # also if the partition is new and has no file to remove.
        name = f"{PARTITION}:{partition}"
        transaction = Transaction(name, (table.transaction_version(name) or 0) + 1)
        table.create_write_transaction(
            # All columns of the table: fewer would hide columns of the other partitions.
            list(added),
            "overwrite",
            table.schema(),
            [PARTITION],
            [(PARTITION, "=", partition)],
            commit_properties=CommitProperties(custom_metadata={WRITE: operation}, app_transactions=[transaction]),
        )

    def _version_of(self, operation: str) -> int:
        # The log is read itself: DeltaTable.history() numbers commits down from the loaded version, and lists newer
        # commits of other writers above it, so that its numbers are wrong while others write.
        newest, files = int(self._table(None).version()), self._folder.file_system()
        for version in range(newest, max(newest - SEARCHED_COMMITS, -1), -1):
            with files.open_input_stream(f"{self._folder.location}/_delta_log/{version:020}.json") as log:
                actions = [json.loads(line) for line in log.read().splitlines() if line.strip()]
            if any(action.get("commitInfo", {}).get(WRITE) == operation for action in actions):
                return version
        raise DataError(
            f"{self._folder.uri}: commit {operation} is not among the newest {SEARCHED_COMMITS}; run it again"
        )

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
            table = self._table(version)
            schema = pa.schema(table.schema().to_arrow()).remove_metadata()
            paths = [
                self._path_of(uri) for uri in table.file_uris(file_pruning_predicate=[(PARTITION, "=", partition)])
            ]
        except (TableNotFoundError, DeltaError, OverflowError, OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{self._folder.uri} cannot be read in version {version}: {error}") from error
        if not paths:
            raise DataError(f"{self._folder.uri} holds no partition {partition} in version {version}")
        types = {field.name: plain_type(field.type) for field in schema if field.name != PARTITION}
        unknown = sorted(set(columns or ()) - set(types))
        if unknown:
            raise DataError(f"{self._folder.uri} has no column {unknown[0]!r} in version {version}")
        result_schema = pa.schema([(name, types[name]) for name in columns or types])
        return pa.RecordBatchReader.from_batches(result_schema, self._read_files(paths, result_schema, version))

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
                raise DataError(f"{self._folder.uri} cannot be read in version {version}: {error}") from error

    def partitions(self) -> list[str]:
        """Return the keys of the partitions in the newest version, in order."""
        if not DeltaTable.is_deltatable(self._folder.uri, storage_options=self._folder.storage_options()):
            return []
        return sorted({str(values[PARTITION]) for values in self._table(None).partitions()})

    def vacuum(self, keep: Sequence[tuple[str, int]], *, after_hours: int = 24) -> int:
        """Delete the files that no kept partition needs; see :meth:`PartitionedTable.vacuum`."""
        if not DeltaTable.is_deltatable(self._folder.uri, storage_options=self._folder.storage_options()):
            return 0
        unneeded = set(
            self._table(None).vacuum(
                retention_hours=after_hours, full=True, dry_run=True, enforce_retention_duration=False
            )
        )
        if not unneeded:
            return 0
        # Delta keeps or drops whole versions, and a version names the files of every partition.
        by_version: dict[int, list[str]] = {}
        for partition, version in sorted(set(keep)):
            by_version.setdefault(version, []).append(partition)
        for version, partitions in by_version.items():
            table = self._table(version)
            for partition in partitions:
                uris = table.file_uris(file_pruning_predicate=[(PARTITION, "=", partition)])
                unneeded -= {self._path_of(uri).removeprefix(f"{self._folder.location}/") for uri in uris}
        # The log names deleted files for ever, so vacuum lists them again.
        files = self._folder.file_system()
        infos = files.get_file_info([f"{self._folder.location}/{name}" for name in sorted(unneeded)])
        paths = [info.path for info in infos if info.is_file]
        for path in paths:
            files.delete_file(path)
        return len(paths)

    def purge(self, partition: str) -> int:
        """Delete every file of a partition that the newest version does not need, and return their number.

        Older versions of the partition cannot be read any more: this is for erasure, not for retention.
        """
        if not DeltaTable.is_deltatable(self._folder.uri, storage_options=self._folder.storage_options()):
            return 0
        files = self._folder.file_system()
        needed = {
            uri.rpartition("/")[2]
            for uri in self._table(None).file_uris(file_pruning_predicate=[(PARTITION, "=", partition)])
        }
        folder = f"{self._folder.location}/{PARTITION}={partition_slug(partition)}"
        from pyarrow.fs import FileSelector

        infos = files.get_file_info(FileSelector(folder, allow_not_found=True))
        paths = [info.path for info in infos if info.base_name not in needed]
        for path in paths:
            files.delete_file(path)
        return len(paths)
