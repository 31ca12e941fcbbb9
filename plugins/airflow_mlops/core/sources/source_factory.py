"""Build the source that a loop declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.declaration.contract import read_contract
from airflow_mlops.core.declaration.data import (
    CsvSource,
    Data,
    DeltaSource,
    FeastSource,
    HttpSource,
    IcebergSource,
    JsonSource,
    OrcSource,
    ParquetSource,
    SqlSource,
    XlsxSource,
)
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.connections import Connections
from airflow_mlops.core.ports.partitions import Source
from airflow_mlops.core.sources.csv_dialect import CsvDialect
from airflow_mlops.core.sources.time_cut import RowTimes, TimeColumn

if TYPE_CHECKING:
    from airflow_mlops.core.sources.table_copies import TableCopies


def open_source(
    loop: Loop, connections: Connections, *, root: Path, times: RowTimes | None = None, scratch: Path | None = None
) -> Source:
    """Return the source of a loop; nothing is read yet.

    Parameters
    ----------
    loop : Loop
        The declaration.
    connections : Connections
        Connections by their ids.
    root : Path
        Project folder: base of the relative paths in the declaration.
    times : RowTimes, optional
        Reads the times of the rows; needed where files without a placeholder are cut by their time column.
    scratch : Path, optional
        Folder of this machine for copies of large files that are cut; without one there are no copies.

    Raises
    ------
    DeclarationError
        If a connection does not exist or has another kind, or what a kind needs is not installed.
    """
    files = _FileSources(loop.data, connections, root, times, scratch)
    return _OPENERS[type(loop.data.source)](loop.data.source, files)


@dataclass(frozen=True)
class _FileSources:
    """Opens sources of files, each a file for one partition or a table that is cut by its time column."""

    data: Data
    connections: Connections
    root: Path
    times: RowTimes | None
    scratch: Path | None

    def options(self, source: ParquetSource | OrcSource | CsvSource | JsonSource | XlsxSource) -> dict[str, Any]:
        """Return the arguments that sources of files share."""
        return {
            "root": self.root,
            "limits": self.data.limits,
            "path_columns": () if isinstance(source, JsonSource | XlsxSource) else source.path_columns,
            "schedule": self.data.schedule,
            "filesystem": _filesystem(source, self.connections),
        }

    def time_column(self) -> TimeColumn:
        """Return the column that cuts a table of all partitions."""
        assert self.times is not None, "whoever opens a declared source states how its times are read"
        return TimeColumn(_arriving_time(self.data, self.root), self.data.schedule, self.times)

    def copies(self, dialect: CsvDialect) -> TableCopies | None:
        """Return the copies of a text; None where rows are about persons, whose data is masked before it is written."""
        if self.scratch is None or self.times is None or self.data.contract is None:
            return None
        contract = read_contract(self.root / self.data.contract)
        if contract.subject is not None or any(
            column.mask or column.privacy != "none" for column in contract.columns.values()
        ):
            return None
        from airflow_mlops.core.sources.table_copies import COPIES, TableCopies

        settings = f"{dialect} {self.data.time} {self.times.settings}"
        return TableCopies(self.scratch / COPIES, settings=settings, columns=frozenset(contract.arriving.values()))


def _parquet(source: ParquetSource, files: _FileSources) -> Source:
    if source.is_cut_by_time:
        from airflow_mlops.core.sources.parquet_table import ParquetTable

        return ParquetTable(source.uri, time=files.time_column(), **files.options(source))
    from airflow_mlops.core.sources.parquet_source import ParquetFiles

    return ParquetFiles(source.uri, **files.options(source))


def _orc(source: OrcSource, files: _FileSources) -> Source:
    from airflow_mlops.core.sources.orc_source import OrcFiles, OrcTable

    if source.is_cut_by_time:
        return OrcTable(source.uri, time=files.time_column(), **files.options(source))
    return OrcFiles(source.uri, **files.options(source))


def _csv(source: CsvSource, files: _FileSources) -> Source:
    options = files.options(source) | {"dialect": csv_dialect(source, files.data, files.root)}
    if source.is_cut_by_time:
        from airflow_mlops.core.sources.csv_table import CsvTable

        return CsvTable(source.uri, time=files.time_column(), copies=files.copies(options["dialect"]), **options)
    from airflow_mlops.core.sources.csv_source import CsvFiles

    return CsvFiles(source.uri, **options)


def _arriving_time(data: Data, root: Path) -> str:
    """Return the name with which the time column arrives."""
    if data.contract is None:
        return data.time
    contract = read_contract(root / data.contract)
    return contract.arriving.get(data.time, data.time)


def csv_dialect(source: CsvSource, data: Data, root: Path) -> CsvDialect:
    """Return the dialect of a text; without a header, the columns are those of the contract.

    Raises
    ------
    DeclarationError
        If a sign or the encoding is none.
    """
    names = header_names(source, data, root)
    return CsvDialect(
        source.delimiter, source.quote, source.escape, source.comment, source.encoding, source.skip_rows, names
    )


def header_names(source: CsvSource | XlsxSource, data: Data, root: Path) -> tuple[str, ...] | None:
    """Return the names of the columns that no row has; None where a row has them.

    Raises
    ------
    DeclarationError
        If they are those of a contract, and there is none.
    """
    if source.header is not False:
        return source.header if isinstance(source.header, tuple) else None
    if data.contract is None:
        raise DeclarationError(
            "is false, which takes the names from data.contract, and there is none; list them: header: [id, label]",
            key="data.source.header",
        )
    return tuple(read_contract(root / data.contract).arriving.values())


def _filesystem(
    source: ParquetSource | OrcSource | CsvSource | JsonSource | XlsxSource, connections: Connections
) -> Any:
    """Return the file system of an object store, None for the local disk."""
    return connections.filesystem(source.conn_id) if _is_on_s3(source) else None


def _is_on_s3(source: ParquetSource | OrcSource | CsvSource | JsonSource | DeltaSource | XlsxSource) -> bool:
    """Return whether files are in S3.

    Raises
    ------
    DeclarationError
        If they are neither there nor on the local disk, or a connection is declared for the local disk.
    """
    if source.uri.startswith("s3://"):
        return True
    if "://" in source.uri:
        raise DeclarationError(f"{source.uri!r} is neither a path nor s3://bucket/key", key="data.source.uri")
    if source.conn_id is not None:
        raise DeclarationError(f"goes with s3://, and the uri is {source.uri!r}", key="data.source.conn_id")
    return False


def _delta(source: DeltaSource, files: _FileSources) -> Source:
    from airflow_mlops.core.sources.delta_source import DeltaRows

    return DeltaRows(
        source.uri,
        root=files.root,
        s3=files.connections.s3(source.conn_id) if _is_on_s3(source) else {},
        version=source.version,
        time=files.time_column(),
        limits=files.data.limits,
    )


def _xlsx(source: XlsxSource, files: _FileSources) -> Source:
    from airflow_mlops.core.sources.xlsx_rows import SheetForm
    from airflow_mlops.core.sources.xlsx_source import XlsxFiles, XlsxTable

    data = files.data
    contract = None if data.contract is None else read_contract(files.root / data.contract)
    arriving = contract.arriving if contract else {}
    columns = contract.columns if contract else {}
    form = SheetForm(
        source.sheet,
        source.skip_rows,
        header_names(source, data, files.root),
        {arriving[name]: column.source_type for name, column in columns.items()},
        {arriving[name]: column.format for name, column in columns.items() if column.format is not None},
        tuple(arriving.get(name, name) for name in (*data.key_columns, data.time)),
    )
    options = files.options(source) | {"form": form}
    if source.is_cut_by_time:
        return XlsxTable(source.uri, time=files.time_column(), **options)
    return XlsxFiles(source.uri, **options)


def _iceberg(source: IcebergSource, files: _FileSources) -> Source:
    from airflow_mlops.core.sources.iceberg_source import IcebergRows

    return IcebergRows(
        files.connections.catalog(source.conn_id),
        source.table,
        conn_id=source.conn_id,
        snapshot=source.snapshot,
        time=files.time_column(),
        limits=files.data.limits,
    )


def _sql(source: SqlSource, files: _FileSources) -> Source:
    from airflow_mlops.core.sources.sql_source import SqlRows

    data, root = files.data, files.root
    contract = read_contract(root / data.contract) if data.contract is not None else None
    types = (
        {contract.arriving[name]: column.source_type for name, column in contract.columns.items()} if contract else {}
    )
    return SqlRows(
        files.connections.sql(source.conn_id),
        name=source.conn_id,
        every=data.every,
        timezone=data.schedule.timezone,
        time=_arriving_time(data, root),
        table=source.table,
        query=source.query,
        limits=data.limits,
        types=types,
    )


def _feast(source: FeastSource, files: _FileSources) -> Source:
    from airflow_mlops.core.sources.feast_source import FeastRows

    return FeastRows(
        _OPENERS[type(source.entities)](source.entities, files),
        files.root / source.repo,
        repo=source.repo,
        service=source.feature_service,
        features=source.features,
        time=files.data.time,
        limits=files.data.limits,
    )


def _http(source: HttpSource, files: _FileSources) -> Source:
    from airflow_mlops.core.sources.http_source import HttpAnswers

    return HttpAnswers(
        files.connections.http(source.conn_id),
        source.path,
        name=source.conn_id,
        form=source.format,
        records=source.records,
        pages=source.pages,
        attempts=source.attempts,
        timeout=source.timeout,
        **_json_columns(files.data, files.root),
        limits=files.data.limits,
        schedule=files.data.schedule,
    )


def _json(source: JsonSource, files: _FileSources) -> Source:
    from airflow_mlops.core.sources.json_source import JsonFiles

    return JsonFiles(
        source.uri,
        **files.options(source),
        **_json_columns(files.data, files.root),
    )


def _json_columns(data: Data, root: Path) -> dict[str, Any]:
    """Return the columns of the contract as records of JSON need them; without one, as of labels, key and label."""
    if data.contract is None:
        return {"columns": (*data.key_columns, data.label), "required": frozenset(data.key_columns)}
    contract = read_contract(root / data.contract)
    arriving = contract.arriving
    required = frozenset(arriving[name] for name, column in contract.columns.items() if not column.optional)
    return {"columns": tuple(arriving.values()), "required": required, "ignored": contract.ignore}


_OPENERS: dict[type, Callable[[Any, _FileSources], Source]] = {
    ParquetSource: _parquet,
    OrcSource: _orc,
    CsvSource: _csv,
    JsonSource: _json,
    XlsxSource: _xlsx,
    DeltaSource: _delta,
    IcebergSource: _iceberg,
    SqlSource: _sql,
    HttpSource: _http,
    FeastSource: _feast,
}
"""The function that opens each kind of source."""
