"""Profile a table inside its database: the database counts on given bins, and no row leaves it.

There is one statement for each column, and all run in one transaction that sees one state of the table. Names are
quoted by the dialect; edges, categories and times are bound. The result equals that of :class:`RowObserver` on the same
rows, sums up to the order of addition.

PostgreSQL counts times to the microsecond and has NaN; SQLite has no NaN and counts times to the second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

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
    clip_to_finite,
)
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins
from airflow_mlops.core.declaration.arrow_types import ColumnKind
from airflow_mlops.core.errors import SourceUnreachableError, SourceUnreadableError

NULL, NAN, INFINITE, REST = -4, -3, -2, -1
"""Codes of rows without a bin; bins count from 0."""
MICROSECONDS, SECONDS_PER_DAY = 1_000_000, 86_400


class Database(Protocol):
    """A receiver of queries: a connection, or a partition in its database."""

    @property
    def dialect(self) -> sa.Dialect:
        """The dialect of the database."""

    def execute(self, statement: sa.Select[Any], /) -> Iterable[Any]:
        """Return the rows of the answer."""


@dataclass(frozen=True)
class TableRows:
    """The rows of a table, or those with ``time`` from ``since`` (included) to ``until`` (excluded)."""

    table: str
    schema: str | None = None
    time: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def observe_table(url: str | sa.URL, rows: TableRows, bins: ProfileBins) -> ObservedRows:
    """Return the counts of a table on given bins, and its missing, new and retyped columns.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        Address of the database, with its driver.
    rows : TableRows
        The table and the interval of its rows; its names may hold any character.
    bins : ProfileBins
        The bins of the expected columns.

    Raises
    ------
    SourceUnreachableError
        If the database does not answer.
    SourceUnreadableError
        If there is no such table, or its rows cannot be counted.
    """
    engine = sa.create_engine(url, poolclass=NullPool)
    with translate_errors(rows.table), engine.connect() as plain:
        connection = open_snapshot(plain)
        inspected = sa.inspect(connection).get_columns(rows.table, rows.schema)
        types = {str(column["name"]): column["type"] for column in inspected}
        retyped = {
            name: str(types[name])
            for name, kind in sorted(bins.kinds.items())
            if name in types and sql_column_kind(types[name]) != kind
        }
        source, conditions = build_filter(rows)
        total = sa.select(sa.func.count()).select_from(source).where(*conditions)
        count = int(connection.execute(total).scalar_one())
        columns = {
            name: count_column(
                connection,
                sa.select(numeric_value(name, bins.kinds[name], types[name], engine.dialect.name))
                .select_from(source)
                .where(*conditions),
                bins.kinds[name],
                column_bins,
            )
            for name, column_bins in bins.columns.items()
            if name in types and name not in retyped
        }
    missing = tuple(sorted(name for name in bins.columns if name not in types))
    new = tuple(sorted(name for name in types if name not in bins.columns and name != rows.time))
    return ObservedRows(PartitionProfile(count, columns), missing, new, retyped)


def open_snapshot(connection: sa.Connection) -> sa.Connection:
    """Return a connection that reads one state of the database, with times in UTC."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        reader = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        reader.execute(sa.text("SET LOCAL TIME ZONE 'UTC'"))
        return reader
    return connection if dialect == "sqlite" else connection.execution_options(isolation_level="REPEATABLE READ")


@contextmanager
def translate_errors(table: str) -> Iterator[None]:
    """Raise the errors of a database as errors of this package; a lost connection is retryable."""
    try:
        yield
    except NoSuchTableError as error:
        raise SourceUnreadableError(f"there is no table {table!r}") from error
    except OperationalError as error:
        raise SourceUnreachableError(f"the database of {table!r} does not answer: {first_line(error)}") from error
    except DBAPIError as error:
        raise SourceUnreadableError(f"the rows of {table!r} cannot be counted: {first_line(error)}") from error


def first_line(error: DBAPIError) -> str:
    """Return the first line of the driver's message, without the statement."""
    return next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)


def build_filter(rows: TableRows) -> tuple[sa.TableClause, list[ColumnElement[bool]]]:
    """Return the table, its name quoted, and the conditions of its rows."""
    source = sa.table(quote_name(rows.table), schema=quote_name(rows.schema) if rows.schema else None)
    conditions: list[ColumnElement[bool]] = []
    if rows.time is not None:
        time: ColumnElement[Any] = sa.column(quote_name(rows.time), sa.DateTime())
        conditions += [time >= rows.since] if rows.since is not None else []
        conditions += [time < rows.until] if rows.until is not None else []
    return source, conditions


def quote_name(name: str) -> quoted_name:
    """Return a name that the dialect always quotes."""
    return quoted_name(name, quote=True)


def sql_column_kind(sql_type: Any) -> ColumnKind:
    """Return the kind as which values of a database type are counted; see :func:`column_kind`."""
    kinds: tuple[tuple[type[Any], ColumnKind], ...] = (
        # A Boolean is no number, and DateTime comes before Date: the first match counts.
        (sa.Boolean, "category"),
        (sa.Integer, "number"),
        (sa.Numeric, "number"),
        (sa.Float, "number"),
        (sa.DateTime, "time"),
        (sa.Date, "date"),
    )
    return next((kind for base, kind in kinds if isinstance(sql_type, base)), "category")


