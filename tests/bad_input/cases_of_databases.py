"""Rows of a real PostgreSQL that are not as they should be, and declarations that could harm it."""

from __future__ import annotations

from typing import Any

from tests.bad_input.case import Case, Deliver, bad_declaration, published, quarantined, refused, statement
from tests.bad_input.world import BAD, World

HOSTILE = "Robert'); DROP TABLE orders; --"
ONE = "WHERE id = '2013-01-27-7'"


def change_back(text: str) -> Any:
    """Return a check that changes the table back, for the week that follows."""
    return lambda world: world.run(text.replace("{table}", world.table))


def source(**keys: Any) -> dict[str, Any]:
    """Return the declared source with other keys."""
    return {"source": {"kind": "sql", "conn_id": "warehouse", **keys}}


def hostile_value_is_kept(world: World) -> None:
    """Assert that a text which would be SQL is a text and nothing else."""
    assert HOSTILE in world.reader.snapshots.read(BAD)["kind"].to_pylist()


def deliver_good_week(world: World) -> None:
    """Deliver the good week."""
    world.put(BAD)


def sql(line: str, change: str, back: str, *words: str) -> Case:
    """Return a case of a table that is changed by a statement and refused, and is changed back."""
    return refused(line, *words, deliver=statement(change), source="sql", check=change_back(back))


def wrong(line: str, *words: str, **keys: Any) -> Case:
    """Return a case of a declared source that is refused before the database is asked."""
    return bad_declaration(line, *words, deliver=deliver_good_week, source="sql", data=source(**keys))


DELIVER: Deliver = deliver_good_week
DATABASES: list[Case] = [
    Case(
        "no rows of the partition yet",
        "not ready",
        ("no rows between 2013-01-20T00:00:00 and 2013-01-27T00:00:00 yet",),
        lambda _world: None,
        source="sql",
    ),
    published(
        "a quote and a statement in a value",
        deliver=statement(f"UPDATE {{table}} SET kind = '{HOSTILE.replace(chr(39), chr(39) * 2)}' {ONE}"),
        source="sql",
        check=hostile_value_is_kept,
    ),
    quarantined(
        "NaN in a column of double precision",
        "x: nan is not finite",
        deliver=statement(f"UPDATE {{table}} SET x = 'NaN' {ONE}"),
        source="sql",
    ),
    quarantined(
        "a row of the table without a key",
        "id: is null",
        deliver=statement(f"UPDATE {{table}} SET id = NULL {ONE}"),
        source="sql",
    ),
    quarantined(
        "two rows of the table with one key",
        "stands there 2 times with different values",
        deliver=statement("UPDATE {table} SET id = 'twice' WHERE id IN ('2013-01-27-7', '2013-01-27-8')"),
        source="sql",
        bad=2,
    ),
    sql(
        "numeric where the contract says float",
        "ALTER TABLE {table} ALTER x TYPE numeric(12, 6)",
        "ALTER TABLE {table} ALTER x TYPE double precision",
        "column 'x' has the type decimal128(12, 6); the contract says float",
    ),
    sql(
        "numbers kept as text",
        "ALTER TABLE {table} ALTER n TYPE text",
        "ALTER TABLE {table} ALTER n TYPE bigint USING n::bigint",
        "column 'n' has the type string; the contract says int",
    ),
    sql(
        "values of several types in one column",
        "ALTER TABLE {table} ALTER kind TYPE jsonb USING CASE kind WHEN 'a' THEN to_jsonb(1) ELSE to_jsonb(kind) END",
        "ALTER TABLE {table} ALTER kind TYPE text USING kind #>> '{}'",
        "column 'kind' mixes values of the types int64 and string",
    ),
    sql(
        "a date that is infinite",
        f"UPDATE {{table}} SET day = 'infinity' {ONE}",
        f"UPDATE {{table}} SET day = NULL {ONE}",
        "cannot be read",
        "date too large (after year 10K): 'infinity'",
    ),
    sql(
        "NaN in a column of numeric",
        f"UPDATE {{table}} SET price = 'NaN' {ONE}",
        f"UPDATE {{table}} SET price = NULL {ONE}",
        "column 'price' is no decimal128(9, 2)",
    ),
    sql(
        "a table that is gone",
        "ALTER TABLE {table} RENAME TO {table}_gone",
        "ALTER TABLE {table}_gone RENAME TO {table}",
        "cannot be read",
        "does not exist",
    ),
    sql(
        "a column with markup in its name",
        'ALTER TABLE {table} ADD COLUMN "<b>x" int',
        'ALTER TABLE {table} DROP COLUMN "<b>x"',
        "column '<b>x' has a name that is refused",
    ),
    wrong(
        "SQL in the name of a table",
        "loop.yaml",
        "data.source.table",
        "should match pattern",
        table='orders"; DROP TABLE orders; --',
    ),
    wrong(
        "a query of two statements",
        "data.source.query",
        "the query holds more than one statement",
        query="SELECT * FROM orders WHERE at >= :start AND at < :end; DROP TABLE orders",
    ),
    wrong(
        "a query that changes something",
        "data.source.query",
        "the query must be one SELECT",
        query="DELETE FROM orders WHERE at >= :start AND at < :end",
    ),
    wrong(
        "a query without the ticks of the partition", "query must bind :start and :end", query="SELECT * FROM orders"
    ),
]
