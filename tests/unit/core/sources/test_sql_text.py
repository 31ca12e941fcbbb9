"""A query is one SELECT whose syntax tree holds nothing that writes, in the dialect of its driver."""

from __future__ import annotations

import pytest

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.sources.sql_text import bind_values, quote_name, require_select

POSTGRES, SQLITE, SNOWFLAKE, MYSQL, SQL_SERVER = "psycopg", "sqlite3", "snowflake.connector", "pymysql", "pymssql"


@pytest.mark.parametrize(
    ("driver", "query"),
    [
        (POSTGRES, "SELECT 1"),
        (POSTGRES, "(SELECT 1) UNION (SELECT 2) ORDER BY 1"),
        (POSTGRES, "WITH a AS MATERIALIZED (SELECT 1) SELECT * FROM a"),
        (POSTGRES, "WITH a AS (VALUES (1)) SELECT * FROM a"),
        (POSTGRES, "WITH RECURSIVE a(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM a WHERE n < 9) SELECT * FROM a"),
        (POSTGRES, "SELECT a::date, b->>'x', c #>> '{a}', d ? 'x' FROM t, LATERAL unnest(x) AS y"),
        (POSTGRES, "SELECT DISTINCT ON (a) b, count(*) FILTER (WHERE x) FROM t GROUP BY GROUPING SETS ((a, b), ())"),
        (POSTGRES, r"""SELECT E'\'; DELETE FROM t', $$; DELETE FROM t$$, '; DELETE', "delete" FROM t"""),
        (POSTGRES, "/* DELETE FROM t; /* nested */ */ SELECT 1 -- ; DELETE FROM t"),
        (POSTGRES, "SELECT 1; -- the end"),
        (SQLITE, "SELECT [a b], datetime(\"at\") FROM `t` WHERE x GLOB 'a*' AND y NOT NULL"),
        (SQLITE, "SELECT name FROM pragma_table_info('t')"),
        (
            SNOWFLAKE,
            "SELECT src:a.b::int FROM t, LATERAL FLATTEN(input => src) f QUALIFY row_number() OVER (ORDER BY 1) = 1",
        ),
        (SNOWFLAKE, "SELECT * EXCLUDE a FROM t AT (TIMESTAMP => '2020-01-01'::timestamp)"),
        (MYSQL, r"SELECT '\'; DELETE FROM t -- '"),
        (SQL_SERVER, "SELECT TOP 3 a FROM t WITH (NOLOCK)"),
        ("some.driver", "SELECT a FROM t WHERE b = 1"),
        (POSTGRES, "SELECT pg_size_pretty(a), now(), my_dblink_count(b), 'dblink()' AS c, dblink FROM t"),
        (POSTGRES, "SELECT nextval('s')"),  # the read-only transaction stops it
        (SNOWFLAKE, "SELECT nextval FROM t"),
    ],
)
def test_a_select_that_only_reads_is_accepted_in_the_dialect_of_its_driver(driver: str, query: str) -> None:
    require_select(query, driver)


