"""Checks of the stores: the connections that name them, the ledger, and the folders of the lake."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.errors import LedgerCorruptError, MlopsError
from airflow_mlops.doctor.diagnosis import OK, WARNING, WRONG, Finding, Level, Surroundings

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

TAIL = 100
"""Records whose chain is verified: the newest of each model."""
SCARCE_BYTES, NO_BYTES = 2 * 10**9, 2 * 10**8
"""Free space that is a warning, and that is wrong: a partition may not fit."""


def check_home(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield whether AIRFLOW_HOME names the folder whose stores every process shall share."""
    home = os.environ.get("AIRFLOW_HOME")
    folder = Path(home or "~/airflow").expanduser()
    if home is None:
        seen = f"AIRFLOW_HOME is not set, so {folder} is taken"
        yield Finding("home", WARNING, seen, "export AIRFLOW_HOME=/path/of/the/airflow/that/runs/the/loops")
    elif not folder.is_dir():
        yield Finding("home", WRONG, f"AIRFLOW_HOME is {folder}, which is no folder", "airflow db migrate")
    else:
        yield Finding("home", OK, f"AIRFLOW_HOME is {folder}")


def check_connections(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield for each store whether a connection names it, and whether that can be read."""
    from airflow_mlops.hooks import workspace

    embedded = workspace.embedded_folder()
    stores: dict[str, tuple[Callable[[Any], object], str]] = {
        "mlops_ledger": (workspace.ledger_url, f"{embedded / 'ledger.db'}"),
        "mlops_lake": (workspace.lake_of, f"{embedded / 'lake'}"),
        "mlops_registry": (workspace.tracking_uri, f"{embedded / 'mlflow.db'}"),
        workspace.SIGNING: (workspace.signing_keys, f"{embedded / 'keys'}"),
    }
    hook = workspace.WorkspaceHook()
    for conn_id, (read, default) in stores.items():
        connection = hook.find_connection(conn_id)
        if connection is None:
            yield Finding("connections", OK, f"{conn_id} is not declared: {default} on this machine")
            continue
        try:
            read(connection)
        except MlopsError as error:
            yield Finding("connections", WRONG, str(error), f"airflow connections get {conn_id}")
            continue
        yield Finding("connections", OK, f"{conn_id} is of type {connection.conn_type}")


def check_ledger(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield whether the ledger answers, can be written, is in the present form, and has whole chains at its end."""
    from sqlalchemy.exc import SQLAlchemyError

    from airflow_mlops.core.ledger.sql_ledger import open_ledgers
    from airflow_mlops.core.ledger.sql_schema import engine_of
    from airflow_mlops.hooks.workspace import WorkspaceHook

    try:
        address = WorkspaceHook().existing_ledger_url()
    except MlopsError as error:
        yield Finding("ledger", WARNING, str(error), "airflow-mlops list")
        return
    url, shown = address.render_as_string(hide_password=False), address.render_as_string(hide_password=True)
    engine = engine_of(url, keep_connection=True)
    try:
        form = _form_finding(engine, shown)
    except SQLAlchemyError as error:
        yield _refusal(address, " ".join(str(getattr(error, "orig", None) or error).split()))
        return
    finally:
        engine.dispose()
    yield form
    if form.level == OK:
        with open_ledgers(url, migrating=False) as ledgers:
            yield from _chain_findings(ledgers)


def _refusal(address: URL, reason: str) -> Finding:
    """Return the finding about a ledger that refused, with what shows who stands in the way."""
    remedy = "airflow connections get mlops_ledger"
    if address.drivername == "sqlite":
        remedy = f"fuser -v {address.database}" if "locked" in reason else f"ls -l {address.database}"
    shown = address.render_as_string(hide_password=True)
    return Finding("ledger", WRONG, f"{shown} cannot be used: {reason}", remedy)


def _form_finding(engine: Engine, shown: str) -> Finding:
    """Return the finding about the form of the ledger's tables, after a try of its lock where it is a file."""
    from sqlalchemy import text

    from airflow_mlops.core.ledger.sql_schema import REVISION, read_revision

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        revision = read_revision(connection)
        if engine.dialect.name == "sqlite":
            # The lock that every append takes; nothing is written under it.
            connection.execute(text("BEGIN IMMEDIATE"))
            connection.execute(text("ROLLBACK"))
    if revision == REVISION:
        return Finding("ledger", OK, f"{shown} answers, at migration {revision}")
    if revision is None:
        return Finding("ledger", WARNING, f"{shown} holds no ledger yet: no task of a loop has run")
    if revision < REVISION:
        seen = f"{shown} is at migration {revision}, and this release needs {REVISION}"
        return Finding("ledger", WARNING, seen, "airflow-mlops list")
    seen = f"{shown} is at migration {revision}, which is later than {REVISION} of this release"
    return Finding("ledger", WRONG, seen, "pip install --upgrade airflow-mlops")


def _chain_findings(ledgers: dict[str, Any]) -> Iterator[Finding]:
    """Yield for each ledger whose newest records do not hold together, or that all of them do."""
    from airflow_mlops.core.ledger.audit import verify_tail

    whole = True
    for model, ledger in ledgers.items():
        try:
            verify_tail(ledger, TAIL)
        except LedgerCorruptError as error:
            whole = False
            yield Finding("ledger", WRONG, str(error), f"airflow-mlops audit verify {model}")
    if whole and ledgers:
        yield Finding("ledger", OK, f"the newest {TAIL} records of each of {len(ledgers)} models hold together")


def check_folders(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield whether the lake and the scratch folder can be written and have space."""
    from airflow_mlops.hooks.workspace import WorkspaceHook, embedded_folder, lake_of

    connection = WorkspaceHook().find_connection("mlops_lake")
    lake = None if connection is None else lake_of(connection)
    yield folder_finding("scratch", embedded_folder() / "scratch")
    if lake is None or lake.is_local:
        yield folder_finding("lake", embedded_folder() / "lake" if lake is None else lake.path)
        return
    from pyarrow.fs import FileSelector

    lake.file_system().get_file_info(FileSelector(lake.location, allow_not_found=True))
    yield Finding("lake", OK, f"{lake.uri} answers; whether it can be written shows at the first partition")


def folder_finding(name: str, folder: Path, *, scarce: int = SCARCE_BYTES, least: int = NO_BYTES) -> Finding:
    """Return the finding about a folder, or about the nearest one above it where it is not made yet.

    :param scarce: free bytes below which it is a warning
    :param least: free bytes below which it is wrong
    """
    present = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=present) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        user = os.environ.get("USER", str(os.geteuid()))
        remedy = f"chown -R {user} {present}"
        return Finding(name, WRONG, f"{present} cannot be written by user {user}: {error.strerror}", remedy)
    free = shutil.disk_usage(present).free
    level: Level = WRONG if free < least else WARNING if free < scarce else OK
    seen = f"{folder} can be written, {free / 1e9:,.1f} GB are free"
    return Finding(name, level, seen, "" if level == OK else f"df -h {present}; airflow-mlops tidy MODEL")
