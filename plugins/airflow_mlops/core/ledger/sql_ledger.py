"""The ledger in any database SQLAlchemy speaks to: SQLite by default, PostgreSQL beyond.

The primary key (model, sequence) is the compare-and-append: of two writers that read the same number exactly one
inserts the next. The projection stands beside the records and names the last record it includes by number and hash:
whoever reads the state first applies newer records to it, and makes it again if it does not fit the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Select, delete, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, ProgrammingError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from airflow_mlops.core.errors import LedgerError, LedgerUnavailableError, StaleLedgerError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.fold import View
from airflow_mlops.core.ledger.kinds import is_wanted, stored_kinds
from airflow_mlops.core.ledger.projection import apply, places_of
from airflow_mlops.core.ledger.protocols import Head
from airflow_mlops.core.ledger.record import GENESIS, Draft, Record, chain_record
from airflow_mlops.core.ledger.record_counts import NO_RECORDS, RecordCounts, count_records
from airflow_mlops.core.ledger.sql_facts import SqlFacts, SqlSteps
from airflow_mlops.core.ledger.sql_schema import (
    FACT,
    LEASE,
    LEDGER,
    PROJECTED,
    engine_of,
    migrate,
    require_revision,
    time_of,
)
from airflow_mlops.core.ledger.state import MACHINE, LoopState
from airflow_mlops.core.ledger.state_machine import StateMachine

Result = TypeVar("Result")
D = TypeVar("D", bound=Details)
ATTEMPTS = 6
BATCH = 1_000
"""Records that are read, or applied to the projection, at a time."""
GROWTH = 8
"""By how much each page of records is larger than the one before, where the newest come first."""


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
    engine : Engine, optional
        Reaches the database where several ledgers share a connection; made from ``url`` if not given.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        engine: Engine | None = None,
    ) -> None:
        self.model = model
        self._clock = clock
        self._engine = engine_of(url) if engine is None else engine
        self._migrated = False

    def records(
        self, *kinds: type[Details], partition: str | None = None, after: int = 0, newest_first: bool = False
    ) -> Iterator[Record[Any]]:
        """Yield records; see :meth:`~airflow_mlops.core.ledger.protocols.Ledger.records`."""
        conditions: list[ColumnElement[bool]] = [LEDGER.c.model == self.model]
        if kinds:
            conditions.append(LEDGER.c.kind.in_(stored_kinds(kinds)))
        if partition is not None:
            conditions.append(LEDGER.c.partition == partition)
        if after:
            conditions.append(LEDGER.c.sequence > after)
        order = LEDGER.c.sequence.desc() if newest_first else LEDGER.c.sequence
        query, last = select(LEDGER).where(*conditions).order_by(order), None
        # Whoever asks for the newest first mostly wants it alone.
        size = 1 if newest_first else BATCH
        while True:
            page = (
                query
                if last is None
                else query.where(LEDGER.c.sequence < last if newest_first else LEDGER.c.sequence > last)
            )
            rows = self._run(partial(_read, query=page.limit(size)))
            yield from (row for row in rows if is_wanted(row, kinds))
            if len(rows) < size:
                return
            last, size = rows[-1].sequence, min(size * GROWTH, BATCH)

    def record(self, sequence: int) -> Record[Any] | None:
        """Return the record of a number; None where there is none."""
        return self._one(LEDGER.c.sequence == sequence)

    def recorded(self, operation: str) -> Record[Any] | None:
        """Return the record of an operation; None where it was not recorded."""
        return self._one(LEDGER.c.operation == operation)

    def head(self) -> Head:
        """Return the number and the hash of the last record."""
        return self._run(self._head)

    def state(self, *, as_of: str | None = None, before: str | None = None) -> LoopState:
        """Return the state now, or as of a partition; see :meth:`~airflow_mlops.core.ledger.protocols.Ledger.state`."""
        view = View(as_of, before)
        facts = SqlFacts(self._run, self.model, view)
        head = self._run(self._brought_up)
        machine: StateMachine = facts.value(MACHINE, "") or StateMachine()
        return LoopState(head.sequence, machine, facts)

    def count_records(self, known: RecordCounts = NO_RECORDS) -> RecordCounts:
        """Return counts of the records, of which only those after ``known`` are read if it still holds."""
        return self._run(partial(count_records, model=self.model, head=self._head, known=known))

    def append(self, draft: Draft[D], *, read: int) -> Record[D]:
        """Append ``draft`` as number ``read + 1``; see :meth:`~airflow_mlops.core.ledger.protocols.Ledger.append`."""
        return self._run(lambda connection: self._append(connection, draft, read))

    def take_lease(self, name: str, holder: str, *, seconds: float) -> bool:
        """Take a lease; see :meth:`~airflow_mlops.core.ledger.protocols.Ledger.take_lease`."""

        def take(connection: Connection) -> bool:
            now = time_of(connection)
            values = {"model": self.model, "name": name, "holder": holder, "until": now + seconds}
            try:
                with external_write("ledger.take_lease"):
                    connection.execute(delete(LEASE).where(*self._lease(name), LEASE.c.until <= now))
                    connection.execute(insert(LEASE).values(**values))
                    connection.commit()
            except IntegrityError:
                connection.rollback()
                return False
            return True

        return self._run(take)

    def end_lease(self, name: str, holder: str) -> None:
        """End a lease; see :meth:`~airflow_mlops.core.ledger.protocols.Ledger.end_lease`."""

        def end(connection: Connection) -> None:
            with external_write("ledger.end_lease"):
                connection.execute(delete(LEASE).where(*self._lease(name), LEASE.c.holder == holder))
                connection.commit()

        self._run(end)

    def _lease(self, name: str) -> tuple[ColumnElement[bool], ...]:
        return LEASE.c.model == self.model, LEASE.c.name == name

    def _append(self, connection: Connection, draft: Draft[D], read: int) -> Record[D]:
        known = self._known(connection, draft.operation)
        if known is not None:
            return known
        record = chain_record(
            draft,
            model=self.model,
            sequence=read + 1,
            previous_hash=self._hash_at(connection, read),
            recorded_at=self._clock().isoformat(),
        )
        try:
            with external_write(f"ledger.{draft.kind}"):
                connection.execute(insert(LEDGER).values(**record.to_json()))
                connection.commit()
        except IntegrityError:
            connection.rollback()
            known = self._known(connection, draft.operation)
            if known is not None:
                return known
            raise StaleLedgerError(
                f"{self.model}: {draft.kind} was decided on record {read}, and another record came first; "
                "read the ledger again and decide again"
            ) from None
        return record

    def _known(self, connection: Connection, operation: str) -> Record[Any] | None:
        rows = _read(connection, select(LEDGER).where(LEDGER.c.model == self.model, LEDGER.c.operation == operation))
        return rows[0] if rows else None

    def _one(self, condition: ColumnElement[bool]) -> Record[Any] | None:
        query = select(LEDGER).where(LEDGER.c.model == self.model, condition)
        rows = self._run(lambda connection: _read(connection, query))
        return rows[0] if rows else None

    def _head(self, connection: Connection) -> Head:
        query = (
            select(LEDGER.c.sequence, LEDGER.c.hash)
            .where(LEDGER.c.model == self.model)
            .order_by(LEDGER.c.sequence.desc())
            .limit(1)
        )
        row = connection.execute(query).first()
        return Head(0, GENESIS) if row is None else Head(int(row.sequence), str(row.hash))

    def _hash_at(self, connection: Connection, sequence: int) -> str:
        if sequence == 0:
            return GENESIS
        query = select(LEDGER.c.hash).where(LEDGER.c.model == self.model, LEDGER.c.sequence == sequence)
        stored = connection.execute(query).scalar()
        if stored is None:
            raise LedgerError(f"{self.model}: there is no record {sequence} to append to")
        return str(stored)

    def _brought_up(self, connection: Connection) -> Head:
        """Apply the records that the projection does not include yet, and return the last one."""
        while True:
            head, projected = self._head(connection), self._projected(connection)
            if projected == head:
                return head
            if projected.sequence > head.sequence or self._hash_at(connection, projected.sequence) != projected.hash:
                # Not made from these records: somebody has put back an older ledger, or written it anew.
                self._move(connection, projected, Head(0, GENESIS), ())
                continue
            query = (
                select(LEDGER)
                .where(LEDGER.c.model == self.model, LEDGER.c.sequence > projected.sequence)
                .order_by(LEDGER.c.sequence)
                .limit(BATCH)
            )
            records = _read(connection, query)
            self._move(connection, projected, Head(records[-1].sequence, records[-1].hash), records)

    def _projected(self, connection: Connection) -> Head:
        query = select(PROJECTED.c.sequence, PROJECTED.c.hash).where(PROJECTED.c.model == self.model)
        row = connection.execute(query).first()
        return Head(0, GENESIS) if row is None else Head(int(row.sequence), str(row.hash))

    def _move(self, connection: Connection, old: Head, new: Head, records: Sequence[Record[Any]]) -> None:
        """Move the projection between two records in one transaction; a concurrent second move changes nothing."""
        connection.rollback()  # what was read so far began a transaction on some databases
        try:
            with external_write("ledger.projection"):
                if self._replace_projected(connection, old, new):
                    self._apply(connection, records)
                    connection.commit()
                else:
                    connection.rollback()
        except IntegrityError:
            connection.rollback()

    def _replace_projected(self, connection: Connection, old: Head, new: Head) -> bool:
        """Make the projection name another last record; return False if somebody else has moved it meanwhile."""
        if old.sequence == 0 and self._projected(connection).sequence == 0:
            connection.execute(delete(PROJECTED).where(PROJECTED.c.model == self.model))
            connection.execute(insert(PROJECTED).values(model=self.model, sequence=new.sequence, hash=new.hash))
        else:
            moved = connection.execute(
                update(PROJECTED)
                .where(
                    PROJECTED.c.model == self.model,
                    PROJECTED.c.sequence == old.sequence,
                    PROJECTED.c.hash == old.hash,
                )
                .values(sequence=new.sequence, hash=new.hash)
            )
            if moved.rowcount == 0:
                return False
        if new.sequence == 0:
            connection.execute(delete(FACT).where(FACT.c.model == self.model))
        return True

    def _apply(self, connection: Connection, records: Sequence[Record[Any]]) -> None:
        """Apply records to the facts of the projection."""
        steps = SqlSteps(connection, self.model)
        steps.expect(places_of(records))
        for record in records:
            apply(record, steps)
        steps.flush()

    def _run(self, action: Callable[[Connection], Result]) -> Result:
        """Run ``action`` on a connection and return its result; retry while the database is locked or unreachable."""
        try:
            return self._connected(action)
        except (OperationalError, ProgrammingError):
            return self._tried_again(action)
        except DatabaseError as error:
            raise LedgerError(f"{self.model}: the ledger refused: {error.orig}") from error

    def _tried_again(self, action: Callable[[Connection], Result]) -> Result:
        attempts = Retrying(
            retry=retry_if_exception_type((OperationalError, ProgrammingError)),
            stop=stop_after_attempt(ATTEMPTS - 1),
            wait=wait_exponential(multiplier=0.05, max=2),
            reraise=True,
        )
        try:
            result: Result = attempts(self._connected, action)
        except DatabaseError as error:
            raise LedgerUnavailableError(
                f"{self.model}: the ledger did not answer in {ATTEMPTS} attempts: {error.orig}"
            ) from error
        return result

    def _connected(self, action: Callable[[Connection], Result]) -> Result:
        if not self._migrated:
            migrate(self._engine)
            self._migrated = True
        with self._engine.connect() as connection:
            return action(connection)


@contextmanager
def open_ledgers(url: str, *, migrating: bool = True) -> Iterator[dict[str, SqlLedger]]:
    """Yield the ledgers of all models of a database by model, which share one connection while they are open.

    A model is there once its state was read for the first time, as every step of a loop does.

    Parameters
    ----------
    url : str
        SQLAlchemy URL with its driver.
    migrating : bool, default True
        Whether tables of an earlier release are brought to the present form; else they are an error.

    Raises
    ------
    LedgerError
        If the database does not answer, or refuses, or has another form that is not to be migrated.
    """
    engine = engine_of(url, keep_connection=True)
    try:
        if migrating:
            migrate(engine)
        with engine.connect() as connection:
            require_revision(connection)
            models = [
                str(model)
                for model in connection.execute(select(PROJECTED.c.model).order_by(PROJECTED.c.model)).scalars()
            ]
        ledgers = {model: SqlLedger(url, model, engine=engine) for model in models}
        for ledger in ledgers.values():
            ledger._migrated = True
        yield ledgers
    except DatabaseError as error:
        raise LedgerError(f"the ledger did not answer: {error.orig}") from error
    finally:
        engine.dispose()


def _read(connection: Connection, query: Select[Any]) -> list[Record[Any]]:
    return [_record_of(row._mapping) for row in connection.execute(query)]


def _record_of(row: Any) -> Record[Any]:
    return Record(
        row["model"],
        row["sequence"],
        row["operation"],
        row["kind"],
        row["actor"],
        row["partition"],
        row["details"],
        tuple(row["evidence"]),
        row["recorded_at"],
        row["previous_hash"],
        row["hash"],
    )
