"""A profile that a database counts is, bin for bin, the one that is counted of the same rows here."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlalchemy as sa

from airflow_mlops.core.data.profiles.observe_rows import ObservedRows, RowObserver
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, profile_bins
from airflow_mlops.core.data.profiles.sql_profile import TableRows, observe_table
from airflow_mlops.core.errors import SourceUnreachableError, SourceUnreadableError

HOSTILE = """Robert"); DROP TABLE students; -- %(x)s :y '"""
ROWS = 5_000
COLUMNS = {
    "amount": "double precision",
    "whole": "bigint",
    "price": "numeric(12, 2)",
    "kind": "text",
    "paid": "boolean",
    "at": "timestamptz",
    "local": "timestamp",
    "day": "date",
    HOSTILE: "real",
    "nothing": "text",
    "id": "uuid",
    "extra": "bigint",
}
Load = Callable[[pa.Table], str]


def drawn(rows: int = ROWS) -> pa.Table:
    """Return rows with nulls in every column, and with NaN, infinities and edges where there are floats."""
    random = np.random.default_rng(1)
    amount = random.lognormal(size=rows).round(2)
    amount[random.random(rows) < 0.05] = np.nan
    amount[random.random(rows) < 0.02] = np.inf
    amount[random.random(rows) < 0.01] = -np.inf
    kinds = np.array(["a", "b", "ü", "", "it's", "50 %", "new"])[random.integers(0, 7, rows)]
    start = datetime(2013, 1, 6, 12, tzinfo=UTC)
    times = [start + timedelta(microseconds=int(value)) for value in random.integers(-(10**12), 10**12, rows)]
    columns = {
        "amount": amount.tolist(),
        "whole": random.integers(-(2**40), 2**40, rows).tolist(),
        "price": [Decimal(int(value)) / 100 for value in random.integers(-5_000, 90_000, rows)],
        "kind": kinds.tolist(),
        "paid": (random.random(rows) < 0.3).tolist(),
        "at": times,
        "local": [value.replace(tzinfo=None) for value in times],
        "day": [value.date() for value in times],
        HOSTILE: random.normal(size=rows).astype(np.float32).tolist(),
        "nothing": [None] * rows,
        "id": [str(uuid.UUID(int=int(value))) for value in random.integers(0, 9, rows)],
    }
    types = {
        "amount": pa.float64(),
        "whole": pa.int64(),
        "price": pa.decimal128(12, 2),
        "kind": pa.string(),
        "paid": pa.bool_(),
        "at": pa.timestamp("us", tz="UTC"),
        "local": pa.timestamp("us"),
        "day": pa.date32(),
        HOSTILE: pa.float32(),
        "nothing": pa.string(),
        "id": pa.string(),
    }
    gone = {name: random.random(rows) < 0.03 for name in columns}
    return pa.table(
        {
            name: pa.array([None if lost else value for value, lost in zip(of, gone[name], strict=True)], types[name])
            for name, of in columns.items()
        }
    )


@pytest.fixture
def load(postgres_url: str) -> Load:
    """Return a function that writes rows to a fresh table of PostgreSQL and returns its name."""
    url = sa.make_url(postgres_url)

    def written(table: pa.Table) -> str:
        name = f'T "{uuid.uuid4().hex} %s'
        quoted = name.replace('"', '""')
        columns = ", ".join(f'"{value.replace(chr(34), chr(34) * 2)}" {COLUMNS[value]}' for value in table.column_names)
        with psycopg.connect(host=url.host or url.query["host"], user=url.username, dbname=url.database) as connection:
            connection.execute(f'CREATE TABLE "{quoted}" ({columns})'.encode())
            with connection.cursor().copy(f'COPY "{quoted}" FROM STDIN'.encode()) as copy:
                for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                    copy.write_row(row)
        return name

    return written


def local(table: pa.Table, bins: ProfileBins) -> ObservedRows:
    observer = RowObserver(bins, table.schema)
    for batch in table.to_batches(max_chunksize=777):
        observer.update(batch)
    return observer.result()


def assert_same(database: ObservedRows, expected: ObservedRows) -> None:
    """Assert that two say the same: counts and ranges to the last unit, sums to the order of addition."""
    first, second = database.to_dict(), expected.to_dict()
    assert list(first["profile"]["columns"]) == list(second["profile"]["columns"])
    for name, column in first["profile"]["columns"].items():
        twin = second["profile"]["columns"][name]
        assert column.pop("sums") == pytest.approx(twin.pop("sums"), rel=1e-9, abs=1e-6)
        assert column == twin
    assert first == second


