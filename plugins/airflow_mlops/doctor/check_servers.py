"""Checks of servers beside the loop: MLflow, and the clocks of MLflow and of the ledger's database."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.doctor.diagnosis import OK, WARNING, WRONG, Finding, Level, Surroundings

if TYPE_CHECKING:
    import httpx

ANSWER_SECONDS = 3.0
APART_SECONDS, FAR_APART_SECONDS = 5.0, 60.0
"""Seconds between two clocks that are a warning, and that are wrong."""
REACH_REGISTRY = "airflow connections get mlops_registry"


def check_mlflow(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield whether MLflow answers, whether it answers anybody, and whether it takes the login of the connection."""
    import httpx

    uri = registry_address()
    if uri is None:
        yield Finding("mlflow", OK, "no server is declared: versions are kept on this machine")
        return
    try:
        health = httpx.get(f"{uri}/health", timeout=ANSWER_SECONDS)
        search = _search_experiments(uri, {})
    except httpx.HTTPError as error:
        yield Finding("mlflow", WRONG, f"{uri} does not answer: {type(error).__name__}: {error}", REACH_REGISTRY)
        return
    if health.status_code != 200:
        yield Finding("mlflow", WRONG, f"{uri}/health answers {health.status_code}", REACH_REGISTRY)
    elif search.status_code == 200:
        seen = f"{uri} answers without credentials: whoever reaches it can change aliases and versions"
        yield Finding("mlflow", WARNING, seen, "mlflow server --app-name basic-auth")
    elif search.status_code in (401, 403):
        yield _login_finding(uri)
    else:
        seen = f"{uri} is no MLflow server: its list of experiments answers {search.status_code}"
        yield Finding("mlflow", WRONG, seen, REACH_REGISTRY)


def _login_finding(uri: str) -> Finding:
    """Return whether a server that asks for credentials takes those of this machine."""
    headers = login_headers()
    if not headers:
        seen = f"{uri} asks for credentials, and connection mlops_registry has no login and no password"
        return Finding("mlflow", WRONG, seen, REACH_REGISTRY)
    status = _search_experiments(uri, headers).status_code
    if status == 200:
        return Finding("mlflow", OK, f"{uri} asks for credentials, and takes those that are declared")
    return Finding("mlflow", WRONG, f"{uri} answers {status} to the credentials that are declared", REACH_REGISTRY)


def _search_experiments(uri: str, headers: dict[str, str]) -> httpx.Response:
    """Return MLflow's answer to a request that changes nothing."""
    import httpx

    address = f"{uri}/api/2.0/mlflow/experiments/search"
    # An auth of its own, that adds nothing: else a password of .netrc would be sent along.
    return httpx.get(address, params={"max_results": 1}, headers=headers, auth=httpx.Auth(), timeout=ANSWER_SECONDS)


def login_headers() -> dict[str, str]:
    """Return the header with which MLflow's client logs in: by the connection, or else by the environment."""
    from airflow_mlops.hooks.workspace import MLFLOW_LOGIN, WorkspaceHook, log_in

    connection = WorkspaceHook().find_connection("mlops_registry")
    if connection is not None:
        log_in(connection)
    name, password, token = (os.environ.get(variable, "") for variable in MLFLOW_LOGIN)
    if name and password:
        return {"Authorization": f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def registry_address() -> str | None:
    """Return the address of the declared MLflow server; None where none is declared."""
    from airflow_mlops.hooks.workspace import WorkspaceHook, tracking_uri

    connection = WorkspaceHook().find_connection("mlops_registry")
    return None if connection is None else tracking_uri(connection).rstrip("/")


def check_clock(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield how far this machine's clock is from those of MLflow and of the ledger's database."""
    compared = False
    for name, seconds in (("MLflow", _mlflow_offset()), ("the ledger's database", _database_offset())):
        if seconds is None:
            continue
        compared = True
        apart = abs(seconds)
        level: Level = WRONG if apart > FAR_APART_SECONDS else WARNING if apart > APART_SECONDS else OK
        seen = f"{apart:.0f} s {'behind' if seconds > 0 else 'ahead of'} that of {name}"
        yield Finding("clock", level, seen, "" if level == OK else "timedatectl set-ntp true")
    if not compared:
        yield Finding("clock", OK, "no other machine's clock is involved")


def _mlflow_offset() -> float | None:
    """Return by how many seconds MLflow's clock is ahead, by the Date of an answer; None where none has one."""
    import httpx

    uri = registry_address()
    if uri is None:
        return None
    try:
        began = time.time()
        answer = httpx.get(f"{uri}/health", timeout=ANSWER_SECONDS)
        moment = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (httpx.HTTPError, KeyError, ValueError):
        return None  # the check of MLflow names what is wrong with it
    # A Date has whole seconds: on average half of one has passed.
    return moment + 0.5 - (began + time.time()) / 2


def _database_offset() -> float | None:
    """Return by how many seconds the clock of the ledger's database is ahead; None for a file, or no answer."""
    from sqlalchemy import func, select
    from sqlalchemy.exc import SQLAlchemyError

    from airflow_mlops.core.ledger.sql_schema import engine_of
    from airflow_mlops.hooks.workspace import WorkspaceHook

    try:
        url = WorkspaceHook().existing_ledger_url()
        if url.drivername == "sqlite":
            return None
        engine = engine_of(url.render_as_string(hide_password=False), keep_connection=True)
        with engine.connect() as connection:
            began = time.time()
            moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
            offset = moment.timestamp() - (began + time.time()) / 2
    except (MlopsError, SQLAlchemyError):
        return None  # the check of the ledger names what is wrong with it
    engine.dispose()
    return offset
