"""Delete rows of an Iceberg table by their positions, as Spark and Flink do and pyiceberg does not.

The delete file, its manifest and its snapshot are made by pyiceberg's own writers, so that its reader meets what other
engines leave behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestWriterV2
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record


class _DeleteManifest(ManifestWriterV2):
    """A manifest of delete files."""

    def content(self) -> ManifestContent:
        """Return the kind of files in it."""
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _AppendDeletes(_FastAppendFiles):
    """A snapshot that adds delete files."""

    def new_manifest_writer(self, spec: PartitionSpec) -> _DeleteManifest:
        """Return a writer of a manifest of delete files."""
        schema = self._transaction.table_metadata.schema()
        return _DeleteManifest(spec, schema, self.new_manifest_output(), self._snapshot_id, self._compression)


def delete_positions(table: Table, positions: Sequence[int]) -> None:
    """Delete the rows at some positions of every data file, by one delete file for each."""
    paths = [task.file.file_path for task in table.scan().plan_files()]
    with table.transaction() as transaction:
        update = _AppendDeletes(Operation.DELETE, transaction, table.io)
        for number, path in enumerate(paths):
            update.append_data_file(_delete_file(table, f"deletes-{number}.parquet", path, positions))
        update.commit()


def _delete_file(table: Table, name: str, path: str, positions: Sequence[int]) -> DataFile:
    target = f"{table.location()}/data/{name}"
    rows = pa.table({"file_path": [path] * len(positions), "pos": pa.array(positions, pa.int64())})
    local = Path(urlsplit(target).path)
    pq.write_table(rows, local)
    bounds: dict[str, Any] = {"lower_bounds": {2147483546: path.encode()}, "upper_bounds": {2147483546: path.encode()}}
    return DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=target,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(positions),
        file_size_in_bytes=local.stat().st_size,
        spec_id=table.metadata.default_spec_id,
        **bounds,
    )
