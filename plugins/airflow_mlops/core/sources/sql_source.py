"""A source of rows in a database: a table told apart by its time column, or a query between two ticks.

The rows come through a cursor on the server where the driver has one, so memory does not grow with them, and in one
read-only transaction, so that what is written meanwhile is either all there or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from typing import Any

import pyarrow as pa

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.declaration.partition_key import previous_tick
from airflow_mlops.core.errors import MlopsError, SourceMissingError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.sql_columns import arrow_column, column_type
from airflow_mlops.core.sources.sql_text import bound, quoted

FIRST_ROWS = 1_000
"""Rows of the first batch, by which the types are told and the size of the others."""
BATCH_BYTES = 64 << 20
BATCH_CELLS = 2_000_000
_POSTGRES = ("psycopg", "psycopg2")
_BACKTICKS = ("sqlite3", "MySQLdb", "pymysql")  # SQLite takes "x" for a text where there is no column x


class SqlRows:
    """The rows of a table, or of a query.

    Parameters
    ----------
    connect : callable
        Opens a connection as PEP 249 has it.
    name : str
        What a person calls the database: the id of its connection.
    every : str
        Cron expression of the partitions.
    time : str
        Column that says to which partition a row of ``table`` belongs: from the tick before the key up to the key.
    table, query : str, optional
        One of both; a query binds ``:start`` and ``:end``, the two ticks, as times in UTC.
    columns : sequence of str, optional
        Columns of the table; all if not given.
    server_side : bool
        Whether to use a cursor on the server where the driver has one.
    limits : Limits
        How much a partition may hold.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        name: str,
        every: str,
        time: str,
        table: str | None = None,
        query: str | None = None,
        columns: Sequence[str] | None = None,
        server_side: bool = True,
        limits: Limits | None = None,
    ) -> None:
        if (table is None) == (query is None):
            raise ValueError("needs exactly one of table, query")
        quoted(time if table else "t", quote='"')
        quoted(table or "t", quote='"')
        self._connect, self._name, self._every, self._time = connect, name, every, time
        self._table, self._query, self._columns = table, query, columns
        self._server_side, self._limits = server_side, limits or Limits()

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:  # noqa: ARG002
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        start = previous_tick(self._every, partition)
        where = f"partition {partition}: {self._table or 'the query'} on {self._name}"
        with self._connection(where) as connection, ExitStack() as opened:
            driver = driver_of(connection)
            ticks = {"start": datetime.fromisoformat(start), "end": datetime.fromisoformat(partition)}
            statement, values = bound(
                self._query or self._selection(driver),
                {name: tick.isoformat(" ") for name, tick in ticks.items()} if driver == "sqlite3" else ticks,
                sys.modules[driver].paramstyle,
            )
            with told(where, driver):
                cursor = reading_cursor(connection, driver, named=self._server_side)
                opened.callback(closed, cursor)
                without = self._rows_without_time(connection, driver)
                cursor.execute(statement, values)
                rows = cursor.fetchmany(FIRST_ROWS)
                if not rows:
                    told_too = "".join(f"; {warning}" for warning in self._warnings(without))
                    raise SourceMissingError(f"{where}: no rows between {start} and {partition} yet{told_too}")
                schema = schema_of(cursor.description, rows, driver, where)
            origin: dict[str, Any] = {"table": self._table} if self._table else {"query": self._query}
            origin |= {"start": start, "end": partition} | ({"without_time": without} if without else {})
            # SQLite has no types for dates and times: what is one of them, only the contract can say.
            texts = {field.name for field in schema if driver == "sqlite3" and pa.types.is_string(field.type)}
            more = fetching(cursor, driver, where)
            with closing(self._batches(rows, more, schema, Meter(self._limits, partition), where)) as batches:
                yield Arrival(
                    schema, batches, origin=origin, texts=frozenset(texts), warnings=self._warnings(without)
                )  # fmt: skip

    @contextmanager
    def _connection(self, where: str) -> Iterator[Any]:
        try:
            connection = self._connect()
        except MlopsError:
            raise
        except Exception as error:  # every driver has errors of its own, and their texts may hold an address
            raise SourceUnreachableError(f"{where}: there is no connection ({type(error).__name__})") from error
        try:
            yield connection
        finally:
            closed(connection)

    def _rows_without_time(self, connection: Any, driver: str) -> int:
        """Return how many rows of the table no partition will ever hold: an interval has no place for a null."""
        if self._table is None:
            return 0
        quote = "`" if driver in _BACKTICKS else '"'
        table, time = quoted(self._table, quote=quote), quoted(self._time, quote=quote)
        lost = f"datetime({time})" if driver == "sqlite3" else time  # null as well where SQLite reads no time
        with closing(connection.cursor()) as cursor:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {lost} IS NULL")  # noqa: S608
            return int(cursor.fetchone()[0])

    def _warnings(self, without: int) -> tuple[str, ...]:
        if not without:
            return ()
        said = "row of {} has no time and belongs" if without == 1 else "rows of {} have no time and belong"
        return (f"{without:,} {said.format(self._table)} to no partition",)

    def _selection(self, driver: str) -> str:
        quote = "`" if driver in _BACKTICKS else '"'
        chosen = ", ".join(quoted(column, quote=quote) for column in self._columns) if self._columns else "*"
        table, time = quoted(self._table or "", quote=quote), quoted(self._time, quote=quote)
        if driver == "sqlite3":  # it keeps times as texts of several forms
            return (
                f"SELECT {chosen} FROM {table} "  # noqa: S608
                f"WHERE datetime({time}) >= datetime(:start) AND datetime({time}) < datetime(:end)"
            )
        return f"SELECT {chosen} FROM {table} WHERE {time} >= :start AND {time} < :end"  # noqa: S608

    def _batches(
        self, rows: list[Any], more: Callable[[int], list[Any]], schema: pa.Schema, meter: Meter, where: str
    ) -> Generator[pa.RecordBatch]:
        while rows:
            meter.add_rows(len(rows), len(schema), self._name)
            columns = [
                arrow_column(field.name, field.type, values, where=where)
                for field, values in zip(schema, zip(*rows, strict=True), strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(columns, schema=schema)
            meter.add_bytes(batch.nbytes, self._name)
            yield batch
            fitting = BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1)
            rows = more(max(1, min(BATCH_ROWS, fitting, BATCH_CELLS // len(schema))))


def closed(connection_or_cursor: Any) -> None:
    """Close a connection, and with it its transaction, or a cursor; one that is lost already cannot be."""
    with suppress(Exception):
        connection_or_cursor.close()


def fetching(cursor: Any, driver: str, where: str) -> Callable[[int], list[Any]]:
    """Return what fetches the next rows of a cursor, at most as many as it is told."""

    def fetch(count: int) -> list[Any]:
        with told(where, driver):
            return list(cursor.fetchmany(count))

    return fetch


def schema_of(description: Sequence[Any], rows: Sequence[Any], driver: str, where: str) -> pa.Schema:
    """Return the columns of a result from what the cursor says and its first rows."""
    columns = zip(description, zip(*rows, strict=True), strict=True)
    return pa.schema(
        [
            pa.field(described[0], column_type(described, values, oids=driver in _POSTGRES, where=where))
            for described, values in columns
        ]
    )


def driver_of(connection: Any) -> str:
    """Return the module that says how a connection's driver binds values.

    Raises
    ------
    SourceUnreadableError
        If it is not known; such a driver does not keep to PEP 249.
    """
    for kind in type(connection).__mro__:
        parts = kind.__module__.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            if hasattr(sys.modules.get(name), "paramstyle"):
                return name
    raise SourceUnreadableError(f"{type(connection).__module__} does not say how it binds values (PEP 249)")


def reading_cursor(connection: Any, driver: str, *, named: bool) -> Any:
    """Return a cursor in a transaction that only reads and sees one state of the database."""
    if driver in _POSTGRES:
        connection.rollback()  # whatever opened the connection may have asked something already
        connection.autocommit = False
        with connection.cursor() as before:
            before.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            before.execute("SET LOCAL TIME ZONE 'UTC'")
        return connection.cursor("airflow_mlops") if named else connection.cursor()
    if driver == "sqlite3":
        connection.execute("PRAGMA query_only = ON")
        if not connection.in_transaction:
            connection.execute("BEGIN")
    return connection.cursor()


@contextmanager
def told(where: str, driver: str) -> Iterator[None]:
    """Raise what a driver raises as an error of this package: a lost connection may be tried again."""
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:  # PEP 249 gives each driver an Error of its own
        base = getattr(sys.modules[driver], "Error", ())
        if not isinstance(error, base):
            raise
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        # SQLite calls a missing table an operational error, too.
        lost = isinstance(error, sys.modules[driver].OperationalError)
        if lost and (driver != "sqlite3" or "locked" in said):
            raise SourceUnreachableError(f"{where} does not answer: {said}") from error
        raise SourceUnreadableError(f"{where} cannot be read: {said}") from error
