"""Profile a table where it lies: the database counts on given bins, and no row leaves it.

One statement for each column, all in one transaction that sees one state of the table. Names go into them quoted by
the dialect, edges, categories and times bound. What comes back is what :class:`RowObserver` would say of the same
rows, the sums to the order of addition.

On PostgreSQL times count to the microsecond and NaN is told from null; SQLite keeps no NaN and tells times to the
second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchTableError, OperationalError
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import ColumnElement, quoted_name

from airflow_mlops.core.data.profiles.column_bins import ColumnBins
from airflow_mlops.core.data.profiles.observe_rows import ObservedRows
from airflow_mlops.core.data.profiles.partition_profile import (
    LARGEST,
    SEVERAL,
    ColumnProfile,
    PartitionProfile,
    within_range,
)
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins
from airflow_mlops.core.errors import SourceUnreachableError, SourceUnreadableError

NULL, NAN, INFINITE, REST = -4, -3, -2, -1
"""Codes of what is no value of a bin; bins count from 0."""
MICROSECONDS, SECONDS_OF_A_DAY = 1_000_000, 86_400


@dataclass(frozen=True)
class TableRows:
    """The rows of a table, or those of them whose ``time`` lies from ``since`` up to, not including, ``until``."""

    table: str
    schema: str | None = None
    time: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def observe_table(url: str | sa.URL, rows: TableRows, bins: ProfileBins) -> ObservedRows:
    """Return the counts of a table on given bins, and what has become of its columns.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        Address of the database, with its driver.
    rows : TableRows
        Which rows of which table. Any character may stand in its names.
    bins : ProfileBins
        Of the columns that are looked for.

    Raises
    ------
    SourceUnreachableError
        If the database does not answer.
    SourceUnreadableError
        If the table is not there, or its rows cannot be counted.
    """
    engine = sa.create_engine(url, poolclass=NullPool)
    with told(rows.table), engine.connect() as plain:
        connection = reading(plain)
        types = {str(one["name"]): one["type"] for one in sa.inspect(connection).get_columns(rows.table, rows.schema)}
        retyped = {
            name: str(types[name])
            for name, kind in sorted(bins.kinds.items())
            if name in types and kind_of_sql(types[name]) != kind
        }
        source, kept = chosen(rows)
        count = int(connection.execute(sa.select(sa.func.count()).select_from(source).where(*kept)).scalar_one())
        columns = {
            name: counted(
                connection,
                sa.select(value_of(name, bins.kinds[name], types[name], engine.dialect.name))
                .select_from(source)
                .where(*kept),
                bins.kinds[name],
                of,
            )
            for name, of in bins.columns.items()
            if name in types and name not in retyped
        }
    missing = tuple(sorted(name for name in bins.columns if name not in types))
    new = tuple(sorted(name for name in types if name not in bins.columns and name != rows.time))
    return ObservedRows(PartitionProfile(count, columns), missing, new, retyped)


def reading(connection: sa.Connection) -> sa.Connection:
    """Return a connection that reads one state of the database, in UTC."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        reader = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        reader.execute(sa.text("SET LOCAL TIME ZONE 'UTC'"))
        return reader
    return connection if dialect == "sqlite" else connection.execution_options(isolation_level="REPEATABLE READ")


@contextmanager
def told(table: str) -> Iterator[None]:
    """Raise what a database says as an error of this package; a lost connection may be tried again."""
    try:
        yield
    except NoSuchTableError as error:
        raise SourceUnreadableError(f"there is no table {table!r}") from error
    except OperationalError as error:
        raise SourceUnreachableError(f"the database of {table!r} does not answer: {first_line(error)}") from error
    except DBAPIError as error:
        raise SourceUnreadableError(f"the rows of {table!r} cannot be counted: {first_line(error)}") from error


def first_line(error: DBAPIError) -> str:
    """Return what the driver said, in a line and without the statement."""
    return next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)


def chosen(rows: TableRows) -> tuple[sa.TableClause, list[ColumnElement[bool]]]:
    """Return the table, its name quoted, and the conditions of its rows."""
    source = sa.table(name_of(rows.table), schema=name_of(rows.schema) if rows.schema else None)
    kept: list[ColumnElement[bool]] = []
    if rows.time is not None:
        time: ColumnElement[Any] = sa.column(name_of(rows.time), sa.DateTime())
        kept = [time >= rows.since] * (rows.since is not None) + [time < rows.until] * (rows.until is not None)
    return source, kept


def name_of(name: str) -> quoted_name:
    """Return a name that is always quoted, whatever stands in it."""
    return quoted_name(name, quote=True)


def kind_of_sql(kind: Any) -> str:
    """Return how values of a type of the database are counted."""
    for of, found in (
        (sa.Boolean, "category"),
        (sa.Integer, "number"),
        (sa.Numeric, "number"),
        (sa.Float, "number"),
        (sa.DateTime, "time"),
        (sa.Date, "date"),
    ):
        if isinstance(kind, of):
            return found
    return "category"


