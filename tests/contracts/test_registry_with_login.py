"""An MLflow that asks who you are: the login of the connection is what the registry and the doctor ask with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from airflow_mlops.core.ports.registry import RegistryUnavailableError
from airflow_mlops.core.registry.mlflow_registry import MlflowRegistry
from airflow_mlops.doctor.check_servers import check_mlflow
from airflow_mlops.doctor.diagnosis import Surroundings
from airflow_mlops.hooks.workspace import MLFLOW_LOGIN, WorkspaceHook
from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from tests.contracts.conftest import Register, answers

NAME, PASSWORD = "loops", "a-password-of-16"
NOWHERE = Surroundings(Path(), {})


@pytest.fixture(scope="module")
def guarded_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an MLflow server that answers its one user alone."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {NAME}\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--app-name", "basic-auth", "--allowed-hosts", f"127.0.0.1:{port}"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "kept")),
    ]
    settings = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test"}
    child = start_child("mlflow", command, {**os.environ, **settings}, folder / "server.log")
    try:
        wait_until_ready(child, lambda: answers(f"http://127.0.0.1:{port}/health"), timeout_seconds=120)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_sessions([child.pid], patience_seconds=2)
        child.process.wait()


def declare(monkeypatch: pytest.MonkeyPatch, url: str, **login: str) -> None:
    """Declare an MLflow server as the registry, and leave no login of another test in the environment."""
    for variable in MLFLOW_LOGIN:
        monkeypatch.setenv(variable, "")
    address = make_url(url)
    connection = {"conn_type": "http", "host": address.host, "port": address.port, **login}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_REGISTRY", json.dumps(connection))


def registry(model: str) -> MlflowRegistry:
    """Return the registry of the declared connection, as a task opens it."""
    return MlflowRegistry(WorkspaceHook().stores().tracking_uri, model)


def test_a_version_is_registered_described_and_fetched_with_the_login_of_the_connection(
    guarded_mlflow: str, fresh_name: str, registration: Register, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    declare(monkeypatch, guarded_mlflow, login=NAME, password=PASSWORD)
    opened = registry(fresh_name)
    assert "@" not in WorkspaceHook().stores().tracking_uri
    number = opened.register(registration("once"))
    opened.set_alias("champion", number)
    assert opened.aliases() == {"champion": number}
    assert opened.fetch(number, tmp_path / "copy").read_bytes() == registration("once").model_file.read_bytes()


@pytest.mark.parametrize("login", [{}, {"login": NAME, "password": "another-password"}])
def test_without_the_right_login_the_refusal_names_the_server_and_no_password(
    guarded_mlflow: str, fresh_name: str, registration: Register, monkeypatch: pytest.MonkeyPatch, login: dict[str, str]
) -> None:
    declare(monkeypatch, guarded_mlflow, **login)
    with pytest.raises(RegistryUnavailableError) as refused:
        registry(fresh_name).register(registration("once"))
    assert guarded_mlflow in str(refused.value)
    assert "another-password" not in str(refused.value)


def test_the_doctor_says_whether_the_declared_login_is_taken(
    guarded_mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for login in ({}, {"login": NAME, "password": "another-password"}, {"login": NAME, "password": PASSWORD}):
        declare(monkeypatch, guarded_mlflow, **login)
        seen += [(finding.level, finding.seen.removeprefix(guarded_mlflow)) for finding in check_mlflow(NOWHERE)]
    assert seen == [
        ("wrong", " asks for credentials, and connection mlops_registry has no login and no password"),
        ("wrong", " answers 401 to the credentials that are declared"),
        ("ok", " asks for credentials, and takes those that are declared"),
    ]


def test_a_password_without_a_login_is_a_token_and_replaces_a_login_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declare(monkeypatch, "http://mlflow.example:5000", password="a-token")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    WorkspaceHook().stores()
    assert [os.environ.get(variable) for variable in MLFLOW_LOGIN] == [None, None, "a-token"]
