"""Build the source that a loop declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_mlops.core.declaration.contract import read_contract
from airflow_mlops.core.declaration.data import (
    CsvSource,
    Data,
    FeastSource,
    HttpSource,
    ParquetSource,
    SqlSource,
)
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.connections import Connections
from airflow_mlops.core.ports.partitions import Source
from airflow_mlops.core.sources.csv_dialect import CsvDialect


def open_source(loop: Loop, connections: Connections, *, root: Path) -> Source:
    """Return the source of a loop; nothing is read yet.

    Parameters
    ----------
    loop : Loop
        The declaration.
    connections : Connections
        Connections by their ids.
    root : Path
        Project folder: base of the relative paths in the declaration.

    Raises
    ------
    DeclarationError
        If a connection does not exist or has another kind, or Feast is declared and not installed.
    """
    data, source = loop.data, loop.data.source
    if isinstance(source, SqlSource):
        return _sql(source, data, connections)
    if isinstance(source, HttpSource):
        return _http(source, data, connections, root)
    if isinstance(source, FeastSource):
        return _feast(source, data, connections, root)
    return _files(source, data, connections, root)


def _files(source: ParquetSource | CsvSource, data: Data, connections: Connections, root: Path) -> Source:
    options: dict[str, Any] = {
        "root": root,
        "limits": data.limits,
        "filesystem": _filesystem(source, connections),
        "schedule": data.schedule,
    }
    if isinstance(source, CsvSource):
        from airflow_mlops.core.sources.csv_source import CsvFiles

        return CsvFiles(source.uri, dialect=_dialect(source, data, root), **options)
    from airflow_mlops.core.sources.parquet_source import ParquetFiles

    return ParquetFiles(source.uri, **options)


def _dialect(source: CsvSource, data: Data, root: Path) -> CsvDialect:
    """Return the dialect of a text; without a header, the columns are those of the contract."""
    names = source.header if isinstance(source.header, tuple) else None
    if source.header is False:
        assert data.contract is not None, "a declaration without types was refused when it was read"
        names = tuple(read_contract(root / data.contract).columns)
    return CsvDialect(
        source.delimiter, source.quote, source.escape, source.comment, source.encoding, source.skip_rows, names
    )


def _filesystem(source: ParquetSource | CsvSource, connections: Connections) -> Any:
    """Return the file system of an object store, None for the local disk."""
    if source.uri.startswith("s3://"):
        return connections.filesystem(source.conn_id)
    if "://" in source.uri:
        raise DeclarationError(f"{source.uri!r} is neither a path nor s3://bucket/key", key="data.source.uri")
    if source.conn_id is not None:
        raise DeclarationError(f"goes with s3://, and the uri is {source.uri!r}", key="data.source.conn_id")
    return None


def _sql(source: SqlSource, data: Data, connections: Connections) -> Source:
    from airflow_mlops.core.sources.sql_source import SqlRows

    return SqlRows(
        connections.sql(source.conn_id),
        name=source.conn_id,
        every=data.every,
        timezone=data.schedule.timezone,
        time=data.time,
        table=source.table,
        query=source.query,
        limits=data.limits,
    )


def _feast(source: FeastSource, data: Data, connections: Connections, root: Path) -> Source:
    from airflow_mlops.core.sources.feast_source import FeastRows

    if isinstance(source.entities, SqlSource):
        entities = _sql(source.entities, data, connections)
    else:
        entities = _files(source.entities, data, connections, root)
    return FeastRows(
        entities,
        root / source.repo,
        repo=source.repo,
        service=source.feature_service,
        features=source.features,
        time=data.time,
        limits=data.limits,
    )


def _http(source: HttpSource, data: Data, connections: Connections, root: Path) -> Source:
    from airflow_mlops.core.sources.http_source import HttpAnswers

    assert data.contract is not None, "a declaration without types was refused when it was read"
    contract = read_contract(root / data.contract)
    required = frozenset(name for name, column in contract.columns.items() if not column.optional)
    return HttpAnswers(
        connections.http(source.conn_id),
        source.path,
        name=source.conn_id,
        form=source.format,
        records=source.records,
        pages=source.pages,
        attempts=source.attempts,
        timeout=source.timeout,
        columns=tuple(contract.columns),
        required=required,
        ignored=contract.ignore,
        limits=data.limits,
        schedule=data.schedule,
    )
