"""The datasets of a declared source: files, tables of a lake or a database, pages of a service, features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mlops.core.declaration.data import (
    AnySource,
    DeltaSource,
    FeastSource,
    HttpSource,
    IcebergSource,
    SqlSource,
)
from airflow_mlops.core.lineage.dataset_names import DatabaseAddress, file_dataset, http_dataset, plain_authority
from airflow_mlops.core.lineage.task_lineage import Dataset, DatasetName
from airflow_mlops.core.ports.connections import Connections

MAX_LOCATIONS = 100
"""Files that are named; a partition of more is named by the address of all."""


@dataclass(frozen=True)
class SourceNames:
    """The surroundings that name a source: project folder, connections, and addresses of databases by their ids."""

    root: Path
    connections: Connections
    database: Callable[[str], DatabaseAddress]


def source_datasets(source: AnySource, names: SourceNames, origin: Mapping[str, Any] | None = None) -> list[Dataset]:
    """Return the datasets of a source, with what the origin of a partition says of version and files.

    Files are named by their declared address with its placeholders, so that all partitions are one dataset.

    Parameters
    ----------
    source : AnySource
        The declared source of rows or labels.
    names : SourceNames
        The surroundings of the source.
    origin : mapping, optional
        Origin of the rows of one partition, as the ledger has it.

    Raises
    ------
    DeclarationError
        If there is no connection of the declared id, or it has another kind.
    """
    origin = origin or {}
    if isinstance(source, SqlSource):
        return _of_database(source, names.database(source.conn_id))
    if isinstance(source, HttpSource):
        return [Dataset(http_dataset(names.connections.http(source.conn_id).url, source.path))]
    if isinstance(source, IcebergSource):
        return [Dataset(_iceberg_table(source, names.connections), version=_text(origin.get("snapshot")))]
    if isinstance(source, FeastSource):
        return [*source_datasets(source.entities, names, origin.get("entities")), *_of_features(source, names.root)]
    name = file_dataset(source.uri, names.root)
    if isinstance(source, DeltaSource):
        return [Dataset(name, version=_text(origin.get("version")))]
    files = [str(file["path"]) for file in origin.get("files", ())]
    return [Dataset(name, locations=tuple(files) if len(files) <= MAX_LOCATIONS else ())]


def query_tables(query: str, dialect: str | None) -> list[str]:
    """Return the tables that a query reads, by name and once each, without those that it names by WITH.

    >>> query_tables("WITH d AS (SELECT * FROM shop.days) SELECT * FROM d JOIN sales USING (day)", None)
    ['sales', 'shop.days']
    """
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(query, read=dialect)
    named = {expression.alias_or_name for expression in tree.find_all(exp.CTE)}
    texts = {".".join(part.name for part in table.parts) for table in tree.find_all(exp.Table)}
    return sorted(texts - named - {""})


def _of_database(source: SqlSource, address: DatabaseAddress) -> list[Dataset]:
    tables = [source.table] if source.table else query_tables(str(source.query), address.dialect)
    return [Dataset(address.table(table)) for table in tables]


def _iceberg_table(source: IcebergSource, connections: Connections) -> DatasetName:
    """Return the name of a table by the host of its catalogue, or by the catalogue's name where it has none."""
    catalogue = connections.catalog(source.conn_id)
    return DatasetName(f"iceberg://{plain_authority(catalogue.get('uri', '')) or catalogue['name']}", source.table)


def _of_features(source: FeastSource, root: Path) -> list[Dataset]:
    views = {source.feature_service} if source.feature_service else {name.split(":")[0] for name in source.features}
    folder = file_dataset(source.repo, root)
    return [Dataset(DatasetName(folder.namespace, f"{folder.name}/{view}")) for view in sorted(views)]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