def value_of(name: str, kind: str, held: Any, dialect: str) -> ColumnElement[Any]:
    """Return the value of a column as it is binned: a float, days or microseconds since 1970, or a text."""
    column: ColumnElement[Any] = sa.column(name_of(name), held)
    if kind == "category":
        if isinstance(held, sa.Boolean):
            return sa.case((column.is_(sa.true()), "True"), (column.is_(sa.false()), "False")).label("value")
        return sa.cast(column, sa.Text()).label("value")
    if kind in ("time", "date"):
        epoch: ColumnElement[Any] = sa.extract("epoch", column)
        if dialect == "sqlite":
            epoch = sa.cast(sa.func.strftime("%s", column), sa.Integer())
        column = epoch * MICROSECONDS if kind == "time" else epoch / SECONDS_OF_A_DAY
    return sa.cast(column, sa.Double()).label("value")


def counted(connection: sa.Connection, values: sa.Select[Any], kind: str, bins: ColumnBins) -> ColumnProfile:
    """Return the profile of a column, whose values a statement selects."""
    if bins.categories is not None:
        return counted_texts(connection, values, kind, bins)
    value = values.subquery().c.value
    nan = value == sa.literal(np.nan, sa.Double()) if connection.dialect.name == "postgresql" else value != value  # noqa: PLR0124
    place = sa.case(
        (value.is_(None), coded(NULL)),
        (nan, coded(NAN)),
        (sa.func.abs(value) > LARGEST, coded(INFINITE)),
        else_=bin_of(value, bins.edges, 0, len(bins.edges)),
    )
    inner = sa.select(place.label("code"), value.label("value")).subquery()
    outer = sa.select(
        inner.c.code,
        sa.func.count(),
        sa.func.sum(sa.case((inner.c.code >= 0, inner.c.value))),
        sa.func.min(inner.c.value),
        sa.func.max(inner.c.value),
    ).group_by(inner.c.code)
    found = {int(code): (int(count), total, low, high) for code, count, total, low, high in connection.execute(outer)}
    size = len(bins.edges) + 1
    held = [found[code] for code in sorted(found) if code >= 0]
    return ColumnProfile(
        kind,
        bins.digest,
        tuple(found.get(code, (0,))[0] for code in range(size)),
        tuple(within_range(float(found[code][1])) if code in found else 0.0 for code in range(size)),
        nulls=found.get(NULL, (0,))[0],
        nan=found.get(NAN, (0,))[0],
        infinite=found.get(INFINITE, (0,))[0],
        low=min((float(one[2]) for one in held), default=None),
        high=max((float(one[3]) for one in held), default=None),
    )


def bin_of(value: ColumnElement[Any], edges: tuple[float, ...], first: int, last: int) -> ColumnElement[Any]:
    """Return the bin of a value among ``first`` to ``last``: (previous, edge], found by halving."""
    if first == last:
        return coded(first)
    middle = (first + last) // 2
    return sa.case(
        (value <= sa.literal(edges[middle], sa.Double()), bin_of(value, edges, first, middle)),
        else_=bin_of(value, edges, middle + 1, last),
    )


def coded(number: int) -> ColumnElement[Any]:
    """Return a number of this module, written as it is: it comes from nobody."""
    return sa.literal_column(str(int(number)), sa.Integer())


def counted_texts(connection: sa.Connection, values: sa.Select[Any], kind: str, bins: ColumnBins) -> ColumnProfile:
    """Return the profile of a column of categories."""
    categories = bins.categories or ()
    value = values.subquery().c.value
    known = value.in_(categories) if categories else sa.false()
    inner = sa.select(
        sa.case((value.is_(None), coded(NULL)), (known, coded(0)), else_=coded(REST)).label("code"),
        sa.case((known, value)).label("category"),
        value.label("value"),
    ).subquery()
    outer = sa.select(
        inner.c.code, inner.c.category, sa.func.count(), sa.func.min(inner.c.value), sa.func.max(inner.c.value)
    ).group_by(inner.c.code, inner.c.category)
    counts, rest, nulls, seen = dict.fromkeys(categories, 0), 0, 0, set()
    for code, category, count, low, high in connection.execute(outer):
        if code == NULL:
            nulls = int(count)
            continue
        seen |= {low, high}
        if code == REST:
            rest = int(count)
        else:
            counts[category] = int(count)
    only = hashlib.sha256(next(iter(seen)).encode()).hexdigest()[:16] if len(seen) == 1 else None
    return ColumnProfile(
        kind,
        bins.digest,
        tuple(counts.values()),
        rest=rest,
        nulls=nulls,
        categories=categories,
        only=SEVERAL if len(seen) > 1 else only,
    )
