"""Validate the rows of a database with Great Expectations: the database counts, and no row leaves it.

A table is read as ``SELECT * FROM`` with its name quoted by the dialect, a query unchanged. Rows have no position in a
database, so a failed expectation gives the number of bad rows only.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.elements import quoted_name

from airflow_mlops.core.errors import DataError, DeclarationError, SourceUnreadableError
from airflow_mlops.core.validation.gx_validator import create_context, evaluate
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult

COUNTS: dict[str, Any] = {"result_format": "SUMMARY"}


class GxSqlValidator:
    """Checks expectations in a database.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        Address of the database, with its driver.
    table : str, optional
        Name of the table in the database, without the schema; it may hold any character.
    query : str, optional
        One SELECT instead of a table. It is part of the program, and no value is inserted into it.
    schema : str, optional
        Schema of the table.

    Raises
    ------
    DeclarationError
        If not exactly one of ``table`` and ``query`` is given, or the query is no SELECT.
    """

    def __init__(
        self, url: str | sa.URL, *, table: str | None = None, query: str | None = None, schema: str | None = None
    ) -> None:
        if (table is None) == (query is None):
            raise DeclarationError("needs exactly one of table, query")
        self._url = move_socket_to_query(sa.make_url(url))
        self._name = table or "the query"
        self._query = require_select(query) if query else select_all(self._url, str(table), schema)

    def check(self, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
        """Return one result for each expectation, in order, with counts and without rows.

        Raises
        ------
        ConnectionError
            If the database cannot be reached; a retry may help.
        SourceUnreadableError
            If the table or the query cannot be read.
        PartitionRefusedError
            If the engine cannot evaluate an expectation, which is not the same as data that fails it.
        """
        if not expectations:
            return []
        with self._batch() as batch:
            return evaluate(batch, expectations, detailed=COUNTS, rows=False)

    @contextmanager
    def _batch(self) -> Iterator[Any]:
        probe = sa.create_engine(self._url)
        closing: list[Any] = [probe.dispose]
        try:
            try:
                with self._connect(probe) as connection:  # a fault here is one line, and pages in the library's log
                    connection.execute(sa.text(f"SELECT * FROM ({self._query}) AS asked WHERE 1 = 0"))  # noqa: S608
                source = self._source()
                engine = source.get_execution_engine()
                closing += [engine.engine.dispose, source.get_engine().dispose, lambda: release_connection(engine)]
                asset = source.add_query_asset("rows", query=self._query)
                batch = asset.add_batch_definition_whole_table("all").get_batch()
            except ConnectionError:
                raise
            except Exception as error:  # drivers and the library raise many kinds
                raise SourceUnreadableError(f"{self._name} cannot be read: {self._redact(error)}") from None
            try:
                yield batch
            except DataError as error:
                raise type(error)(f"{self._name}: {self._redact(error)}") from None
        finally:
            for close in reversed(closing):
                close()

    def _connect(self, engine: sa.Engine) -> sa.Connection:
        try:
            return engine.connect()
        except sa.exc.OperationalError as error:
            raise ConnectionError(f"{self._name}: the database cannot be reached: {self._redact(error)}") from None

    def _source(self) -> Any:
        # Great Expectations would substitute a dollar in a password as a variable of its configuration.
        address = self._url.render_as_string(hide_password=False).replace("$", "%24")
        context = create_context()
        for name in ("sqlalchemy_execution_engine", "execution_engine"):
            # The result carries the fault already; the log would repeat it with its stack for every expectation.
            logging.getLogger(f"great_expectations.execution_engine.{name}").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it recommends a class for each database, which does no more
            source = context.data_sources.add_sql("sql", connection_string=address)
            source.get_engine()
        return source

    def _redact(self, error: Exception) -> str:
        """Return the message of an error without the password."""
        message = " ".join(str(error).split())[:800]
        secret = str(self._url.password or "")
        return message.replace(secret, "***") if secret else message


def move_socket_to_query(url: sa.URL) -> sa.URL:
    """Return an address with the folder of a socket as a parameter: as its host, it would end the host as text."""
    if "/" not in (url.host or ""):
        return url
    return sa.URL.create(
        url.drivername,
        username=url.username,
        password=url.password,
        port=url.port,
        database=url.database,
        query={**url.query, "host": str(url.host)},
    )


def release_connection(engine: Any) -> None:
    """Close the connection to a SQLite database that the library keeps open after its own close."""
    connection = getattr(engine, "_connection", None)
    if connection is not None:
        connection.close()


def require_select(query: str) -> str:
    """Return a query as one statement that starts with SELECT; a WITH is wrapped.

    Raises
    ------
    DeclarationError
        If it is no SELECT, or holds a parameter, for which there is no value.
    """
    bare = query.strip().rstrip(";")
    if not re.match(r"(?i)(select|with)\s", bare):
        raise DeclarationError(f"query must be one SELECT; it starts with {bare[:20]!r}")
    parameter = re.search(r"(?<![:\w\\]):(\w+)(?!:)", bare)
    if parameter:
        raise DeclarationError(f"query holds the parameter {parameter[0]!r}, which has no value; write the value out")
    return bare if bare.lower().startswith("select") else f"SELECT * FROM ({bare}) AS asked"  # noqa: S608


def select_all(url: sa.URL, table: str, schema: str | None) -> str:
    """Return the SELECT of all rows of a table, with its names quoted by the dialect."""
    dialect = url.get_dialect()()
    source = sa.table(quoted_name(table, quote=True), schema=quoted_name(schema, quote=True) if schema else None)
    return str(sa.select(sa.text("*")).select_from(source).compile(dialect=dialect))
