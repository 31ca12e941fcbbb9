"""Rows of MariaDB through PyMySQL: types, one state of the database, a session that only reads, times."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymysql
import pytest

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import (
    DeclarationError,
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.ports.partitions import BATCH_ROWS
from airflow_mlops.core.sources.sql_source import SqlRows
from airflow_mlops.hooks.connections import AirflowConnections
from airflow_mlops.testing.free_ports import free_port
from tests.bad_input.world import BAD, HISTORY, World, good_rows
from tests.contracts.mariadb_server import running_mariadb
from tests.contracts.test_sql_source import rows_of, run, source

KEY = "2013-01-06T00:00:00"
Connect = Callable[[], Any]
Make = Callable[..., str]


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with running_mariadb(tmp_path_factory.mktemp("mariadb")) as arguments:
        yield arguments


@pytest.fixture
def connect(access: dict[str, Any]) -> Connect:
    return lambda: pymysql.connect(**access)


@pytest.fixture
def table(connect: Connect) -> Make:
    def make(columns: str, values: str = "") -> str:
        name = f"t{uuid.uuid4().hex}"
        run(connect, f"CREATE TABLE {name} ({columns})")
        if values:
            run(connect, f"INSERT INTO {name} {values}")
        return name

    return make


def scalar(connect: Connect, statement: str) -> Any:
    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def test_every_type_arrives_as_it_is(connect: Connect, table: Make) -> None:
    name = table(
        "i int, b bigint unsigned, f double, n decimal(10,2), u decimal(10,2) unsigned, s text, c varchar(3), "
        "o boolean, d date, at datetime(6), z timestamp(6) null, y blob, j json, e enum('a','b'), m year, w time",
        "VALUES (-1, 9223372036854775807, 1.5, 1.10, 99999999.99, 'x''y ☃', 'abc', true, '2013-01-02', "
        "'2013-01-02 03:04:05.678901', NULL, x'00ff', '{\"a\": 1}', 'b', 2013, '25:00:00')",
    )
    run(connect, f"UPDATE {name} SET z = '2013-01-02 03:04:05'")
    rows = rows_of(source(connect, name))
    assert rows.schema == pa.schema(
        {
            "i": pa.int64(),
            "b": pa.int64(),
            "f": pa.float64(),
            "n": pa.decimal128(11, 2),
            "u": pa.decimal128(10, 2),
            "s": pa.string(),
            "c": pa.string(),
            "o": pa.int64(),
            "d": pa.date32(),
            "at": pa.timestamp("us"),
            "z": pa.timestamp("us", tz="UTC"),
            "y": pa.binary(),
            "j": pa.string(),
            "e": pa.string(),
            "m": pa.int64(),
            "w": pa.duration("us"),
        }
    )
    assert rows.to_pylist() == [
        {
            "i": -1,
            "b": 9223372036854775807,
            "f": 1.5,
            "n": Decimal("1.10"),
            "u": Decimal("99999999.99"),
            "s": "x'y ☃",
            "c": "abc",
            "o": 1,
            "d": date(2013, 1, 2),
            "at": datetime.fromisoformat("2013-01-02T03:04:05.678901"),
            # The clock of this server is thirteen hours ahead.
            "z": datetime(2013, 1, 1, 14, 4, 5, tzinfo=UTC),
            "y": b"\x00\xff",
            "j": '{"a": 1}',
            "e": "b",
            "m": 2013,
            "w": timedelta(hours=25),
        }
    ]


def test_the_contract_decides_on_truth_values_and_on_the_digits_of_decimals(connect: Connect, table: Make) -> None:
    name = table(
        "o tinyint(1), b bit(1), n decimal(10,2), at date",
        "VALUES (1, b'0', 1.10, '2013-01-02'), (0, b'1', -99999999.99, '2013-01-02'), (NULL, NULL, NULL, '2013-01-02')",
    )
    types = {"o": pa.bool_(), "b": pa.bool_(), "n": pa.decimal128(10, 2)}
    rows = rows_of(source(connect, name, types=types)).drop_columns("at")
    assert rows.schema == pa.schema(types)
    assert rows.to_pydict() == {
        "o": [True, False, None],
        "b": [False, True, None],
        "n": [Decimal("1.10"), Decimal("-99999999.99"), None],
    }
    run(connect, f"UPDATE {name} SET o = 2 WHERE o = 1")
    with pytest.raises(SourceUnreadableError, match="column 'o' holds bool in the first rows and int64 later"):
        rows_of(source(connect, name, types=types))


def test_a_number_beyond_64_bits_is_refused_by_the_name_of_its_column(connect: Connect, table: Make) -> None:
    name = table("b bigint unsigned, at date", "VALUES (18446744073709551615, '2013-01-02')")
    with pytest.raises(SourceUnreadableError, match="column 'b' is no int64"):
        rows_of(source(connect, name))
    query = f"SELECT CAST(b AS CHAR) AS b FROM {name} WHERE at >= :start AND at < :end"
    assert rows_of(source(connect, query=query)).to_pydict() == {"b": ["18446744073709551615"]}


def test_a_date_of_zeros_is_refused_by_the_name_of_its_column(connect: Connect, table: Make) -> None:
    name = table("id int, seen datetime, at date", "VALUES (1, '2013-01-02', '2013-01-02')")
    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(f"INSERT INTO {name} VALUES (2, '0000-00-00', '2013-01-02')")
        connection.commit()
    with pytest.raises(SourceUnreadableError, match="column 'seen' holds timestamp"):
        rows_of(source(connect, name))


@pytest.mark.parametrize(
    ("column", "contract", "kind"),
    [
        (("int", "7"), None, pa.int64()),
        (("double", "1.5"), None, pa.float64()),
        (("decimal(10,2)", "1.10"), None, pa.decimal128(11, 2)),
        (("decimal(10,2)", "1.10"), pa.decimal128(10, 2), pa.decimal128(10, 2)),
        (("datetime", "'2013-01-02 03:04:05'"), None, pa.timestamp("us")),
        (("timestamp null", "'2013-01-02 03:04:05'"), None, pa.timestamp("us", tz="UTC")),
        (("date", "'2013-01-02'"), None, pa.date32()),
        (("tinyint(1)", "true"), pa.bool_(), pa.bool_()),
        (("text", "'a'"), pa.string(), pa.string()),
    ],
)
def test_a_column_that_begins_with_nulls_has_the_type_of_the_database_or_the_contract(
    connect: Connect, table: Make, column: tuple[str, str], contract: pa.DataType | None, kind: pa.DataType
) -> None:
    declared, value = column
    types = {} if contract is None else {"x": contract}
    name = table(f"n int, x {declared}, at date", "SELECT seq, NULL, '2013-01-02' FROM seq_1_to_1500")
    run(connect, f"INSERT INTO {name} VALUES (1501, {value}, '2013-01-02')")
    query = f"SELECT n, x FROM {name} WHERE at >= :start AND at < :end ORDER BY n"
    for how in ({"table": name}, {"query": query}):
        values = rows_of(source(connect, types=types, **how)).column("x")
        assert values.type == kind
        assert (values.null_count, values[1500].is_valid) == (1500, True)


def test_a_text_that_begins_with_nulls_and_stands_nowhere_is_refused_by_its_name(connect: Connect, table: Make) -> None:
    name = table("x text, at date", "SELECT NULL, '2013-01-02' FROM seq_1_to_1500")
    run(connect, f"INSERT INTO {name} VALUES ('a', '2013-01-02')")
    with pytest.raises(SourceUnreadableError, match="column 'x' is null in all the first rows and string later"):
        rows_of(source(connect, name))


@pytest.mark.parametrize("kind", ["datetime", "timestamp null", "date"])
def test_a_partition_holds_what_lies_between_its_ticks_in_utc_whatever_the_zone_of_the_server(
    connect: Connect, table: Make, kind: str
) -> None:
    name = table(f"id varchar(10), at {kind}")
    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        for day in ("2012-12-29", "2012-12-30", "2013-01-05", "2013-01-06"):
            cursor.execute(f"INSERT INTO {name} VALUES (%s, %s)", (day, day))
        connection.commit()
    assert scalar(connect, "SELECT @@time_zone") == "+13:00"
    assert sorted(rows_of(source(connect, name)).column("id").to_pylist()) == ["2012-12-30", "2013-01-05"]
    with pytest.raises(SourceMissingError, match="no rows between 2013-02-24T00:00:00 and 2013-03-03T00:00:00 yet"):
        rows_of(source(connect, name), "2013-03-03T00:00:00")


def test_a_moment_is_in_the_local_day_of_its_loop(connect: Connect, table: Make) -> None:
    name = table("id int, at timestamp null")
    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        for number, at in enumerate(
            ["2024-03-10 04:59:59", "2024-03-10 05:00", "2024-03-11 03:59:59", "2024-03-11 04:00"]
        ):
            cursor.execute(f"INSERT INTO {name} VALUES (%s, %s)", (number, at))
        connection.commit()
    day = SqlRows(connect, name="w", every="@daily", timezone="America/New_York", time="at", table=name)
    assert sorted(rows_of(day, "2024-03-11T04:00:00").column("id").to_pylist()) == [1, 2]


def test_rows_come_one_by_one_in_one_read_only_transaction_of_one_state(connect: Connect, table: Make) -> None:
    name = table("n int, at date", "SELECT seq, '2013-01-02' FROM seq_1_to_200000")
    opened: list[Any] = []

    def noted() -> Any:
        opened.append(connect())
        return opened[-1]

    with source(noted, name).open(KEY) as arrival:
        sizes = [next(arrival.batches).num_rows]
        run(connect, f"INSERT INTO {name} VALUES (0, '2013-01-02')")
        sizes += [batch.num_rows for batch in arrival.batches]
        with opened[0].cursor() as cursor:
            # Still the same transaction: it sees nothing of the new row, and it takes none.
            cursor.execute(f"SELECT count(*) FROM {name}")
            assert cursor.fetchall() == ((200_000,),)
            cursor.execute("SELECT @@tx_isolation, @@tx_read_only, @@time_zone")
            assert cursor.fetchall() == (("REPEATABLE-READ", 1, "+00:00"),)
            with pytest.raises(pymysql.Error, match="READ ONLY transaction"):
                cursor.execute(f"INSERT INTO {name} VALUES (0, '2013-01-02')")
    assert sum(sizes) == 200_000
    assert max(sizes) <= BATCH_ROWS
    assert not opened[0].open


def test_a_query_that_is_given_up_is_stopped_on_the_server(connect: Connect, table: Make) -> None:
    name = table("n int, s varchar(1000), at date", "SELECT seq, repeat('x', 1000), '2013-01-02' FROM seq_1_to_20000")
    cross = f"SELECT a.s FROM {name} a CROSS JOIN {name} b WHERE a.at >= :start AND b.at < :end"
    opened: list[Any] = []

    def noted() -> Any:
        opened.append(connect())
        return opened[-1]

    # 400 million rows are left, which nobody would wait for.
    with source(noted, query=cross).open(KEY) as arrival:
        assert next(arrival.batches).num_rows == 1000
    assert not opened[0].open
    with pytest.raises(PartitionRefusedError, match="with warehouse it has at least"):
        rows_of(source(connect, query=cross, limits=Limits(rows=5000)))
    assert scalar(connect, "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT a.s %'") == 0


def test_a_write_is_refused_by_the_syntax_of_the_query(connect: Connect, table: Make) -> None:
    name = table("id int, at date", "VALUES (1, '2013-01-02')")
    for query in (
        f"DELETE FROM {name} WHERE at >= :start AND at < :end",
        f"SELECT * FROM {name} WHERE at >= :start AND at < :end INTO OUTFILE '/tmp/rows'",
        f"SELECT * FROM {name} WHERE at >= :start AND at < :end FOR UPDATE",
        "SELECT :start, :end /*! INTO OUTFILE '/tmp/rows' */",
        "SELECT :start, :end /*M! INTO OUTFILE '/tmp/rows' */",
        "SELECT get_lock('a', 1), :start, :end",
        "SELECT :start; SELECT :end",
    ):
        with pytest.raises(DeclarationError, match=r"the query (must be one SELECT|holds more than one)"):
            rows_of(source(connect, query=query))
    assert scalar(connect, f"SELECT count(*) FROM {name}") == 1


def test_a_function_that_writes_is_stopped_by_the_database_and_not_tried_again(connect: Connect, table: Make) -> None:
    name = table("id int, at date", "VALUES (1, '2013-01-02')")
    function = f"f{uuid.uuid4().hex}"
    run(
        connect,
        f"CREATE FUNCTION {function}() RETURNS int MODIFIES SQL DATA "
        f"BEGIN INSERT INTO {name} VALUES (2, '2013-01-02'); RETURN 1; END",
    )
    query = f"SELECT {function}() AS x FROM {name} WHERE at >= :start AND at < :end"
    with pytest.raises(SourceUnreadableError, match="READ ONLY transaction"):
        rows_of(source(connect, query=query))
    assert scalar(connect, f"SELECT count(*) FROM {name}") == 1


def test_a_query_binds_its_ticks_and_a_quote_in_the_data_changes_nothing(connect: Connect, table: Make) -> None:
    name = table("id text, at datetime", "VALUES ('o''hara; DROP TABLE x --', '2013-01-02'), ('b%s', '2013-01-03')")
    query = f"""
        -- not :bound, 100 % of it
        SELECT id, DATE(at) AS `day`, ':start' AS word, 5 % 2 AS odd FROM {name}
        WHERE at >= :start AND at < :end AND id LIKE '%%' /* :end */ ORDER BY at;
    """
    rows = rows_of(source(connect, query=query)).to_pylist()
    assert rows[0] == {"id": "o'hara; DROP TABLE x --", "day": date(2013, 1, 2), "word": ":start", "odd": 1}
    assert rows[1]["id"] == "b%s"


def test_strings_and_comments_are_those_of_mysql(connect: Connect, table: Make) -> None:
    name = table("id int, at date", "VALUES (1, '2013-01-02')")
    query = rf"""
        # not :bound
        SELECT 'it\'s :start' AS single, "say \":end\" :x" AS double_, 5 --1 AS six, '\\' AS slash, '100 %' AS share
        FROM {name} WHERE at >= :start AND at < :end -- nor :this
    """
    assert rows_of(source(connect, query=query)).to_pylist() == [
        {"single": "it's :start", "double_": 'say ":end" :x', "six": 6, "slash": "\\", "share": "100 %"}
    ]
    with pytest.raises(DeclarationError, match="opens ' and never closes it"):
        rows_of(source(connect, query=r"SELECT 'it\' WHERE at >= :start AND at < :end"))


def test_a_loop_publishes_the_rows_of_mariadb_under_its_contract(access: dict[str, Any], tmp_path: Path) -> None:
    world = World(tmp_path, "sql", table=f"t{uuid.uuid4().hex}")
    world.connect = lambda: pymysql.connect(**access, init_command="SET time_zone = '+00:00'")
    world.create(at="timestamp(6) null", paid="tinyint(1)")
    assert list(world.seed()) == HISTORY
    for key in HISTORY:
        published = world.reader.snapshots.read(key).sort_by("id")
        assert published.select(good_rows(key).column_names).equals(good_rows(key).sort_by("id"))
    world.put(BAD)
    world.run(f"UPDATE {world.table} SET x = NULL, paid = NULL, price = -0.01 WHERE id LIKE '{BAD[:10]}-1%'")
    assert world.ingest(BAD).rows == good_rows(BAD).num_rows


def test_its_rows_are_not_judged_in_the_database(connect: Connect, table: Make) -> None:
    rows = source(connect, table("at datetime, x int", "VALUES ('2013-01-02', 1)"))
    words = "engine: is sql, and the driver of the connection is pymysql: .* declare engine: local"
    with pytest.raises(DeclarationError, match=words), rows.open(KEY, before=lambda _: None):
        pass


def test_a_name_that_sql_knows_as_a_word_is_quoted(connect: Connect) -> None:
    run(connect, "CREATE OR REPLACE TABLE `order` AS SELECT 1 AS `group`, DATE '2013-01-02' AS `from`")
    rows = SqlRows(connect, name="w", every="@weekly", time="from", table="shop.order", columns=["group"])
    assert rows_of(rows).to_pydict() == {"group": [1]}


def test_a_missing_table_or_column_is_unreadable_and_a_missing_server_is_tried_again(
    connect: Connect, table: Make
) -> None:
    with pytest.raises(SourceUnreadableError, match=r"nowhere on warehouse cannot be read: ProgrammingError: .*exist"):
        rows_of(source(connect, "nowhere"))
    name = table("id int, other date", "VALUES (1, '2013-01-02')")
    with pytest.raises(SourceUnreadableError, match="Unknown column 'at'"):
        rows_of(source(connect, name))
    away = {"host": "127.0.0.1", "port": free_port(), "password": "hunter2"}
    with pytest.raises(SourceUnreachableError, match=r"there is no connection \(OperationalError\)") as caught:
        rows_of(source(lambda: pymysql.connect(**away), "t"))
    assert caught.value.retryable
    assert "hunter2" not in str(caught.value)


def test_a_connection_that_is_lost_on_the_way_is_tried_again(connect: Connect, table: Make) -> None:
    name = table("n int, s varchar(1000), at date", "SELECT seq, repeat('x', 1000), '2013-01-02' FROM seq_1_to_50000")
    opened: list[Any] = []

    def noted() -> Any:
        opened.append(connect())
        return opened[-1]

    with source(noted, name).open(KEY) as arrival:
        next(arrival.batches)
        run(connect, f"KILL {opened[0].thread_id()}")
        with pytest.raises(SourceUnreachableError, match="on warehouse does not answer"):
            list(arrival.batches)


def test_rows_without_a_time_are_counted(connect: Connect, table: Make) -> None:
    name = table("id int, at datetime", "VALUES (1, '2013-01-02'), (2, NULL)")
    with source(connect, name).open(KEY) as arrival:
        assert arrival.origin["without_time"] == 1
        assert arrival.warnings == (f"1 row of {name} has no time and belongs to no partition",)


def test_a_connection_of_type_mysql_needs_no_provider(
    connect: Connect, table: Make, access: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = table("s text, at date", "VALUES ('☃', '2013-01-02')")
    user = f"u{os.getpid()}"
    run(connect, f"CREATE OR REPLACE USER {user}@'127.0.0.1' IDENTIFIED BY 'hunter2'")
    run(connect, f"GRANT SELECT ON shop.* TO {user}@'127.0.0.1'")
    fields = {"host": access["host"], "port": access["port"], "login": user, "password": "hunter2", "schema": "shop"}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "mysql", **fields}))
    opening = AirflowConnections().sql("shop")
    assert rows_of(source(opening, name)).column("s").to_pylist() == ["☃"]
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "mysql", **fields, "password": "wrong"}))
    with pytest.raises(SourceUnreachableError, match=r"there is no connection \(OperationalError\)"):
        rows_of(source(AirflowConnections().sql("shop"), name))


def test_a_connection_of_type_mysql_without_a_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "mysql", "host": "db.example"}))
    monkeypatch.setattr("airflow_mlops.hooks.connections.find_spec", lambda name: None)
    with pytest.raises(DeclarationError, match=r"no installed provider has that type: install airflow-mlops\[mysql\]"):
        AirflowConnections().sql("shop")
