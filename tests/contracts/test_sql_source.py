"""Rows of a real database: PostgreSQL through both drivers, and SQLite."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pyarrow as pa
import pytest
from sqlalchemy import make_url

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import (
    DeclarationError,
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.ports.partitions import BATCH_ROWS
from airflow_mlops.core.sources.sql_source import SqlRows, open_reading_cursor

KEY = "2013-01-06T00:00:00"
Connect = Callable[[], Any]


@pytest.fixture(params=["psycopg", "psycopg2"])
def connect(request: pytest.FixtureRequest, postgres_url: str) -> Connect:
    url = make_url(postgres_url)
    host = url.host or url.query["host"]
    driver: Any = {"psycopg": psycopg, "psycopg2": psycopg2}[request.param]
    return lambda: driver.connect(host=host, user=url.username, dbname=url.database)


@pytest.fixture
def table(connect: Connect) -> Any:
    """Return the name of a fresh table and what creates and fills it."""
    name = f"t{uuid.uuid4().hex}"

    def make(columns: str, values: str = "") -> str:
        run(connect, f"CREATE TABLE {name} ({columns})")
        if values:
            run(connect, f"INSERT INTO {name} {values}")
        return name

    return make


def run(connect: Connect, statement: str) -> None:
    with closing(connect()) as connection:
        connection.cursor().execute(statement)
        connection.commit()


def source(connect: Connect, table: str | None = None, **kwargs: Any) -> SqlRows:
    return SqlRows(connect, name="warehouse", every="@weekly", time="at", table=table, **kwargs)


def rows_of(sql_rows: SqlRows, key: str = KEY) -> pa.Table:
    with sql_rows.open(key) as arrival:
        assert arrival.typed
        return pa.Table.from_batches(arrival.batches, schema=arrival.schema)


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "date"])
def test_a_partition_holds_what_lies_between_its_ticks_in_utc_whatever_the_zone_of_the_server(
    connect: Connect, table: Any, kind: str
) -> None:
    name = table(f"id text, at {kind}")

    def far_away() -> Any:
        connection = connect()
        connection.cursor().execute("SET TIME ZONE 'Pacific/Auckland'")
        connection.commit()
        return connection

    for day in ("2012-12-29", "2012-12-30", "2013-01-05", "2013-01-06"):
        stamp = f"'{day}'" if kind == "date" else f"'{day} 00:00:00{'+00' if kind == 'timestamptz' else ''}'"
        run(connect, f"INSERT INTO {name} VALUES ('{day}', {stamp})")
    assert sorted(rows_of(source(far_away, name)).column("id").to_pylist()) == ["2012-12-30", "2013-01-05"]
    with pytest.raises(SourceMissingError, match="no rows between 2013-02-24T00:00:00 and 2013-03-03T00:00:00 yet"):
        rows_of(source(connect, name), "2013-03-03T00:00:00")


def test_every_type_arrives_as_it_is(connect: Connect, table: Any) -> None:
    name = table(
        "i int, b bigint, f float8, n numeric(10,2), w numeric, s text, c varchar(3), o boolean, d date, "
        "at timestamp, z timestamptz, y bytea, e text",
        "VALUES (1, 9007199254740993, 'NaN', 1.10, 0.001, 'x''y', 'abc', true, '2013-01-02', "
        "'2013-01-02 03:04:05.678901', '2013-01-02 03:04:05+13', '\\x00ff', NULL)",
    )
    rows = rows_of(source(connect, name))
    assert rows.schema == pa.schema(
        {
            "i": pa.int64(),
            "b": pa.int64(),
            "f": pa.float64(),
            "n": pa.decimal128(10, 2),
            "w": pa.decimal128(38, 3),
            "s": pa.string(),
            "c": pa.string(),
            "o": pa.bool_(),
            "d": pa.date32(),
            "at": pa.timestamp("us"),
            "z": pa.timestamp("us", tz="UTC"),
            "y": pa.binary(),
            "e": pa.string(),
        }
    )
    row_values = rows.to_pylist()[0]
    assert row_values.pop("f") != row_values.get("f")
    assert row_values == {
        "i": 1,
        "b": 9007199254740993,
        "n": Decimal("1.10"),
        "w": Decimal("0.001"),
        "s": "x'y",
        "c": "abc",
        "o": True,
        "d": date(2013, 1, 2),
        "at": datetime.fromisoformat("2013-01-02T03:04:05.678901"),
        "y": b"\x00\xff",
        "e": None,
        "z": datetime(2013, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=13))).astimezone(UTC),
    }


@pytest.mark.parametrize(("kind", "value"), [("json", "'{}'"), ("jsonb", "'[1]'"), ("int[]", "'{1}'")])
def test_a_type_that_no_column_can_hold_is_refused_by_the_name_of_the_column(
    connect: Connect, table: Any, kind: str, value: str
) -> None:
    name = table(f"id int, doc {kind}, at date", f"VALUES (1, {value}, '2013-01-02')")
    with pytest.raises(SourceUnreadableError, match=r"column 'doc' holds values of the type \w+, .* cast it in the"):
        rows_of(source(connect, name))


def test_a_number_with_more_places_than_the_first_ones_is_refused_and_not_rounded(connect: Connect, table: Any) -> None:
    name = table("n numeric, at date", "SELECT 1.5, '2013-01-02'::date FROM generate_series(1, 2000)")
    run(connect, f"INSERT INTO {name} VALUES (1.2345, '2013-01-02')")
    with pytest.raises(SourceUnreadableError, match=r"column 'n' is no decimal128\(38, 1\): .* cast it in the query"):
        rows_of(source(connect, name))
    run(connect, f"UPDATE {name} SET n = 'NaN'")
    with pytest.raises(SourceUnreadableError, match="column 'n' is no decimal128"):
        rows_of(source(connect, name))


def test_rows_come_through_a_cursor_on_the_server_in_one_read_only_transaction(connect: Connect, table: Any) -> None:
    name = table("n int, at date", "SELECT g, '2013-01-02'::date FROM generate_series(1, 200000) g")
    opened: list[Any] = []

    def noted() -> Any:
        opened.append(connect())
        return opened[-1]

    with source(noted, name).open(KEY) as arrival:
        sizes = [next(arrival.batches).num_rows]
        # What is written meanwhile is of another state of the database.
        run(connect, f"INSERT INTO {name} VALUES (0, '2013-01-02')")
        cursor = opened[0].cursor()
        cursor.execute("SELECT name, statement FROM pg_cursors")
        ((cursor_name, statement),) = cursor.fetchall()
        assert cursor_name == "airflow_mlops"
        assert name in statement
        cursor.execute("SHOW transaction_read_only")
        assert cursor.fetchall() == [("on",)]
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchall() == [("repeatable read",)]
        sizes += [batch.num_rows for batch in arrival.batches]
    assert sum(sizes) == 200_000
    assert max(sizes) == BATCH_ROWS
    assert opened[0].closed


def test_a_query_binds_its_ticks_and_a_quote_in_the_data_changes_nothing(connect: Connect, table: Any) -> None:
    name = table("id text, at timestamp", "VALUES ('o''hara; DROP TABLE x --', '2013-01-02'), ('b%s', '2013-01-03')")
    query = f"""
        -- not :bound, 100 % of it
        SELECT id, at::date AS day, ':start' AS word, 5 % 2 AS odd, E'\\':end' AS escaped, $$:end$$ AS dollars
        FROM {name} WHERE at >= :start AND at < :end::timestamp AND id LIKE '%%' /* :end */ ORDER BY at;
    """
    row_values = rows_of(source(connect, query=query)).to_pylist()
    assert row_values[0] == {
        "id": "o'hara; DROP TABLE x --",
        "day": date(2013, 1, 2),
        "word": ":start",
        "odd": 1,
        "escaped": "':end",
        "dollars": ":end",
    }
    assert [row["id"] for row in row_values] == ["o'hara; DROP TABLE x --", "b%s"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM t WHERE at >= :start AND at < :end", "the query must be one SELECT"),
        ("SELECT :start, :end; DROP TABLE t", "the query holds more than one statement"),
        ("SELECT :start, :end, :password", "the query binds :password; it can bind :start and :end"),
        ("SELECT :start, ':end", "the query opens ' and never closes it"),
        ("SELECT :start /* :end", r"the query opens /\* and never closes it"),
    ],
)
def test_a_query_that_is_more_than_one_select_is_refused(connect: Connect, query: str, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        rows_of(source(connect, query=query))


def test_a_query_that_deletes_in_a_with_is_refused_before_the_database_sees_it(connect: Connect, table: Any) -> None:
    name = table("id int, at date", "VALUES (1, '2013-01-02')")
    query = f"WITH gone AS (DELETE FROM {name} RETURNING *) SELECT * FROM gone WHERE at >= :start AND at < :end"
    with pytest.raises(DeclarationError, match="only reads, and it holds DELETE in a WITH"):
        rows_of(source(connect, query=query, server_side=False))
    assert rows_of(source(connect, name)).num_rows == 1


def test_a_function_that_writes_is_stopped_by_the_database(connect: Connect, table: Any) -> None:
    name = table("id serial, at date", "VALUES (1, '2013-01-02')")
    query = f"SELECT setval('{name}_id_seq', 9) FROM {name} WHERE at >= :start AND at < :end"
    with pytest.raises(SourceUnreadableError, match="read-only transaction"):
        rows_of(source(connect, query=query, server_side=False))
    assert rows_of(source(connect, name)).num_rows == 1


@pytest.mark.parametrize("hostile", ['t"; DROP TABLE x; --', "t x", "a.b.", "t'", "tä", "", "t" * 64])
def test_a_hostile_name_never_reaches_the_database(connect: Connect, hostile: str) -> None:
    def never() -> Any:
        raise AssertionError("asked for a connection")

    with pytest.raises(DeclarationError, match="cannot be a name in a query"):
        rows_of(source(never, hostile)) if hostile else rows_of(source(never, "t.."))
    with pytest.raises(DeclarationError, match="cannot be a name in a query"):
        SqlRows(never, name="w", every="@weekly", time=hostile or "a b", table="t")


def test_a_name_that_sql_knows_as_a_word_is_quoted(connect: Connect) -> None:
    run(connect, 'CREATE SCHEMA IF NOT EXISTS "Select"; DROP TABLE IF EXISTS "Select"."Order"')
    run(connect, """CREATE TABLE "Select"."Order" AS SELECT 1 AS "group", DATE '2013-01-02' AS "from" """)
    sql_rows = SqlRows(connect, name="w", every="@weekly", time="from", table="Select.Order", columns=["group"])
    assert rows_of(sql_rows).to_pydict() == {"group": [1]}


def test_a_missing_table_is_unreadable_and_a_missing_server_is_tried_again(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadableError, match=r"nowhere on warehouse cannot be read: Undefined"):
        rows_of(source(connect, "nowhere"))
    with pytest.raises(SourceUnreachableError, match=r"there is no connection \(OperationalError\)") as caught:
        rows_of(source(lambda: psycopg.connect(host=str(tmp_path), password="hunter2"), "t"))
    assert caught.value.retryable
    assert "hunter2" not in str(caught.value)


def test_a_connection_that_is_lost_on_the_way_is_tried_again(connect: Connect, table: Any) -> None:
    name = table("n int, at date", "SELECT g, '2013-01-02'::date FROM generate_series(1, 200000) g")
    opened: list[Any] = []

    def noted() -> Any:
        opened.append(connect())
        return opened[-1]

    with source(noted, name).open(KEY) as arrival:
        next(arrival.batches)
        pid = opened[0].info.backend_pid
        run(connect, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(SourceUnreachableError, match="on warehouse does not answer"):
            list(arrival.batches)


@pytest.mark.parametrize("limits", [Limits(rows=1999), Limits(cells=3999), Limits(bytes=10_000)])
def test_limits_hold_while_rows_arrive(connect: Connect, table: Any, limits: Limits) -> None:
    name = table("n int, at date", "SELECT g, '2013-01-02'::date FROM generate_series(1, 2000) g")
    with pytest.raises(PartitionRefusedError, match="with warehouse it has at least"):
        rows_of(source(connect, name, limits=limits))


def test_the_origin_is_the_declaration_and_the_ticks(connect: Connect, table: Any) -> None:
    name = table("n int, at date", "VALUES (1, '2013-01-02')")
    with source(connect, name).open(KEY) as arrival:
        assert arrival.origin == {"table": name, "start": "2012-12-30T00:00:00", "end": KEY}


@pytest.fixture
def sqlite(tmp_path: Path) -> Connect:
    return lambda: sqlite3.connect(tmp_path / "rows.db")


def test_sqlite_knows_times_in_each_of_its_forms(sqlite: Connect) -> None:
    run(sqlite, "CREATE TABLE t (id INTEGER, at)")
    for number, at in enumerate(
        ["2012-12-29", "2012-12-30", "2013-01-05T23:59:59", "2013-01-05 23:59:59.999", "2013-01-06 00:00:00"]
    ):
        run(sqlite, f"INSERT INTO t VALUES ({number}, '{at}')")
    assert rows_of(source(sqlite, "t")).column("id").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("key", "start", "hours"),
    [
        ("2024-03-11T04:00:00", "2024-03-10T05:00:00", 23),
        ("2024-11-04T05:00:00", "2024-11-03T04:00:00", 25),
        ("2024-11-05T05:00:00", "2024-11-04T05:00:00", 24),
    ],
)
def test_the_ticks_of_a_local_day_are_bound_in_utc(sqlite: Connect, key: str, start: str, hours: int) -> None:
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(key)
    run(sqlite, "CREATE TABLE days (id TEXT, at TEXT)")
    for hour in range(-2, 28):
        run(sqlite, f"INSERT INTO days VALUES ('{hour}', '{(first + timedelta(hours=hour)).isoformat(' ')}')")
    of_table = {"table": "days"}
    of_query = {"query": "SELECT id, at FROM days WHERE at >= :start AND at < :end"}
    for options in (of_table, of_query):
        rows = SqlRows(sqlite, name="w", every="@daily", timezone="America/New_York", time="at", **options)
        with rows.open(key) as arrival:
            assert (arrival.origin["start"], arrival.origin["end"]) == (start, key)
            ids = pa.Table.from_batches(arrival.batches, schema=arrival.schema)["id"].to_pylist()
        assert ids == [str(hour) for hour in range(hours)]
    assert (last - first) == timedelta(hours=hours)


def test_sqlite_takes_no_missing_column_for_a_text(sqlite: Connect) -> None:
    run(sqlite, "CREATE TABLE t (id INTEGER, other TEXT)")
    with pytest.raises(SourceUnreadableError, match="no such column: at"):
        rows_of(source(sqlite, "t"))


def test_a_column_of_mixed_types_is_refused_by_name(sqlite: Connect) -> None:
    run(sqlite, "CREATE TABLE t (x, at TEXT)")
    run(sqlite, "INSERT INTO t VALUES (1, '2013-01-02'), ('1', '2013-01-02')")
    with pytest.raises(SourceUnreadableError, match="column 'x' mixes values of the types int64 and string"):
        rows_of(source(sqlite, "t"))
    run(sqlite, "DELETE FROM t")
    with closing(sqlite()) as connection:
        rows = [(None, "2013-01-02")] * 1500 + [(1.5, "2013-01-02")]
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        connection.commit()
    with pytest.raises(SourceUnreadableError, match="column 'x' is null in all the first rows and double later"):
        rows_of(source(sqlite, "t"))
    run(sqlite, "UPDATE t SET x = 1 WHERE rowid <= 1000")
    with pytest.raises(SourceUnreadableError, match="column 'x' holds int64 in the first rows and double later"):
        rows_of(source(sqlite, "t"))


def fill_late(sqlite: Connect, columns: str, value: Any, *, empty: int = 1500) -> None:
    run(sqlite, f"CREATE TABLE t ({columns}, at TEXT)")
    with closing(sqlite()) as connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(None, "2013-01-02")] * empty + [(value, "2013-01-02")])
        connection.commit()


@pytest.mark.parametrize(
    ("declared", "value", "kind"),
    [
        (pa.float64(), 1.5, pa.float64()),
        (pa.int64(), 7, pa.int64()),
        (pa.string(), "a", pa.string()),
        (pa.timestamp("us", tz="UTC"), "2013-01-02 00:00:00+00:00", pa.string()),
        (pa.date32(), "2013-01-02", pa.string()),
    ],
)
def test_a_column_that_begins_with_nulls_has_the_type_of_the_contract(
    sqlite: Connect, declared: pa.DataType, value: Any, kind: pa.DataType
) -> None:
    fill_late(sqlite, "x", value)
    query = "SELECT x FROM t WHERE at >= :start AND at < :end ORDER BY x NULLS FIRST"
    for how in ({"table": "t"}, {"query": query}):
        rows = rows_of(source(sqlite, types={"x": declared}, **how))
        assert rows.schema.field("x").type == kind
        assert rows.column("x").to_pylist() == [None] * 1500 + [value]


@pytest.mark.parametrize(("declared", "value"), [("REAL", 1.5), ("BIGINT", 7), ("VARCHAR(9)", "a"), ("DATETIME", "x")])
def test_a_column_that_begins_with_nulls_has_the_type_of_its_table(sqlite: Connect, declared: str, value: Any) -> None:
    fill_late(sqlite, f"x {declared}", value)
    assert rows_of(source(sqlite, "t")).column("x").to_pylist() == [None] * 1500 + [value]


def test_a_value_of_another_type_than_the_contract_is_still_refused(sqlite: Connect) -> None:
    fill_late(sqlite, "x", "a")
    with pytest.raises(SourceUnreadableError, match="column 'x' is double by the contract or the table, and string"):
        rows_of(source(sqlite, "t", types={"x": pa.float64()}))


def test_decimals_have_the_places_of_the_contract_where_the_database_states_none(connect: Connect, table: Any) -> None:
    name = table("n numeric, at date", "SELECT 1.5, '2013-01-02'::date FROM generate_series(1, 2000)")
    run(connect, f"INSERT INTO {name} VALUES (1.2345, '2013-01-02'), (NULL, '2013-01-02')")
    rows = rows_of(source(connect, name, types={"n": pa.decimal128(9, 4)}))
    assert rows.schema.field("n").type == pa.decimal128(9, 4)
    assert sum(value or 0 for value in rows.column("n").to_pylist()) == 3000 + Decimal("1.2345")


def test_a_type_of_a_users_own_that_begins_with_nulls_is_text_by_the_contract(connect: Connect, table: Any) -> None:
    mood = f"mood{uuid.uuid4().hex}"
    run(connect, f"CREATE TYPE {mood} AS ENUM ('good', 'bad')")
    name = table(f"x {mood}, at date", "SELECT NULL, '2013-01-02'::date FROM generate_series(1, 1500)")
    run(connect, f"INSERT INTO {name} VALUES ('good', '2013-01-02')")
    assert rows_of(source(connect, name, types={"x": pa.string()})).column("x").to_pylist()[-1] == "good"


def test_a_function_that_sends_is_refused_before_the_database_sees_it(connect: Connect) -> None:
    query = "SELECT pg_notify('a', 'b') FROM t WHERE at >= :start AND at < :end"
    with pytest.raises(DeclarationError, match="only reads, and it holds a call of pg_notify"):
        rows_of(source(connect, query=query))


def test_sqlite_is_only_read(sqlite: Connect) -> None:
    run(sqlite, "CREATE TABLE t (x INTEGER, at TEXT)")
    query = "WITH a AS (SELECT 1) INSERT INTO t SELECT :start, :end"
    with pytest.raises(DeclarationError, match="only reads, and it holds INSERT"):
        rows_of(source(sqlite, query=query))
    with closing(sqlite()) as connection:
        cursor = open_reading_cursor(connection, "sqlite3", named=False)
        with pytest.raises(sqlite3.OperationalError, match="readonly database"):
            cursor.execute("INSERT INTO t VALUES (1, '2013-01-02')")


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 row of {} has no time and belongs"), (1200, "1,200 rows of {} have")]
)
def test_rows_without_a_time_are_counted_and_told_wherever_there_are_any(
    connect: Connect, table: Any, count: int, words: str
) -> None:
    name = table("id int, at timestamp", "VALUES (1, '2013-01-02')")
    with source(connect, name).open(KEY) as arrival:
        assert arrival.warnings == ()
    run(connect, f"INSERT INTO {name} SELECT g, NULL FROM generate_series(1, {count}) g")
    with source(connect, name).open(KEY) as arrival:
        assert sum(batch.num_rows for batch in arrival.batches) == 1
        assert arrival.origin["without_time"] == count
        assert arrival.warnings[0].startswith(words.format(name))
        assert arrival.warnings[0].endswith("to no partition")
    with pytest.raises(SourceMissingError, match=f"yet; {count:,} row"):
        rows_of(source(connect, name), "2013-03-03T00:00:00")


def test_a_query_says_itself_which_rows_belong_to_a_partition(connect: Connect, table: Any) -> None:
    name = table("id int, at timestamp", "VALUES (1, '2013-01-02'), (2, NULL)")
    query = f"SELECT * FROM {name} WHERE at >= :start AND at < :end OR at IS NULL"
    with source(connect, query=query).open(KEY) as arrival:
        assert arrival.warnings == ()
        assert sum(batch.num_rows for batch in arrival.batches) == 2


def test_sqlite_counts_a_text_that_is_no_time_among_the_rows_without_one(sqlite: Connect) -> None:
    run(sqlite, "CREATE TABLE t (id INTEGER, at TEXT)")
    run(sqlite, "INSERT INTO t VALUES (1, '2013-01-02'), (2, NULL), (3, '06.01.2013')")
    with source(sqlite, "t").open(KEY) as arrival:
        assert arrival.origin["without_time"] == 2