def test_what_postgresql_counts_is_what_is_counted_here(postgres_url: str, load: Load) -> None:
    table = drawn()
    # "new" has no bin of its own, and half of the rows lie beyond the bins.
    sample = table.slice(0, 900).filter(pc.not_equal(table.column("kind").slice(0, 900), "new"))
    bins = profile_bins(sample)
    assert len(bins.columns["amount"].edges) > 30
    counted = observe_table(postgres_url, TableRows(load(table)), bins)
    assert_same(counted, local(table, bins))
    assert counted.profile.rows == ROWS
    assert counted.profile.columns["kind"].rest > 0
    assert counted.profile.columns["amount"].infinite > 50
    assert counted.profile.columns["amount"].nan > 100


def test_on_the_edges_of_bins_both_count_alike(postgres_url: str, load: Load) -> None:
    values = [1.0, 1.0, 2.0, 2.5, 3.0, math.nextafter(2.0, 3.0), math.nextafter(2.0, 1.0), -0.0, 1e308, -1e308, 5e-324]
    table = pa.table({"amount": values})
    for edges in ([1.0, 2.0, 3.0], [0.0], [2.0] * 3, [None]):
        bins = profile_bins(pa.table({"amount": pa.array(edges, pa.float64())}))
        assert_same(observe_table(postgres_url, TableRows(load(table)), bins), local(table, bins))


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_of_no_row_or_one_is_counted(postgres_url: str, load: Load, rows: int) -> None:
    table, bins = drawn().slice(0, rows), profile_bins(drawn(500))
    assert_same(observe_table(postgres_url, TableRows(load(table)), bins), local(table, bins))


def test_only_the_rows_of_a_partition_are_counted(postgres_url: str, load: Load) -> None:
    table, bins = drawn(), profile_bins(drawn().slice(0, 900).drop_columns(["at"]))
    since, until = datetime(2013, 1, 5, tzinfo=UTC), datetime(2013, 1, 7, tzinfo=UTC)
    times = table.column("at")
    kept = pc.and_(pc.greater_equal(times, since), pc.less(times, until))
    counted = observe_table(postgres_url, TableRows(load(table), None, "at", since, until), bins)
    assert 0 < counted.profile.rows < ROWS
    assert_same(counted, local(table.filter(kept).drop_columns(["at"]), bins))


def test_missing_new_and_retyped_columns_are_told_of_and_stop_no_other(postgres_url: str, load: Load) -> None:
    table = drawn(300)
    changed = table.drop_columns(["kind"]).append_column("extra", pa.array([1] * 300))
    bins = profile_bins(table.set_column(0, "amount", table.column("nothing")))
    observed = observe_table(postgres_url, TableRows(load(changed)), bins)
    assert (observed.missing, observed.new, observed.retyped) == (("kind",), ("extra",), {"amount": "DOUBLE PRECISION"})
    assert sorted(observed.profile.columns) == sorted(set(table.column_names) - {"kind", "amount"})


def test_sqlite_counts_numbers_and_texts_alike(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    table = drawn().select(["amount", "whole", "kind", "day", HOSTILE])
    types = {"amount": sa.Float(), "whole": sa.Integer(), "kind": sa.Text(), "day": sa.Date(), HOSTILE: sa.Float()}
    made = sa.Table("rows", sa.MetaData(), *(sa.Column(name, kind) for name, kind in types.items()))
    engine = sa.create_engine(url)
    made.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(made), table.to_pylist())
    engine.dispose()
    bins = profile_bins(table.slice(0, 900))
    counted, expected = observe_table(url, TableRows("rows"), bins), local(table, bins)
    for name, column in counted.profile.columns.items():
        twin = expected.profile.columns[name]
        # SQLite writes NaN as null.
        assert column.bin_counts.tolist() == twin.bin_counts.tolist()
        assert (column.low, column.high, column.only) == (twin.low, twin.high, twin.only)


def test_what_cannot_be_counted_is_an_error_that_says_whether_to_try_again(postgres_url: str) -> None:
    bins = profile_bins(pa.table({"x": [1.0]}))
    with pytest.raises(SourceUnreadableError, match="there is no table 'nowhere'"):
        observe_table(postgres_url, TableRows("nowhere"), bins)
    with pytest.raises(SourceUnreachableError, match="does not answer") as raised:
        observe_table("postgresql+psycopg://nobody@127.0.0.1:1/none", TableRows("rows"), bins)
    assert raised.value.retryable
