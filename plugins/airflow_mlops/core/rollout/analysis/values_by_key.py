"""A business figure from a database: the values of a query by key, split by the version that served the key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.errors import DeclarationError, MlopsError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.ports.rollout_target import UnitSums
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.sources.sql_errors import translate_errors
from airflow_mlops.core.sources.sql_source import close_quietly, driver_of, open_reading_cursor
from airflow_mlops.core.sources.sql_text import bind_values

FETCHED = 50_000
ROWS = 5_000_000
"""Rows beyond which a query is refused: it should add up by key in the database."""
COLUMNS = ("key", "value")


def values_by_key(
    connect: Callable[[], Any], query: str, *, since: str, salt: str, percent: float, name: str
) -> tuple[UnitSums, UnitSums, int]:
    """Return the sums by key of challenger and champion, and how many rows had no key or no value.

    Parameters
    ----------
    connect : callable
        Opens a connection as PEP 249 has it.
    query : str
        One SELECT with the columns ``key`` and ``value``; it may bind ``:since``.
    since : str
        When the stage was entered, as ISO 8601; bound in UTC without a zone.
    salt, percent : str, float
        Of the sticky split: which keys are the challenger's.
    name : str
        Name of the database in the errors.

    Raises
    ------
    DeclarationError
        If the query is not one SELECT, binds another name, or has other columns.
    SourceUnreachableError, SourceUnreadableError
        If the database does not answer, refuses, or gives a value that is no number.
    """
    rows = _query_rows(connect, query, since, f"the query on {name}")
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    complete = frame.dropna()
    try:
        values = complete["value"].to_numpy(object).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SourceUnreadableError(f"the query on {name}: a value is no number") from error
    # The text of a key is what the split goes by.
    codes, keys = pd.factorize(complete["key"].astype(str))
    total = np.bincount(codes, weights=values, minlength=len(keys)).astype(np.float64)
    count = np.bincount(codes, minlength=len(keys)).astype(np.float64)
    by_challenger = sticky_share(keys, salt=salt, percent=percent)
    skipped = len(frame) - len(complete)
    return (
        UnitSums(total[by_challenger], count[by_challenger]),
        UnitSums(total[~by_challenger], count[~by_challenger]),
        skipped,
    )


def _query_rows(connect: Callable[[], Any], query: str, since: str, where: str) -> list[Sequence[Any]]:
    moment = datetime.fromisoformat(since)
    naive = (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)
    with closing(_OpenConnection(connect, where)) as open_connection:
        driver = driver_of(open_connection.connection)
        value = naive.isoformat(" ") if driver == "sqlite3" else naive
        try:
            statement, values = bind_values(
                query, {"since": value}, paramstyle=sys.modules[driver].paramstyle, driver=driver
            )
        except DeclarationError as error:
            raise DeclarationError(error.message, key="rollout.metrics.query") from error
        with translate_errors(where, driver):
            cursor = open_reading_cursor(open_connection.connection, driver, named=True)
            try:
                cursor.execute(statement, values)
                first = cursor.fetchmany(FETCHED)
                order = _column_order([column[0] for column in cursor.description], where)
                return _fetch_rows(cursor, first, order, where)
            finally:
                close_quietly(cursor)


class _OpenConnection:
    """A database connection for ``contextlib.closing``, whose errors become SourceUnreachableError."""

    def __init__(self, connect: Callable[[], Any], where: str) -> None:
        try:
            self.connection = connect()
        except MlopsError:
            raise
        except Exception as error:  # every driver has errors of its own, and their texts may hold an address
            raise SourceUnreachableError(f"{where}: there is no connection ({type(error).__name__})") from error

    def close(self) -> None:
        """Close the connection."""
        close_quietly(self.connection)


def _column_order(columns: list[str], where: str) -> list[int]:
    names = [name.lower() for name in columns]
    if sorted(names) != sorted(COLUMNS):
        raise DeclarationError(
            f"{where} gives the columns {', '.join(columns)}; it must give key and value", key="rollout.metrics.query"
        )
    return [names.index(name) for name in COLUMNS]


def _fetch_rows(cursor: Any, rows: list[Any], order: list[int], where: str) -> list[Sequence[Any]]:
    collected: list[Sequence[Any]] = []
    while rows:
        collected += [[row[column] for column in order] for row in rows]
        if len(collected) > ROWS:
            raise SourceUnreadableError(f"{where} gives more than {ROWS:,} rows; add up by key in the database")
        rows = cursor.fetchmany(FETCHED)
    return collected
