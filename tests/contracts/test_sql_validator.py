"""The same suite asked of a database: on SQLite and on a real PostgreSQL the counts are those of the frame."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.validation.gx_sql_validator import GxSqlValidator
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.suite import Expectation

TABLE = 'Odd "Name'
COLUMNS = {"id": ["a", "b", "b", None], "Order Total": [1.0, -5.0, None, 50.0], "from": [1.0, -5.0, 3.0, 2.0]}


def expect(name: str, **kwargs: object) -> Expectation:
    return Expectation(type=f"expect_{name}", kwargs=kwargs)


SUITE = [
    expect("column_values_to_not_be_null", column="id"),
    expect("column_values_to_be_unique", column="id"),
    expect("column_values_to_be_between", column="Order Total", min_value=0, max_value=10),
    expect("column_values_to_be_between", column="from", min_value=-10),
    expect("column_mean_to_be_between", column="from", min_value=100),
    expect("table_row_count_to_equal", value=4),
    expect("column_pair_values_to_be_equal", column_A="Order Total", column_B="from"),
    expect("compound_columns_to_be_unique", column_list=["id", "from"]),
    expect("column_values_to_be_in_set", column="id", value_set=["a", 'b\'; drop table "x"; --']),
]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of a database that holds the table."""
    url = f"sqlite:///{tmp_path / 'x.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = sa.create_engine(url)
    types = {"id": sa.Text, "Order Total": sa.Float, "from": sa.Float}
    table = sa.Table(TABLE, sa.MetaData(), *(sa.Column(name, kind) for name, kind in types.items()))
    with engine.begin() as connection:
        table.drop(connection, checkfirst=True)
        table.create(connection)
        connection.execute(
            table.insert(), [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
        )
    engine.dispose()
    return str(url)


def test_the_database_counts_what_the_frame_counts_and_names_no_row(database: str) -> None:
    results = GxSqlValidator(database, table=TABLE).check(SUITE)
    framed = GxValidator().check(pa.table(COLUMNS), SUITE)
    assert [result.type for result in results] == [expectation.type for expectation in SUITE]
    assert [result.success for result in results] == [result.success for result in framed]
    assert [result.unexpected for result in results] == [result.unexpected for result in framed]
    assert sum(not result.success for result in results) == 6
    assert all(result.rows == () and not result.by_row for result in results)


def test_a_query_is_asked_as_it_stands_with_its_colons_and_percents(database: str) -> None:
    query = """SELECT * FROM "Odd ""Name" WHERE id IS NOT NULL AND id <> '12:30' AND id NOT LIKE 'z%';"""
    (counted,) = GxSqlValidator(database, query=query).check([expect("table_row_count_to_equal", value=3)])
    assert counted.success
    (with_,) = GxSqlValidator(database, query=f"WITH kept AS ({query[:-1]}) SELECT id FROM kept").check(
        [expect("table_column_count_to_equal", value=1)]
    )
    assert with_.success


def test_what_cannot_be_read_or_evaluated_is_told_from_failed_data(database: str) -> None:
    with pytest.raises(SourceUnreadableError, match="no_such_table cannot be read"):
        GxSqlValidator(database, table="no_such_table").check(SUITE)
    with pytest.raises(SourceUnreadableError, match="cannot be read"):
        GxSqlValidator(database, table=f'{TABLE}"; DROP TABLE "{TABLE}').check(SUITE)
    with pytest.raises(PartitionRefusedError, match="could not be evaluated on nothing"):
        GxSqlValidator(database, table=TABLE).check([*SUITE, expect("column_values_to_not_be_null", column="nothing")])
    assert GxSqlValidator(database, table=TABLE).check(SUITE[5:6])[0].success


def test_a_schema_is_a_name_of_its_own(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql('CREATE SCHEMA IF NOT EXISTS "My Shop"')
        connection.exec_driver_sql('CREATE TABLE IF NOT EXISTS "My Shop"."Orders" AS SELECT 1 AS n')
    engine.dispose()
    (counted,) = GxSqlValidator(postgres_url, table="Orders", schema="My Shop").check(
        [expect("table_row_count_to_equal", value=1)]
    )
    assert counted.success


def test_a_password_stands_in_no_message_and_a_dollar_in_it_is_no_variable() -> None:
    url = sa.URL.create(
        "postgresql+psycopg", username="u", password="se$cret{HOME}", host="127.0.0.1", port=1, database="d"
    )
    with pytest.raises(ConnectionError, match="the database cannot be reached") as refused:
        GxSqlValidator(url, table="t").check(SUITE)
    assert "se$cret" not in str(refused.value)
    assert "refused" in str(refused.value)


def test_a_validator_needs_one_table_or_one_select() -> None:
    for wrong in ({}, {"table": "t", "query": "select 1"}, {"query": "DROP TABLE t"}, {"query": "select :x"}):
        with pytest.raises(DeclarationError, match=r"exactly one|one SELECT|':x'"):
            GxSqlValidator("sqlite://", **wrong)
