"""Names of sources by OpenLineage's conventions, and what is left out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openlineage.client.naming import dataset as conventions
from pydantic import TypeAdapter

from airflow_mlops.core.declaration.data import AnySource
from airflow_mlops.core.lineage.dataset_names import DatabaseAddress
from airflow_mlops.core.lineage.declared_sources import MAX_LOCATIONS, SourceNames, query_tables, source_datasets
from airflow_mlops.core.lineage.task_lineage import Dataset
from airflow_mlops.core.ports.connections import HttpAddress, NoConnections

POSTGRES = DatabaseAddress("postgres://db.example:5432", ("shop", "public"), "postgres")
MYSQL = DatabaseAddress("mysql://db.example:3306", ("shop",), "mysql")


class Connections(NoConnections):
    """A service and a catalogue whose connections hold secrets."""

    def http(self, conn_id: str) -> HttpAddress:
        assert conn_id == "shop"
        return HttpAddress("https://user:word@shop.example:8443/api?key=word", "user", "word", {"X-Token": "word"})

    def catalog(self, conn_id: str) -> dict[str, str]:
        assert conn_id == "lake"
        return {"name": "lake", "uri": "https://user:word@catalogue.example/v1", "credential": "user:word"}


def datasets(source: dict[str, Any], origin: Any = None, database: DatabaseAddress = POSTGRES) -> list[Dataset]:
    """Return the datasets of a declared source."""
    declared: Any = TypeAdapter(AnySource).validate_python(source)
    return source_datasets(declared, SourceNames(Path("/project"), Connections(), lambda _: database), origin)


def name(source: dict[str, Any], database: DatabaseAddress = POSTGRES) -> tuple[str, str]:
    """Return namespace and name of a source of one dataset."""
    (dataset,) = datasets(source, database=database)
    return dataset.name.namespace, dataset.name.name


def test_names_are_those_of_the_client_of_the_specification() -> None:
    s3 = conventions.S3("bucket", "in/{partition}.csv")
    assert name({"kind": "csv", "uri": "s3://bucket/in/{partition}.csv"}) == (s3.get_namespace(), s3.get_name())
    local = conventions.LocalFileSystem("/project/in/{partition}.parquet")
    assert name({"kind": "parquet", "uri": "in/{partition}.parquet"}) == (local.get_namespace(), local.get_name())
    table: dict[str, Any] = {"kind": "sql", "conn_id": "db", "table": "sales"}
    postgres = conventions.Postgres("db.example", "5432", "shop", "public", "sales")
    assert name(table) == (postgres.get_namespace(), postgres.get_name())
    mysql = conventions.MySQL("db.example", "3306", "shop", "sales")
    assert name(table, MYSQL) == (mysql.get_namespace(), mysql.get_name())


@pytest.mark.parametrize(
    ("table", "expected"),
    [("sales", "shop.public.sales"), ("eu.sales", "shop.eu.sales"), ("other.eu.sales", "other.eu.sales")],
)
def test_a_table_may_be_declared_with_its_schema_and_its_database(table: str, expected: str) -> None:
    assert name({"kind": "sql", "conn_id": "db", "table": table})[1] == expected


def test_a_query_is_named_by_its_tables_and_its_text_is_nowhere() -> None:
    query = "SELECT * FROM sales JOIN eu.days USING (day) WHERE at > :start AND at <= :end AND key = 'word'"
    sources = datasets({"kind": "sql", "conn_id": "db", "query": query}, {"query": query})
    assert [dataset.name.name for dataset in sources] == ["shop.eu.days", "shop.public.sales"]
    assert "word" not in repr(sources)


def test_a_named_part_of_a_query_is_no_table() -> None:
    assert query_tables("WITH new AS (SELECT * FROM a.b), old AS (SELECT * FROM new) SELECT * FROM old", None) == [
        "a.b"
    ]


def test_secrets_of_a_service_and_a_catalogue_are_left_out() -> None:
    service = datasets({"kind": "http", "conn_id": "shop", "path": "rows?day={partition}&key=word"})
    assert [(dataset.name.namespace, dataset.name.name) for dataset in service] == [
        ("https://shop.example:8443", "/api/rows")
    ]
    catalogue = datasets({"kind": "iceberg", "conn_id": "lake", "table": "shop.sales"}, {"snapshot": 7})
    assert [(dataset.name.namespace, dataset.name.name, dataset.version) for dataset in catalogue] == [
        ("iceberg://catalogue.example", "shop.sales", "7")
    ]
    assert "word" not in repr([*service, *catalogue])


def test_a_delta_table_has_the_version_that_was_read() -> None:
    (dataset,) = datasets({"kind": "delta", "uri": "s3://bucket/sales"}, {"table": "sales", "version": 12})
    assert (dataset.name.namespace, dataset.name.name, dataset.version) == ("s3://bucket", "sales", "12")


def test_files_are_named_up_to_a_number() -> None:
    source = {"kind": "parquet", "uri": "in/{partition}/*.parquet"}
    few = [{"path": f"in/{number}.parquet", "size": 1} for number in range(MAX_LOCATIONS)]
    assert datasets(source, {"files": few})[0].locations == tuple(file["path"] for file in few)
    assert datasets(source, {"files": [*few, {"path": "one more", "size": 1}]})[0].locations == ()
    assert datasets(source, {"evidence": "0" * 64, "file_count": 5000})[0].locations == ()


def test_features_are_named_beside_the_rows_they_are_joined_to() -> None:
    source = {
        "kind": "feast",
        "repo": "features",
        "features": ["days:rain", "days:wind", "shops:size"],
        "entities": {"kind": "sql", "conn_id": "db", "table": "sales"},
    }
    assert [dataset.name.name for dataset in datasets(source)] == [
        "shop.public.sales",
        "/project/features/days",
        "/project/features/shops",
    ]
