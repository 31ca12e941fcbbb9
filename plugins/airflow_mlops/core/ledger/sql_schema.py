"""The tables of the ledger in SQL, the engine that reaches them, and their migration to the present form by Alembic."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool, Pool, QueuePool

from airflow_mlops.core.errors import LedgerError

METADATA = MetaData()
REVISION = "0004"
"""The newest migration: the form of the tables that this release reads and writes."""
VERSION_TABLE = "airflow_mlops_schema"
CONNECT_SECONDS = 5
"""Seconds that somebody who looks waits for a server that does not answer; a task waits as long as its driver does."""
_CLOCKS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
}
"""Queries for the time of a database, in seconds since 1970; of another one the clock of this machine is taken."""
# PostgreSQL orders text by its locale; keys are ordered by their bytes, as Python orders them.
KEY = String(250).with_variant(String(250, collation="C"), "postgresql")
PARTITION = String(40).with_variant(String(40, collation="C"), "postgresql")

LEDGER = Table(
    "airflow_mlops_ledger",
    METADATA,
    Column("model", String(63), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("operation", String(250), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("actor", String(250), nullable=False),
    Column("partition", String(40)),
    Column("details", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("recorded_at", String(40), nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("model", "operation", name="airflow_mlops_ledger_operation"),
)
Index("airflow_mlops_ledger_kind", LEDGER.c.model, LEDGER.c.kind, LEDGER.c.sequence)

FACT = Table(
    "airflow_mlops_fact",
    METADATA,
    Column("model", String(63), primary_key=True),
    Column("fact", String(60), primary_key=True),
    Column("key", KEY, primary_key=True),
    Column("partition", PARTITION, primary_key=True),
    Column("value", Text),
)
"""Steps of facts: the value of a key as of a partition and later ones, NULL from where it is removed."""

PROJECTED = Table(
    "airflow_mlops_projected",
    METADATA,
    Column("model", String(63), primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""The last record that the facts of a model include, by its number and hash."""

LEASE = Table(
    "airflow_mlops_lease",
    METADATA,
    Column("model", String(63), primary_key=True),
    Column("name", String(150), primary_key=True),
    Column("holder", String(60), nullable=False),
    Column("until", Float, nullable=False),
)
"""Who alone may do something right now, and until when, in seconds since 1970: no part of any state."""


_VERSIONS = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))
UNSTATED = "0001"
"""The migration of a ledger that states none: it was made before migrations were kept."""


def engine_of(url: str, *, keep_connection: bool = False) -> Engine:
    """Return an engine that holds no connection between uses, since tasks are forks of their worker.

    Parameters
    ----------
    keep_connection : bool
        Whether it keeps one all the same, for somebody who reads many ledgers at once and disposes of it then.
    """
    pool: type[Pool] = QueuePool if keep_connection else NullPool
    if not url.startswith("sqlite"):
        soon = {"connect_timeout": CONNECT_SECONDS} if keep_connection and url.startswith("postgresql+psycopg") else {}
        return create_engine(url, poolclass=pool, connect_args=soon)
    # Somebody who looks at many ledgers is a person at a page, and is told soon.
    engine = create_engine(url, poolclass=pool, connect_args={"timeout": 2 if keep_connection else 30})

    @event.listens_for(engine, "connect")
    def _durable(connection: object, _record: object) -> None:
        connection.execute("PRAGMA synchronous=FULL")  # type: ignore[attr-defined]

    return engine


def time_of(connection: Connection) -> float:
    """Return the time by the clock of the database, which all machines share, in seconds since 1970."""
    query = _CLOCKS.get(connection.dialect.name)
    return time.time() if query is None else float(connection.execute(text(query)).scalar_one())


def migrate(engine: Engine) -> None:
    """Migrate the tables to the current schema; one process migrates while others wait.

    Raises
    ------
    SQLAlchemyError
        If the database does not answer or refuses a statement.
    LedgerError
        If a newer release has migrated the tables; they are left as they are.
    """
    revision = _revision(engine)
    if revision == REVISION:
        return
    if revision is not None and revision > REVISION:
        raise other_revision(revision)
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("BEGIN IMMEDIATE"))  # the lock under which nobody else migrates
            try:
                _upgrade(connection)
            except BaseException:
                connection.execute(text("ROLLBACK"))
                raise
            connection.execute(text("COMMIT"))
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('airflow_mlops_schema'))"))
        _upgrade(connection)


def _revision(engine: Engine) -> str | None:
    """Return the migration that the tables are at; None where there is none, without importing Alembic."""
    try:
        with engine.connect() as connection:
            return connection.execute(select(_VERSIONS.c.version_num)).scalar()
    except (OperationalError, ProgrammingError):
        return None


def read_revision(connection: Connection) -> str | None:
    """Return the migration that the tables are at; None where no ledger is. Nothing is migrated.

    Raises
    ------
    SQLAlchemyError
        If the database does not answer or refuses.
    """
    tables = inspect(connection)
    if tables.has_table(VERSION_TABLE):
        return connection.execute(select(_VERSIONS.c.version_num)).scalar()
    return UNSTATED if tables.has_table(LEDGER.name) else None


def require_revision(connection: Connection) -> None:
    """Raise LedgerError unless the tables are in the form of this release."""
    revision = read_revision(connection)
    if revision == REVISION:
        return
    if revision is None:
        raise LedgerError("the database holds no ledger; the first task of a loop makes it")
    raise other_revision(revision)


def other_revision(revision: str) -> LedgerError:
    """Return the error about tables at another migration than that of this release."""
    remedy = (
        "a task of a loop, or `airflow-mlops list`, of this release migrates it"
        if revision < REVISION
        else "install the release that wrote it, or a later one"
    )
    return LedgerError(f"the ledger is at migration {revision}, and this release reads migration {REVISION}; {remedy}")


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    tables = set(inspect(connection).get_table_names())
    if LEDGER.name in tables and VERSION_TABLE not in tables:
        command.stamp(config, UNSTATED)
    command.upgrade(config, REVISION)