@pytest.mark.parametrize(
    ("driver", "query", "part"),
    [
        (POSTGRES, "DELETE FROM t", "DELETE"),
        (POSTGRES, "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone", "DELETE in a WITH"),
        (POSTGRES, "WITH a AS (UPDATE t SET x = 1 RETURNING *) SELECT * FROM a", "UPDATE in a WITH"),
        (POSTGRES, "WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a", "INSERT in a WITH"),
        (
            POSTGRES,
            "WITH a AS (MERGE INTO t USING s ON t.i = s.i WHEN MATCHED THEN DELETE RETURNING *) SELECT * FROM a",
            "MERGE in a WITH",
        ),
        (
            POSTGRES,
            "SELECT * FROM (WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a) AS b",
            "DELETE in a WITH",
        ),
        (POSTGRES, "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "INSERT"),
        (POSTGRES, "SELECT * INTO copy FROM t", "INTO"),
        (POSTGRES, "SELECT * INTO TEMP copy FROM t", "INTO"),
        (POSTGRES, "SELECT * FROM t FOR UPDATE", "FOR UPDATE or FOR SHARE"),
        (POSTGRES, "SELECT * FROM (SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED) AS a", "FOR UPDATE or FOR SHARE"),
        (POSTGRES, "CALL f()", "CALL"),
        (POSTGRES, "COPY (SELECT 1) TO PROGRAM 'x'", "COPY"),
        (POSTGRES, "DO $$ BEGIN DELETE FROM t; END $$", "DO"),
        (POSTGRES, "EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN"),
        (POSTGRES, "TRUNCATE t", "TRUNCATE"),
        (POSTGRES, "CREATE TABLE x AS SELECT 1", "CREATE"),
        (POSTGRES, "SET default_transaction_read_only = off", "SET"),
        (POSTGRES, "/* SELECT */ DELETE FROM t", "DELETE"),
        (POSTGRES, "-- SELECT 1\nDELETE FROM t", "DELETE"),
        (POSTGRES, "x", "no SELECT"),
        (POSTGRES, "  ", "no SELECT"),
        (SQLITE, "PRAGMA query_only = OFF", "PRAGMA"),
        (SQLITE, "REPLACE INTO t VALUES (1)", "REPLACE"),
        (SQLITE, "INSERT OR REPLACE INTO t VALUES (1)", "INSERT"),
        (SQLITE, "ATTACH 'x' AS y", "ATTACH"),
        (SQLITE, "VACUUM INTO 'x'", "VACUUM"),
        (SNOWFLAKE, "COPY INTO t FROM @stage", "COPY"),
        (SNOWFLAKE, "CALL p()", "CALL"),
        (SNOWFLAKE, "INSERT ALL INTO t VALUES (1) SELECT 1", "MULTITABLEINSERTS"),
        (SNOWFLAKE, "EXECUTE IMMEDIATE 'DELETE FROM t'", "EXECUTE"),
        (SNOWFLAKE, "PUT 'x' @stage", "PUT"),
        (SNOWFLAKE, "REMOVE @stage", "REMOVE"),
        (MYSQL, "SELECT 1 /*! INTO OUTFILE 'x' */", "a comment that MySQL executes"),
        (MYSQL, "SELECT a INTO @x FROM t", "INTO"),
        (MYSQL, "SELECT * FROM t LOCK IN SHARE MODE", "FOR UPDATE or FOR SHARE"),
        (SQL_SERVER, "SELECT * INTO #t FROM x", "INTO"),
        (SQL_SERVER, "select 1 delete from t", "an alias DELETE"),
        (SQL_SERVER, "EXEC p", "EXECUTE"),
        ("some.driver", "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", "DELETE in a WITH"),
        (POSTGRES, "SELECT * FROM dblink('host=b', 'DELETE FROM t RETURNING 1') AS t(a int)", "a call of dblink"),
        (POSTGRES, "SELECT a FROM t WHERE dblink_exec('host=b', 'DELETE FROM t') = ''", "a call of dblink_exec"),
        (POSTGRES, "SELECT a FROM (SELECT pg_catalog.pg_notify('a', b) AS a FROM t) AS s", "a call of pg_notify"),
        (POSTGRES, """SELECT "pg_terminate_backend"(1)""", "a call of pg_terminate_backend"),
        (POSTGRES, "SELECT LO_EXPORT(1, '/tmp/x')", "a call of LO_EXPORT"),
        (POSTGRES, "SELECT set_config('transaction_read_only', 'off', false)", "a call of set_config"),
        (POSTGRES, "SELECT pg_try_advisory_lock(1)", "a call of pg_try_advisory_lock"),
        (SQLITE, "SELECT load_extension('x')", "a call of load_extension"),
        (MYSQL, "SELECT get_lock('a', 1)", "a call of get_lock"),
        (MYSQL, "SELECT nextval(s)", "a call of nextval"),
        (SNOWFLAKE, "SELECT s.nextval", "s.nextval"),
        (SNOWFLAKE, "SELECT system$cancel_query('x')", "a call of system$cancel_query"),
        ("oracledb", "SELECT dbms_lock.request(1) FROM dual", "a call of dbms_lock.request"),
        (SQL_SERVER, "SELECT * FROM openquery(b, 'DELETE FROM t')", "a call of openquery"),
        (SQL_SERVER, "SELECT NEXT VALUE FOR s", "NEXT VALUE FOR"),
    ],
)
@pytest.mark.bad_input("refused")
def test_a_statement_that_can_write_or_lock_is_refused_by_its_syntax_tree(driver: str, query: str, part: str) -> None:
    with pytest.raises(DeclarationError) as refusal:
        require_select(query, driver)
    assert f"the query must be one SELECT that only reads, and it holds {part}" in str(refusal.value)


@pytest.mark.parametrize(
    ("driver", "query"),
    [
        (POSTGRES, "SELECT 1; DELETE FROM t"),
        (POSTGRES, "SELECT 1; SELECT 2"),
        (SQLITE, "SELECT 1; PRAGMA query_only = OFF"),
        (SNOWFLAKE, "SELECT 1;; DELETE FROM t;"),
    ],
)
def test_a_second_statement_is_refused(driver: str, query: str) -> None:
    with pytest.raises(DeclarationError, match="the query holds more than one statement"):
        require_select(query, driver)


@pytest.mark.parametrize(
    ("driver", "query"),
    [
        (POSTGRES, "SELEC 1"),
        (POSTGRES, "SELECT " + "(" * 5000 + "1" + ")" * 5000),
        (SQLITE, "WITH a AS (SELECT 1) REPLACE INTO t SELECT 1"),
        (MYSQL, "SELECT * FROM t INTO OUTFILE '/x'"),
        (SNOWFLAKE, "WITH p AS PROCEDURE () RETURNS INT LANGUAGE SQL AS $$ DELETE $$ CALL p()"),
    ],
)
def test_a_query_that_cannot_be_parsed_is_refused(driver: str, query: str) -> None:
    with pytest.raises(DeclarationError, match="the query must be one SELECT, and it cannot be parsed: "):
        require_select(query, driver)


def test_a_query_with_binds_is_checked_before_any_value_is_bound() -> None:
    query = "WITH a AS (DELETE FROM t WHERE at < :end RETURNING *) SELECT * FROM a"
    with pytest.raises(DeclarationError, match="DELETE in a WITH"):
        bind_values(query, {"end": 1}, paramstyle="pyformat", driver=POSTGRES)


@pytest.mark.parametrize(
    ("paramstyle", "text", "values"),
    [
        ("qmark", "SELECT ':a', 5 % 2 FROM t WHERE x > ? AND y::date < ? AND z = ?", (1, 2, 1)),
        ("numeric", "SELECT ':a', 5 % 2 FROM t WHERE x > :1 AND y::date < :2 AND z = :3", (1, 2, 1)),
        ("named", "SELECT ':a', 5 % 2 FROM t WHERE x > :a AND y::date < :b AND z = :a", {"a": 1, "b": 2}),
        ("format", "SELECT ':a', 5 %% 2 FROM t WHERE x > %s AND y::date < %s AND z = %s", (1, 2, 1)),
        ("pyformat", "SELECT ':a', 5 %% 2 FROM t WHERE x > %(a)s AND y::date < %(b)s AND z = %(a)s", {"a": 1, "b": 2}),
    ],
)
def test_values_are_bound_in_the_paramstyle_of_the_driver(paramstyle: str, text: str, values: object) -> None:
    query = " SELECT ':a', 5 % 2 FROM t WHERE x > :a AND y::date < :b AND z = :a; "
    assert bind_values(query, {"a": 1, "b": 2}, paramstyle=paramstyle, driver=POSTGRES) == (text, values)


def test_a_name_is_quoted_part_by_part_and_never_holds_a_quote() -> None:
    assert quote_name("shop.orders", quote="`") == "`shop`.`orders`"
    with pytest.raises(DeclarationError, match="cannot be a name in a query"):
        quote_name('t"; DROP TABLE x; --', quote='"')


@pytest.mark.parametrize(
    ("kept", "driver"),
    [
        (r"'it\'s :start'", MYSQL),
        ("'two '' :start'", MYSQL),
        (r'"say \" :start"', MYSQL),
        ("/* :start */ 1", MYSQL),
        ("# :start'\n 1", MYSQL),
        ("-- :start'\n 1", MYSQL),
        (r"'a backslash \' || 'and :start'", POSTGRES),
    ],
)
def test_no_bind_is_seen_in_the_strings_and_comments_of_a_dialect(kept: str, driver: str) -> None:
    query = f"SELECT {kept}, :end"
    statement, values = bind_values(query, {"start": 1, "end": 2}, paramstyle="pyformat", driver=driver)
    assert statement == f"SELECT {kept}, %(end)s"
    assert values == {"start": 1, "end": 2}


def test_two_minus_signs_of_mysql_are_a_comment_before_a_blank_alone() -> None:
    statement, _ = bind_values("SELECT 5--:end", {"end": 2}, paramstyle="pyformat", driver=MYSQL)
    assert statement == "SELECT 5--%(end)s"


@pytest.mark.parametrize(("driver", "percent"), [(MYSQL, "%%"), ("MySQLdb", "%%"), ("mysql.connector", "%")])
def test_a_percent_sign_is_doubled_for_drivers_that_halve_it(driver: str, percent: str) -> None:
    statement, _ = bind_values("SELECT 5 % 2, ':end', :end", {"end": 2}, paramstyle="pyformat", driver=driver)
    assert statement == f"SELECT 5 {percent} 2, ':end', %(end)s"
