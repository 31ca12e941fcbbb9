"""The rows of a partition while they are in their database: queries about them, in the transaction that fetches them.

A query is a statement of SQLAlchemy over :data:`ROWS`, which stands for the rows of the source between the two ticks.
It sees the state of the database that the rows are fetched from.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from airflow_mlops.core.errors import DeclarationError, SourceUnreadableError
from airflow_mlops.core.sources.sql_columns import POSTGRES, column_type
from airflow_mlops.core.sources.sql_errors import translate_errors

ROWS = sa.table("airflow_mlops_rows")
"""The rows of the partition in a query."""
_READ_OTHERWISE = {18: "char", 700: "real", 1042: "char(n)"}
"""PostgreSQL's types, by OID, of which the database compares other values than its drivers deliver."""
_SAVEPOINT = "airflow_mlops_query"


class NotAnsweredError(Exception):
    """The database cannot answer a query about the rows, so that they have to be fetched to be judged."""


@dataclass(frozen=True)
class SqlPartition:
    """The rows of one partition in a database.

    Parameters
    ----------
    connection : Any
        PEP 249 connection, in its read-only transaction.
    driver : str
        Module of the driver.
    statement, values : str, Any
        The SELECT of the rows in the paramstyle of the driver, and its values.
    known : mapping of str to pyarrow.DataType
        Types of columns that the contract or the table states.
    is_table : bool
        Whether the rows are those of a table between the ticks.
    where : str
        Partition and table, for errors.
    """

    connection: Any
    driver: str
    statement: str
    values: Any
    known: Mapping[str, pa.DataType]
    is_table: bool
    where: str
    dialect: sa.Dialect = field(init=False)

    def __post_init__(self) -> None:
        """Find the dialect of the driver.

        Raises
        ------
        DeclarationError
            If this kind of database is not one of those that judge rows.
        """
        name = f"postgresql+{self.driver}" if self.driver in POSTGRES else "sqlite" if self.driver == "sqlite3" else ""
        if not name:
            raise DeclarationError(
                f"is sql, and the driver of the connection is {self.driver}: PostgreSQL and SQLite judge their rows; "
                "declare engine: local",
                key="engine",
            )
        kind: Any = sa.make_url(f"{name}://").get_dialect()
        object.__setattr__(self, "dialect", kind(paramstyle=sys.modules[self.driver].paramstyle))

    @property
    def has_times_as_text(self) -> bool:
        """Whether the database has no types for dates and times."""
        return self.driver == "sqlite3"

    def schema(self) -> pa.Schema:
        """Return the columns with the types that the database states, before any row is fetched.

        Raises
        ------
        NotAnsweredError
            If a name repeats, or a type shows in the values only.
        """
        with translate_errors(self.where, self.driver), closing(self.connection.cursor()) as cursor:
            cursor.execute(f"SELECT * FROM ({self.statement}) AS {ROWS.name} WHERE 1 = 0", self.values)  # noqa: S608
            description = list(cursor.description)
        names = [entry[0] for entry in description]
        types = [
            column_type(entry, (), driver=self.driver, where=self.where, declared=self.known.get(entry[0]))
            for entry in description
        ]
        for entry in description if self.driver in POSTGRES else ():
            if entry[1] in _READ_OTHERWISE:
                raise NotAnsweredError(f"{entry[0]!r} is of type {_READ_OTHERWISE[entry[1]]}: rounded or padded")
        untyped = [name for name, kind in zip(names, types, strict=True) if pa.types.is_null(kind)]
        if untyped or len(set(names)) < len(names):
            raise NotAnsweredError(f"the database states no type of {untyped[0]!r}" if untyped else "a name repeats")
        return pa.schema(list(zip(names, types, strict=True)))

    def execute(self, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
        """Return the answer to a query, row by row.

        Raises
        ------
        SourceUnreachableError
            If the database is away.
        NotAnsweredError
            If it is there and does not answer, as where a sum overflows; the transaction goes on.
        """
        compiled = query.compile(dialect=self.dialect, compile_kwargs={"render_postcompile": True})
        values: Any = dict(compiled.params)
        if compiled.positional:
            values = (*self.values, *(values[name] for name in compiled.positiontup or ()))
        else:
            values = {**self.values, **values}
        text = f"WITH {ROWS.name} AS ({self.statement}) {compiled}"
        with translate_errors(self.where, self.driver), closing(self.connection.cursor()) as cursor:
            # PostgreSQL refuses every statement after an error until it goes back to before it.
            guarded = self.driver in POSTGRES
            if guarded:
                cursor.execute(f"SAVEPOINT {_SAVEPOINT}")
            try:
                with translate_errors(self.where, self.driver):
                    cursor.execute(text, values)
                    answer = [tuple(row) for row in cursor.fetchall()]
            except SourceUnreadableError as error:
                if guarded:
                    cursor.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
                raise NotAnsweredError(str(error)) from error
            if guarded:
                cursor.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        return answer
