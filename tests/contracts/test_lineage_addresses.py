"""Addresses of databases and endpoints for lineage, from Airflow's connections and without their secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.log import mask_secret  # type: ignore[attr-defined]  # Airflow's own providers take it from there

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.hooks.connections import database_address
from airflow_mlops.hooks.ports import endpoint_dataset
from airflow_mlops.operators.openlineage_facets import strip_secrets
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import toy_loop

LOGIN = {"login": "reader", "password": "word-of-the-database"}


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    """Declare a connection in the environment, as a deployment does."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({**LOGIN, **fields}))


@pytest.mark.parametrize(
    ("fields", "namespace", "table"),
    [
        (
            {"conn_type": "postgres", "host": "db.example", "schema": "shop", "port": 5433},
            "postgres://db.example:5433",
            "shop.public.sales",
        ),
        ({"conn_type": "postgres", "host": "db.example"}, "postgres://db.example:5432", "sales"),
        ({"conn_type": "mysql", "host": "db.example", "schema": "shop"}, "mysql://db.example:3306", "shop.sales"),
        ({"conn_type": "sqlite", "host": "/data/shop.db"}, "sqlite", "/data/shop.db.sales"),
    ],
)
def test_a_table_is_named_by_its_connection_without_the_login(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], namespace: str, table: str
) -> None:
    connect(monkeypatch, "shop_db", **fields)
    address = database_address("shop_db")
    assert (address.table("sales").namespace, address.table("sales").name) == (namespace, table)
    assert "reader" not in repr(address)
    assert LOGIN["password"] not in repr(address)


def test_a_connection_that_is_no_database_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "a_service", conn_type="http", host="http://shop.example")
    with pytest.raises(DeclarationError, match="'a_service'"):
        database_address("a_service")


@pytest.mark.parametrize(
    ("target", "connection", "expected"),
    [
        ("batch", None, ("mlflow", "toy@champion")),
        (
            "gateway",
            ("mlops_gateway", {"conn_type": "http", "host": "http://user:word@gateway.example", "port": 8600}),
            ("http://gateway.example:8600", "/v2/models/toy"),
        ),
        (
            "sagemaker",
            ("mlops_sagemaker_toy", {"conn_type": "aws", "extra": {"region_name": "eu-central-1"}}),
            ("sagemaker://eu-central-1", "mlops-toy-"),
        ),
    ],
)
def test_an_endpoint_is_named_by_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, connection: Any, expected: tuple[str, str]
) -> None:
    if connection is not None:
        connect(monkeypatch, connection[0], **connection[1])
    workspace = in_memory_workspace(toy_loop(rollout={"target": target}), {}, scratch=tmp_path)
    name = endpoint_dataset(workspace)
    assert name.namespace == expected[0]
    assert name.name.startswith(expected[1])


def test_a_password_that_was_read_since_is_taken_out_of_an_error_and_its_causes() -> None:
    mask_secret("word-of-another-database")

    def fail() -> None:
        try:
            raise ValueError("login failed with word-of-another-database")
        except ValueError as error:
            raise RuntimeError("https://reader:word@shop.example/rows?key=1 answered 500, 1 times") from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    strip_secrets(caught.value)
    assert str(caught.value) == "https://shop.example/rows?... answered 500, 1 times"
    assert str(caught.value.__cause__) == "login failed with ***"
