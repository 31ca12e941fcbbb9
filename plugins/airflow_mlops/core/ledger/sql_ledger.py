"""The ledger as one table of any database SQLAlchemy speaks to: SQLite by default, PostgreSQL beyond.

The primary key (model, sequence) is the compare-and-append: of two writers that read the same number
exactly one inserts the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    select,
)  # fmt: skip
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from airflow_mlops.core.errors import LedgerError, StaleLedgerError
from airflow_mlops.core.ledger.record import GENESIS, Draft, Record, chained

Result = TypeVar("Result")
ATTEMPTS = 5

LEDGER = Table(
    "airflow_mlops_ledger",
    MetaData(),
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


class SqlLedger:
    """The records of one model in a SQL table, made on first use.

    Parameters
    ----------
    url : str
        SQLAlchemy URL with its driver: ``sqlite:////data/ledger.db``, ``postgresql+psycopg://…``.
    model : str
        Name of the model.
    clock : callable, optional
        Returns the time to note on a record; nothing is decided by it.
    """

    def __init__(self, url: str, model: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.model = model
        self._clock = clock
        self._engine = engine_of(url)
        self._made = False

    def records(self) -> list[Record]:
        """Return all records of the model, oldest first."""

        def read() -> list[Record]:
            query = select(LEDGER).where(LEDGER.c.model == self.model).order_by(LEDGER.c.sequence)
            with self._engine.connect() as connection:
                return [record_of(row._mapping) for row in connection.execute(query)]

        return self._retried(read)

    def append(self, draft: Draft, *, read: int) -> Record:
        """Append ``draft`` as number ``read + 1``; see :meth:`Ledger.append`."""
        return self._retried(lambda: self._append(draft, read))

    def _append(self, draft: Draft, read: int) -> Record:
        known = self._known(draft.operation)
        if known is not None:
            return known
        previous = self._hash_at(read)
        record = chained(
            draft, model=self.model, sequence=read + 1, previous_hash=previous,
            recorded_at=self._clock().isoformat(),
        )  # fmt: skip
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(LEDGER).values(**{**vars(record), "evidence": list(record.evidence)}))
        except IntegrityError:
            known = self._known(draft.operation)
            if known is not None:
                return known
            raise StaleLedgerError(
                f"{self.model}: {draft.kind} was decided on record {read}, and another record came first; "
                "read the ledger again and decide again"
            ) from None
        return record

    def _known(self, operation: str) -> Record | None:
        query = select(LEDGER).where(LEDGER.c.model == self.model, LEDGER.c.operation == operation)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else record_of(row._mapping)

    def _hash_at(self, sequence: int) -> str:
        if sequence == 0:
            return GENESIS
        query = select(LEDGER.c.hash).where(LEDGER.c.model == self.model, LEDGER.c.sequence == sequence)
        with self._engine.connect() as connection:
            found = connection.execute(query).scalar()
        if found is None:
            raise LedgerError(f"{self.model}: there is no record {sequence} to append to")
        return str(found)

    def _retried(self, action: Callable[[], Result]) -> Result:
        """Run ``action``, making the table where it is missing and waiting where the database is locked."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if not self._made:
                    LEDGER.metadata.create_all(self._engine)
                    self._made = True
                return action()
            except (OperationalError, ProgrammingError) as error:
                # Two first users make the table at the same time; a busy SQLite answers "locked".
                if attempt == ATTEMPTS:
                    raise LedgerError(
                        f"{self.model}: the ledger did not answer in {ATTEMPTS} attempts: {error.orig}"
                    ) from error
                time.sleep(0.05 * 2**attempt)
        raise AssertionError("unreachable")


def record_of(row: object) -> Record:
    """Return a table row as a record."""
    values = dict(row)  # type: ignore[call-overload]
    return Record(**{**values, "evidence": tuple(values["evidence"])})


def engine_of(url: str) -> Engine:
    """Return an engine that holds no connection between uses, since tasks are forks of their worker."""
    if url.startswith("sqlite"):
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": 30})

        @event.listens_for(engine, "connect")
        def _durable(connection: object, _record: object) -> None:
            connection.execute("PRAGMA synchronous=FULL")  # type: ignore[attr-defined]

        return engine
    return create_engine(url, poolclass=NullPool)
