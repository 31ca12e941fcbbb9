"""Every implementation of every port, each as a fixture that opens it fresh and empty."""

from __future__ import annotations

import logging
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem
from sklearn.linear_model import LinearRegression

from airflow_mlops.core.ports.registry import Registration
from airflow_mlops.core.registry.model_file import save_model
from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.embedded_postgres import EmbeddedPostgres
from airflow_mlops.testing.free_ports import free_port

Register = Callable[[str], Registration]


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Return a running PostgreSQL with an empty database ``ledger``."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg"), ["ledger"])
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres_server: EmbeddedPostgres) -> str:
    """Return the address of a database that tests share: each takes a model's name of its own."""
    return postgres_server.uri("ledger", "psycopg")


@pytest.fixture
def own_postgres_url(postgres_server: EmbeddedPostgres, fresh_name: str) -> str:
    """Return the address of an empty database, for a test of what reads every model."""
    postgres_server.execute("postgres", f'CREATE DATABASE "{fresh_name}"')
    return postgres_server.uri(fresh_name, "psycopg")


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the address of a store on SQLite and where its artefacts go."""
    folder = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artefacts").as_uri()


@pytest.fixture(scope="session")
def mlflow_server_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of the database of the MLflow server."""
    return str(tmp_path_factory.mktemp("mlflow-server") / "mlflow.db")


@pytest.fixture(scope="session")
def mlflow_server(mlflow_server_database: str) -> Iterator[str]:
    folder = Path(mlflow_server_database).parent
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "kept")),
        *("--allowed-hosts", f"127.0.0.1:{port}"),
    ]
    child = start_child("mlflow", command, dict(os.environ), folder / "server.log")
    try:
        wait_until_ready(child, lambda: answers(f"http://127.0.0.1:{port}/health"), timeout_seconds=120)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_sessions([child.pid], patience_seconds=2)
        child.process.wait()


def answers(url: str) -> bool:
    """Whether a server says that it is well."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a model file and its digest; the model says 2 x."""
    path = tmp_path_factory.mktemp("model") / "model.skops"
    return path, save_model(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), path)


@pytest.fixture
def registration(model_file: tuple[Path, str]) -> Register:
    """Return a function from the name of an operation to a registration."""
    path, digest = model_file

    def make(operation: str) -> Registration:
        return Registration(
            operation,
            path,
            digest,
            metrics={"holdout_mae": 1.5},
            params={"candidate": "line"},
            tags={"partition": "2013-01-06T00:00:00"},
            requirements=(f"scikit-learn=={version('scikit-learn')}",),
            datasets={"2013-01-06T00:00:00": "d1"},
        )

    return make


@pytest.fixture
def fresh_name() -> str:
    """Return a model name that no other test uses."""
    return f"m{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def object_store_url() -> Iterator[str]:
    """Return the address of an S3 on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def object_store(object_store_url: str) -> S3FileSystem:
    return S3FileSystem(
        access_key="key",
        secret_key="hunter2",
        region="us-east-1",
        endpoint_override=object_store_url,
        allow_bucket_creation=True,
    )
