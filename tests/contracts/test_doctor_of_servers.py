"""The doctor before a real MLflow and a real PostgreSQL, and before servers that are not there."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url

from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.doctor.check_servers import check_clock, check_mlflow
from airflow_mlops.doctor.check_stores import check_ledger
from airflow_mlops.doctor.diagnosis import Finding, Surroundings
from tests.unit.core.ledger.histories import History

NOWHERE = Surroundings(Path(), {})


def declare_ledger(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Name a PostgreSQL as the ledger."""
    address = make_url(url)
    query = dict(address.query)
    connection = {
        "conn_type": "postgres",
        "host": address.host or "",
        "port": address.port,
        "login": address.username,
        "password": address.password,
        "schema": address.database,
        "extra": query,
    }
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_LEDGER", json.dumps(connection))


def levels(findings: list[Finding]) -> list[str]:
    """Return the levels of findings."""
    return [finding.level for finding in findings]


def test_a_ledger_in_postgresql_answers_holds_together_and_has_the_same_time(
    own_postgres_url: str, fresh_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    History(SqlLedger(own_postgres_url, fresh_name)).publish(*range(5)).ledger.state()
    declare_ledger(monkeypatch, own_postgres_url)
    findings = list(check_ledger(NOWHERE))
    assert levels(findings) == ["ok", "ok"], findings
    assert "hold together" in findings[1].seen
    (clock,) = check_clock(NOWHERE)
    assert clock.level == "ok"
    assert clock.seen.endswith("that of the ledger's database")


def test_a_postgresql_that_is_down_and_one_that_hangs_are_named_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        declare_ledger(monkeypatch, f"postgresql://ann:hunter2@127.0.0.1:{port}/ledger")
        began = time.monotonic()
        (finding,) = check_ledger(NOWHERE)
        assert time.monotonic() - began < 10
        assert (finding.level, finding.remedy) == ("wrong", "airflow connections get mlops_ledger")
    (finding,) = check_ledger(NOWHERE)
    assert finding.level == "wrong"
    assert "Connection refused" in finding.seen
    assert "hunter2" not in finding.seen


def test_an_mlflow_that_asks_nobody_who_they_are_is_a_warning(
    mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = make_url(mlflow_server)
    connection = {"conn_type": "http", "host": address.host, "port": address.port}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_REGISTRY", json.dumps(connection))
    (finding,) = check_mlflow(NOWHERE)
    assert finding.level == "warning"
    assert finding.seen.startswith(f"{mlflow_server} answers without credentials")
    assert levels(list(check_clock(NOWHERE))) == ["ok"]
