"""A source of rows in a database: a table split by its time column, or a query between two ticks.

The rows come through a server-side cursor where the driver has one, so memory does not grow with them, and in one
read-only transaction, so that concurrent writes are seen either as a whole or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from typing import Any

import pyarrow as pa

from airflow_mlops.core.declaration.arrow_types import is_time
from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import MlopsError, SourceMissingError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.sql_columns import (
    MYSQL,
    POSTGRES,
    arrow_column,
    column_type,
    driver_values,
    sqlite_type,
)
from airflow_mlops.core.sources.sql_errors import translate_errors
from airflow_mlops.core.sources.sql_partition import SqlPartition
from airflow_mlops.core.sources.sql_text import bind_values, quote_name

FIRST_ROWS = 1_000
"""Rows of the first batch, which gives the size of the other batches, and types that nothing else states."""
BATCH_BYTES = 64 << 20
BATCH_CELLS = 2_000_000
_BACKTICKS = ("sqlite3", *MYSQL)  # SQLite reads "x" as a string if there is no column x


class SqlRows:
    """The rows of a table or a query.

    Parameters
    ----------
    connect : callable
        Opens a PEP 249 connection.
    name : str
        Name of the database in errors: the id of its connection.
    every, timezone : str
        Cron expression of the partitions, and the time zone that it is read in.
    time : str
        Time column of ``table``: a partition holds the rows from the tick before its key up to its key.
    table, query : str, optional
        Exactly one of the two; a query binds the ticks ``:start`` and ``:end``, in UTC.
    columns : sequence of str, optional
        Columns of the table; all by default.
    server_side : bool
        Whether to use a cursor on the server where the driver has one.
    limits : Limits
        How much a partition may hold.
    types : mapping of str to pyarrow.DataType, optional
        Types of columns in the contract, for columns whose type neither the database nor the first rows show.

    Raises
    ------
    ValueError
        Unless there is exactly one of ``table`` and ``query``.
    DeclarationError
        If ``table`` or ``time`` cannot be a name in a query.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        name: str,
        every: str,
        time: str,
        timezone: str = "UTC",
        table: str | None = None,
        query: str | None = None,
        columns: Sequence[str] | None = None,
        server_side: bool = True,
        limits: Limits | None = None,
        types: Mapping[str, pa.DataType] | None = None,
    ) -> None:
        if (table is None) == (query is None):
            raise ValueError("a SQL source needs exactly one of table and query")
        quote_name(time if table else "t", quote='"')
        quote_name(table or "t", quote='"')
        self._connect, self._name, self._time = connect, name, time
        self._schedule = PartitionSchedule(every, timezone)
        self._table, self._query, self._columns = table, query, columns
        self._server_side, self._limits, self._types = server_side, limits or Limits(), dict(types or {})

    @contextmanager
    def open(
        self,
        partition: str,
        *,
        known: Mapping[str, Any] | None = None,  # noqa: ARG002
        before: Callable[[SqlPartition], None] | None = None,
    ) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`.

        ``before`` is called before any row is fetched, with the partition in the transaction that fetches its rows.
        """
        start = self._schedule.previous(partition)
        where = f"partition {partition}: {self._table or 'the query'} on {self._name}"
        with self._connection(where) as connection, ExitStack() as opened:
            driver = driver_of(connection)
            ticks = {"start": datetime.fromisoformat(start), "end": datetime.fromisoformat(partition)}
            statement, values = bind_values(
                self._query or self._select_table(driver),
                {name: tick.isoformat(" ") for name, tick in ticks.items()} if driver == "sqlite3" else ticks,
                paramstyle=sys.modules[driver].paramstyle,
                driver=driver,
            )
            with translate_errors(where, driver):
                cursor = open_reading_cursor(connection, driver, named=self._server_side)
                opened.callback(close_quietly, cursor)
                without = self._count_rows_without_time(connection, driver)
                known_types = self._known_types(connection, driver)
                if before is not None:
                    before(
                        SqlPartition(connection, driver, statement, values, known_types, self._table is not None, where)
                    )
                cursor.execute(statement, values)
                more = RowFetcher(cursor, driver, where)
                opened.callback(self._stop_sending, connection, more)
                rows = more(FIRST_ROWS)
                if not rows:
                    warnings = "".join(f"; {warning}" for warning in self._warnings(without))
                    raise SourceMissingError(f"{where}: no rows between {start} and {partition} yet{warnings}")
                schema = schema_of(cursor.description, rows, driver, where, known_types)
            origin: dict[str, Any] = {"table": self._table} if self._table else {"query": self._query}
            origin |= {"start": start, "end": partition} | ({"without_time": without} if without else {})
            # SQLite has no types for dates and times: only the contract knows which texts are dates or times.
            texts = {field.name for field in schema if driver == "sqlite3" and pa.types.is_string(field.type)}
            with closing(self._batches(rows, more, schema, Meter(self._limits, partition), where)) as batches:
                yield Arrival(schema, batches, origin=origin, texts=frozenset(texts), warnings=self._warnings(without))

    @contextmanager
    def _connection(self, where: str) -> Iterator[Any]:
        try:
            connection = self._connect()
        except MlopsError:
            raise
        except Exception as error:  # drivers share no base class, and their messages may hold an address
            raise SourceUnreachableError(f"{where}: there is no connection ({type(error).__name__})") from error
        try:
            yield connection
        finally:
            close_quietly(connection)

    def _stop_sending(self, connection: Any, more: RowFetcher) -> None:
        """Stop a query of MySQL of which rows are left; they would all be sent before its cursor can be closed."""
        if more.driver not in MYSQL or more.is_at_end:
            return
        with suppress(Exception), closing(self._connect()) as other, closing(other.cursor()) as cursor:
            cursor.execute(f"KILL QUERY {int(getattr(connection, 'connection_id', None) or connection.thread_id())}")

    def _count_rows_without_time(self, connection: Any, driver: str) -> int:
        """Return the number of rows without a time, which therefore belong to no partition."""
        if self._table is None:
            return 0
        quote = "`" if driver in _BACKTICKS else '"'
        table, time = quote_name(self._table, quote=quote), quote_name(self._time, quote=quote)
        moment = (
            f"datetime({time})" if driver == "sqlite3" else time
        )  # also null for a text that SQLite cannot read as a time
        with closing(connection.cursor()) as cursor:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {moment} IS NULL")  # noqa: S608
            return int(cursor.fetchone()[0])

    def _known_types(self, connection: Any, driver: str) -> dict[str, pa.DataType]:
        """Return the types of columns in the contract, and in a table of SQLite, as this driver delivers them."""
        if driver != "sqlite3":
            return self._types
        # SQLite delivers dates and times as texts, decimals as numbers, and truth values as integers.
        known = {name: pa.string() if is_time(kind) else kind for name, kind in self._types.items()}
        known = {name: kind for name, kind in known.items() if kind in (pa.string(), pa.int64(), pa.float64())}
        if self._table is None:
            return known
        with closing(connection.cursor()) as cursor:
            cursor.execute("SELECT name, type FROM pragma_table_info(?)", (self._table.rpartition(".")[2],))
            columns = {name: sqlite_type(declared) for name, declared in cursor.fetchall()}
        return {name: kind for name, kind in columns.items() if kind is not None} | known

    def _warnings(self, without: int) -> tuple[str, ...]:
        if not without:
            return ()
        if without == 1:
            return (f"1 row of {self._table} has no time and belongs to no partition",)
        return (f"{without:,} rows of {self._table} have no time and belong to no partition",)

    def _select_table(self, driver: str) -> str:
        quote = "`" if driver in _BACKTICKS else '"'
        chosen = ", ".join(quote_name(column, quote=quote) for column in self._columns) if self._columns else "*"
        table, time = quote_name(self._table or "", quote=quote), quote_name(self._time, quote=quote)
        if driver == "sqlite3":  # SQLite keeps times as texts in several formats
            return (
                f"SELECT {chosen} FROM {table} "  # noqa: S608
                f"WHERE datetime({time}) >= datetime(:start) AND datetime({time}) < datetime(:end)"
            )
        return f"SELECT {chosen} FROM {table} WHERE {time} >= :start AND {time} < :end"  # noqa: S608

    def _batches(
        self, rows: list[Any], more: RowFetcher, schema: pa.Schema, meter: Meter, where: str
    ) -> Generator[pa.RecordBatch]:
        # Of these columns the first rows do not show the type.
        empty = {
            field.name for field, values in zip(schema, zip(*rows, strict=True), strict=True) if not any_value(values)
        }
        while rows:
            meter.add_rows(len(rows), len(schema), self._name)
            columns = [
                arrow_column(
                    field.name,
                    field.type,
                    driver_values(field.type, values, more.driver),
                    where=where,
                    is_declared=field.name in empty,
                )
                for field, values in zip(schema, zip(*rows, strict=True), strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(columns, schema=schema)
            meter.add_bytes(batch.nbytes, self._name)
            yield batch
            fitting = BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1)
            rows = more(max(1, min(BATCH_ROWS, fitting, BATCH_CELLS // len(schema))))


def any_value(values: Sequence[Any]) -> bool:
    """Return whether any value is not null."""
    return any(value is not None for value in values)


def close_quietly(connection_or_cursor: Any) -> None:
    """Close a connection, which ends its transaction, or a cursor; ignore the errors of a lost connection."""
    with suppress(Exception):
        connection_or_cursor.close()
    # PyMySQL would read from a lost connection again when the cursor is collected, and print the error.
    result: Any = getattr(connection_or_cursor, "_result", None)
    if hasattr(result, "unbuffered_active"):
        result.unbuffered_active = False


class RowFetcher:
    """Fetches the next rows of a cursor, at most as many as its argument.

    Parameters
    ----------
    cursor : Any
        Cursor of an executed query.
    driver : str
        Module of the driver.
    where : str
        Partition and table, for errors.
    """

    def __init__(self, cursor: Any, driver: str, where: str) -> None:
        self.driver, self.is_at_end = driver, False
        self._cursor, self._where = cursor, where

    def __call__(self, count: int) -> list[Any]:
        """Return the next rows; none at the end."""
        with translate_errors(self._where, self.driver):
            rows = list(self._cursor.fetchmany(count))
        self.is_at_end = not rows
        return rows


def schema_of(
    description: Sequence[Any], rows: Sequence[Any], driver: str, where: str, known: Mapping[str, pa.DataType]
) -> pa.Schema:
    """Return the schema of a result from the description of its cursor, its first rows, and types known otherwise."""
    columns = zip(description, zip(*rows, strict=True), strict=True)
    return pa.schema(
        [
            pa.field(
                entry[0],
                column_type(entry, values, driver=driver, where=where, declared=known.get(entry[0])),
            )
            for entry, values in columns
        ]
    )


def driver_of(connection: Any) -> str:
    """Return the name of the driver's module, which has its ``paramstyle`` and its errors (PEP 249).

    Raises
    ------
    SourceUnreadableError
        If there is no such module: the driver does not follow PEP 249.
    """
    for kind in type(connection).__mro__:
        parts = kind.__module__.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            if hasattr(sys.modules.get(name), "paramstyle"):
                return name
    raise SourceUnreadableError(f"{type(connection).__module__} does not say how it binds values (PEP 249)")


def open_reading_cursor(connection: Any, driver: str, *, named: bool) -> Any:
    """Return a cursor in a read-only transaction that sees one state of the database.

    Parameters
    ----------
    named : bool
        Whether to use a cursor on the server, or of MySQL one that reads row by row.
    """
    if driver in POSTGRES:
        connection.rollback()  # the hook that opened the connection may have begun a transaction
        connection.autocommit = False
        with connection.cursor() as before:
            before.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            before.execute("SET LOCAL TIME ZONE 'UTC'")
        return connection.cursor("airflow_mlops") if named else connection.cursor()
    if driver in MYSQL:
        connection.rollback()
        with closing(connection.cursor()) as before:
            before.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            before.execute("SET time_zone = '+00:00'")
            before.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        by_row = getattr(sys.modules.get(f"{driver}.cursors"), "SSCursor", None)
        return connection.cursor(by_row) if named and by_row is not None else connection.cursor()
    if driver == "sqlite3":
        connection.execute("PRAGMA query_only = ON")
        if not connection.in_transaction:
            connection.execute("BEGIN")
    return connection.cursor()