def numeric_value(name: str, kind: str, sql_type: Any, dialect: str) -> ColumnElement[Any]:
    """Return the expression of a column that is binned: a float, days or microseconds since 1970, or a text."""
    column: ColumnElement[Any] = sa.column(quote_name(name), sql_type)
    if kind == "category":
        if isinstance(sql_type, sa.Boolean):
            return sa.case((column.is_(sa.true()), "True"), (column.is_(sa.false()), "False")).label("value")
        # Compared by its characters: a column of its own collation may take two texts for one.
        collation = {"sqlite": "BINARY", "postgresql": "C"}.get(dialect)
        text = sa.cast(column, sa.Text())
        return (text if collation is None else text.collate(collation)).label("value")
    if kind in ("time", "date"):
        epoch: ColumnElement[Any] = sa.extract("epoch", column)
        if dialect == "sqlite":
            epoch = sa.cast(sa.func.strftime("%s", column), sa.Integer())
        column = epoch * MICROSECONDS if kind == "time" else epoch / SECONDS_PER_DAY
    return sa.cast(column, sa.Double()).label("value")


def count_column(connection: Database, values: sa.Select[Any], kind: str, bins: ColumnBins) -> ColumnProfile:
    """Return the profile of the column that a statement selects."""
    if bins.categories is not None:
        return count_categories(connection, values, kind, bins)
    value = values.subquery().c.value
    nan = value == sa.literal(np.nan, sa.Double()) if connection.dialect.name == "postgresql" else value != value  # noqa: PLR0124
    place = sa.case(
        (value.is_(None), code_literal(NULL)),
        (nan, code_literal(NAN)),
        (sa.func.abs(value) > LARGEST, code_literal(INFINITE)),
        else_=bin_expression(value, bins.edges, 0, len(bins.edges)),
    )
    inner = sa.select(place.label("code"), value.label("value")).subquery()
    outer = sa.select(
        inner.c.code,
        sa.func.count(),
        sa.func.sum(sa.case((inner.c.code >= 0, inner.c.value))),
        sa.func.min(inner.c.value),
        sa.func.max(inner.c.value),
    ).group_by(inner.c.code)
    groups = {int(code): (int(count), total, low, high) for code, count, total, low, high in connection.execute(outer)}
    size = len(bins.edges) + 1
    filled = [groups[code] for code in sorted(groups) if code >= 0]
    return ColumnProfile(
        kind,
        bins.digest,
        tuple(groups.get(code, (0,))[0] for code in range(size)),
        tuple(clip_to_finite(float(groups[code][1])) if code in groups else 0.0 for code in range(size)),
        nulls=groups.get(NULL, (0,))[0],
        nan=groups.get(NAN, (0,))[0],
        infinite=groups.get(INFINITE, (0,))[0],
        low=min((float(low) for _, _, low, _ in filled), default=None),
        high=max((float(high) for _, _, _, high in filled), default=None),
    )


def bin_expression(value: ColumnElement[Any], edges: tuple[float, ...], first: int, last: int) -> ColumnElement[Any]:
    """Return the expression of a value's bin among ``first`` to ``last``: (previous, edge], by binary search."""
    if first == last:
        return code_literal(first)
    middle = (first + last) // 2
    return sa.case(
        (value <= sa.literal(edges[middle], sa.Double()), bin_expression(value, edges, first, middle)),
        else_=bin_expression(value, edges, middle + 1, last),
    )


def code_literal(number: int) -> ColumnElement[Any]:
    """Return a code of this module as a literal, which needs no parameter: it never comes from data."""
    return sa.literal_column(str(int(number)), sa.Integer())


def count_categories(connection: Database, values: sa.Select[Any], kind: str, bins: ColumnBins) -> ColumnProfile:
    """Return the profile of a column of categories."""
    categories = bins.categories or ()
    value = values.subquery().c.value
    is_category = value.in_(categories) if categories else sa.false()
    inner = sa.select(
        sa.case((value.is_(None), code_literal(NULL)), (is_category, code_literal(0)), else_=code_literal(REST)).label(
            "code"
        ),
        sa.case((is_category, value)).label("category"),
        value.label("value"),
    ).subquery()
    outer = sa.select(
        inner.c.code, inner.c.category, sa.func.count(), sa.func.min(inner.c.value), sa.func.max(inner.c.value)
    ).group_by(inner.c.code, inner.c.category)
    counts, rest, nulls, extremes = dict.fromkeys(categories, 0), 0, 0, set()
    for code, category, count, low, high in connection.execute(outer):
        if code == NULL:
            nulls = int(count)
            continue
        extremes |= {low, high}
        if code == REST:
            rest = int(count)
        else:
            counts[category] = int(count)
    only = hashlib.sha256(next(iter(extremes)).encode()).hexdigest()[:16] if len(extremes) == 1 else None
    return ColumnProfile(
        kind,
        bins.digest,
        tuple(counts.values()),
        rest=rest,
        nulls=nulls,
        categories=categories,
        only=SEVERAL if len(extremes) > 1 else only,
    )
