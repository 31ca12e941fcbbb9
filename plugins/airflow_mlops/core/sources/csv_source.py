"""A source of CSV files, plain or compressed: one file for each partition, or several."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileSystem

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ports.partitions import Arrival, BrokenRow
from airflow_mlops.core.sources.csv_rows import CsvRows, require_delimiter
from airflow_mlops.core.sources.partition_files import FoundFile, PartitionFiles, untouched
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.utf8_stream import DAMAGES, TextFeed, decompressed


class CsvFiles:
    """CSV files named by a template; see :class:`airflow_mlops.core.sources.partition_files.PartitionFiles`.

    Every column arrives as text and an empty value as empty text: what it means is the contract's to say.

    Parameters
    ----------
    template : str
        Path with ``{partition}`` or another placeholder in it; .gz, .bz2, .xz and .zst are decompressed.
    root : Path
        Folder that a relative template starts from.
    filesystem : pyarrow.fs.FileSystem, optional
        Where the files are; the local disk if not given.
    delimiter : str
        Character between two values.
    limits : Limits
        How much a partition may hold.
    """

    def __init__(
        self,
        template: str,
        *,
        root: Path,
        filesystem: FileSystem | None = None,
        delimiter: str = ",",
        limits: Limits | None = None,
    ) -> None:
        require_delimiter(delimiter)
        self._files = PartitionFiles(template, root=root, filesystem=filesystem)
        self._delimiter, self._limits = delimiter, limits or Limits()

    def path(self, partition: str) -> Path:
        """Return where the file of a partition is expected on the local disk."""
        return self._files.path(partition)

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files = self._files.find(partition)
        if untouched(files, known):
            yield Arrival(pa.schema([]), iter(()), typed=False, origin=dict(known or {}), unchanged=True)
            return
        names: list[str] | None = None
        for file in files:
            with self._rows(file, partition, Meter(self._limits, partition), []) as rows:
                names = rows.names if names is None else names
                refuse_another_header(rows.names, names, f"partition {partition}: {file.name}", files[0].name)
        broken: list[BrokenRow] = []
        schema = pa.schema([pa.field(name, pa.string()) for name in names or ()])
        with closing(self._batches(files, schema, partition, broken)) as batches:
            origin = {"files": [file.origin() for file in files]}
            yield Arrival(schema, batches, typed=False, origin=origin, broken=broken)

    @contextmanager
    def _rows(self, file: FoundFile, partition: str, meter: Meter, broken: list[BrokenRow]) -> Iterator[CsvRows]:
        try:
            with self._files.filesystem.open_input_stream(file.path, compression=None) as stream:
                feed = TextFeed(
                    decompressed(stream, file.name), name=file.name, meter=meter,
                    fault=lambda error: self._files.fault(error, partition, file.name),
                )  # fmt: skip
                yield CsvRows(
                    feed, name=file.name, partition=partition, delimiter=self._delimiter, meter=meter, broken=broken
                )  # fmt: skip
        except DAMAGES as error:
            raise self._files.fault(error, partition, file.name) from error

    def _batches(
        self, files: Sequence[FoundFile], schema: pa.Schema, partition: str, broken: list[BrokenRow]
    ) -> Generator[pa.RecordBatch]:
        meter = Meter(self._limits, partition)
        for file in files:
            with self._rows(file, partition, meter, broken) as rows:
                refuse_another_header(rows.names, schema.names, f"partition {partition}: {file.name}", files[0].name)
                same = rows.names == schema.names
                for batch in rows.batches():
                    yield batch if same else batch.select(schema.names)


def refuse_another_header(names: Sequence[str], expected: Sequence[str], name: str, first: str) -> None:
    """Refuse a text whose header has other names than that of the first; another order is fine.

    Raises
    ------
    PartitionRefusedError
        Naming every column that differs.
    """
    if sorted(names) == sorted(expected):
        return
    told = [f"column {column!r} is missing" for column in expected if column not in names]
    told += [f"column {column!r} is new" for column in names if column not in expected]
    told = told or ["a column stands there another number of times"]
    shown = "; ".join(told[:10]) + (f"; and {len(told) - 10} more" if len(told) > 10 else "")
    raise PartitionRefusedError(
        f"{name} has other columns than {first}: {shown}; the files of a partition must have the same columns"
    )
