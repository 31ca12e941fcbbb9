"""Validation where the rows are: Great Expectations asks the database, and only counts come back.

A table is asked as ``SELECT * FROM`` it, its name quoted by the dialect; a query as it stands. Rows have no
position in a database, so no row is named: a failed expectation says how many there are.
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
from airflow_mlops.core.validation.gx_validator import examined, quiet_context
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult

COUNTS: dict[str, Any] = {"result_format": "SUMMARY"}


class GxSqlValidator:
    """Checks expectations in a database.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        Address of the database, with its driver.
    table : str, optional
        Name of the table, as the database has it; ``schema`` apart. Any character may stand in it.
    query : str, optional
        One SELECT in the place of a table. It is part of the program: nothing is put into it.
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
        self._url = with_socket_apart(sa.make_url(url))
        self._name = table or "the query"
        self._query = plain_select(query) if query else select_all(self._url, str(table), schema)

    def check(self, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
        """Return one result for each expectation, in order, with counts and without rows.

        Raises
        ------
        ConnectionError
            If the database cannot be reached; it may be in a moment.
        SourceUnreadableError
            If it has no such table.
        PartitionRefusedError
            If the engine could not evaluate an expectation: that is not the same as failed data.
        """
        if not expectations:
            return []
        with self._batch() as batch:
            return examined(batch, expectations, closer=COUNTS, rows=False)

    @contextmanager
    def _batch(self) -> Iterator[Any]:
        probe = sa.create_engine(self._url)
        closing: list[Any] = [probe.dispose]
        try:
            try:
                with self._reached(probe) as connection:  # says what is wrong in one line, where the library logs pages
                    connection.execute(sa.text(f"SELECT * FROM ({self._query}) AS asked WHERE 1 = 0"))  # noqa: S608
                source = self._source()
                executing = source.get_execution_engine()
                closing += [executing.engine.dispose, source.get_engine().dispose, lambda: release(executing)]
                asset = source.add_query_asset("rows", query=self._query)
                batch = asset.add_batch_definition_whole_table("all").get_batch()
            except ConnectionError:
                raise
            except Exception as error:  # drivers and the library raise many kinds
                raise SourceUnreadableError(f"{self._name} cannot be read: {self._scrubbed(error)}") from None
            try:
                yield batch
            except DataError as error:
                raise type(error)(f"{self._name}: {self._scrubbed(error)}") from None
        finally:
            for close in reversed(closing):
                close()

    def _reached(self, engine: sa.Engine) -> sa.Connection:
        try:
            return engine.connect()
        except sa.exc.OperationalError as error:
            raise ConnectionError(f"{self._name}: the database cannot be reached: {self._scrubbed(error)}") from None

    def _source(self) -> Any:
        # The dollar of a password would be taken for a variable of Great Expectations' own configuration.
        address = self._url.render_as_string(hide_password=False).replace("$", "%24")
        context = quiet_context()
        for name in ("sqlalchemy_execution_engine", "execution_engine"):
            # The result carries the same fault; the log would repeat it with its stack for every expectation.
            logging.getLogger(f"great_expectations.execution_engine.{name}").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it recommends a class for each database, which does no more
            source = context.data_sources.add_sql("sql", connection_string=address)
            source.get_engine()
        return source

    def _scrubbed(self, error: Exception) -> str:
        """Return what an error says, without the password."""
        said = " ".join(str(error).split())[:800]
        secret = str(self._url.password or "")
        return said.replace(secret, "***") if secret else said


def with_socket_apart(url: sa.URL) -> sa.URL:
    """Return an address whose host is no path: written as text, the folder of a socket would end the host."""
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


def release(executing: Any) -> None:
    """Give back the connection that the library keeps to a SQLite database; its own close forgets it."""
    held = getattr(executing, "_connection", None)
    if held is not None:
        held.close()


def plain_select(query: str) -> str:
    """Return a query that starts with SELECT, whatever it was written with.

    Raises
    ------
    DeclarationError
        If it is no SELECT, or binds a value: there is none to bind.
    """
    bare = query.strip().rstrip(";")
    if not re.match(r"(?i)(select|with)\s", bare):
        raise DeclarationError(f"query must be one SELECT; it starts with {bare[:20]!r}")
    bound = re.search(r"(?<![:\w\\]):(\w+)(?!:)", bare)
    if bound:
        raise DeclarationError(f"query holds {bound[0]!r}, which stands for a value to be bound; write the value out")
    return bare if bare.lower().startswith("select") else f"SELECT * FROM ({bare}) AS asked"  # noqa: S608


def select_all(url: sa.URL, table: str, schema: str | None) -> str:
    """Return the SELECT of a whole table, its names quoted by the rules of the database."""
    dialect = url.get_dialect()()
    named = sa.table(quoted_name(table, quote=True), schema=quoted_name(schema, quote=True) if schema else None)
    return str(sa.select(sa.text("*")).select_from(named).compile(dialect=dialect))
