"""SQL text for a driver: quoted names, bound values, and the check that a query only reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.sources.sql_functions import writing_function

if TYPE_CHECKING:
    from sqlglot import exp

KEY = "data.source.query"
IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,62}", re.ASCII)

# The driver's module (PEP 249) to the dialect that sqlglot reads. Any other driver is read as standard SQL.
_DIALECTS = {
    "MySQLdb": "mysql",
    "clickhouse_driver.dbapi": "clickhouse",
    "databricks.sql": "databricks",
    "duckdb": "duckdb",
    "google.cloud.bigquery.dbapi": "bigquery",
    "mysql.connector": "mysql",
    "oracledb": "oracle",
    "psycopg": "postgres",
    "psycopg2": "postgres",
    "pymssql": "tsql",
    "pymysql": "mysql",
    "pyodbc": "tsql",
    "redshift_connector": "redshift",
    "snowflake.connector": "snowflake",
    "sqlite3": "sqlite",
    "trino.dbapi": "trino",
}

# Where a colon or a percent sign does not begin a bind, in the order in which SQL looks for it.
_PIECES = re.compile(
    r"""(?P<kept>
          [eE]'(?:[^'\\]|''|\\.)*'            # a string of PostgreSQL with escapes
        | '(?:[^']|'')*'                      # a string
        | "(?:[^"]|"")*" | `[^`]*`            # a name
        | --[^\n]* | /\*.*?\*/                # a comment
        | (?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag)   # a string of PostgreSQL between dollars
        | ::                                  # a cast
      )
      | (?<!\w):(?P<bind>[A-Za-z_]\w*)
      | (?P<open>['"`] | /\*)                 # a quote or a comment that is never closed
    """,
    re.VERBOSE | re.DOTALL,
)

# MySQL has escapes in every string, double quotes around strings, and # for comments; -- is one before a blank alone.
_MYSQL_PIECES = re.compile(
    r"""(?P<kept>
          '(?:[^'\\]|''|\\.)*' | "(?:[^"\\]|""|\\.)*" | `[^`]*`
        | \#[^\n]* | --(?=\s)[^\n]* | --\Z | /\*.*?\*/
      )
      | (?<!\w):(?P<bind>[A-Za-z_]\w*)
      | (?P<open>['"`] | /\*)
    """,
    re.VERBOSE | re.DOTALL,
)

_PLAIN_PERCENT = ("mysql.connector",)
"""Drivers that replace their placeholders alone, so that %% would be two signs."""
_PLACEHOLDERS = {"qmark": "?", "numeric": ":{place}", "named": ":{name}", "format": "%s", "pyformat": "%({name})s"}


def quote_name(name: str, *, quote: str) -> str:
    """Return a dotted name with each of its parts quoted.

    >>> quote_name("public.flights", quote='"')
    '"public"."flights"'

    Raises
    ------
    DeclarationError
        If a part is anything but letters, digits and underscores.
    """
    parts = name.split(".")
    if not all(IDENTIFIER.fullmatch(part) for part in parts):
        raise DeclarationError(
            f"{name!r} cannot be a name in a query: a part has letters, digits and underscores, at most 63"
        )
    return ".".join(f"{quote}{part}{quote}" for part in parts)


def bind_values(query: str, values: Mapping[str, Any], *, paramstyle: str, driver: str) -> tuple[str, Any]:
    """Return a query in the paramstyle of its driver, and the values to execute it with.

    Strings, comments and casts are left as they are.

    Parameters
    ----------
    query : str
        One SELECT that binds names, as in ``:start``.
    values : mapping
        Value of each name that may be bound.
    paramstyle : str
        Of the driver, by PEP 249.
    driver : str
        Module of the driver; it decides in which dialect the query is checked.

    Raises
    ------
    DeclarationError
        If the query is not one SELECT that only reads, a quote is not closed, or it binds an unknown name.
    """
    is_mysql = _DIALECTS.get(driver) == "mysql"
    pieces = list(_split_at_binds(query.strip().rstrip(";"), _MYSQL_PIECES if is_mysql else _PIECES))
    # The check sees a constant where a value is bound: not every dialect has a syntax for binds.
    require_select("".join("NULL" if name else text for text, name in pieces), driver)
    text, order = "", []
    percent = "%%" if "format" in paramstyle and driver not in _PLAIN_PERCENT else "%"
    for piece, name in pieces:
        if name is None:
            text += piece.replace("%", percent)
            continue
        if name not in values:
            allowed = " and ".join(f":{value}" for value in values)
            raise DeclarationError(f"the query binds :{name}; it can bind {allowed}", key=KEY)
        order.append(name)
        text += _PLACEHOLDERS[paramstyle].format(place=len(order), name=name)
    return text, dict(values) if paramstyle in ("named", "pyformat") else tuple(values[name] for name in order)


def require_select(query: str, driver: str) -> None:
    """Raise DeclarationError unless a query is one SELECT whose syntax tree holds nothing that writes or locks.

    Functions that are known to write are refused by their names. ``nextval`` and functions of a user's own are stopped
    by the read-only transaction, where the database has one.

    Parameters
    ----------
    query : str
        Without binds.
    driver : str
        Module of the driver, as ``psycopg``.

    Raises
    ------
    DeclarationError
        Naming the first part that is not allowed.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    # MySQL and MariaDB run the text of such a comment, which every parser takes for a comment.
    if re.search(r"/\*M?!", query):
        raise _refusal("a comment that MySQL executes (/*! ... */)")
    try:
        trees = sqlglot.parse(query, read=_DIALECTS.get(driver))
    except (SqlglotError, RecursionError) as error:
        detail = str(error).splitlines()[0] if isinstance(error, SqlglotError) else "it is nested too deep"
        raise DeclarationError(f"the query must be one SELECT, and it cannot be parsed: {detail}", key=KEY) from error
    # A comment behind the last semicolon is a tree of its own.
    statements = [tree for tree in trees if tree is not None and not isinstance(tree, exp.Semicolon)]
    if len(statements) > 1:
        raise DeclarationError("the query holds more than one statement", key=KEY)
    part = next(_parts_that_write(statements[0], driver), None) if statements else "no SELECT"
    if part is not None:
        raise _refusal(part)


def _parts_that_write(tree: exp.Expr, driver: str) -> Iterator[str]:
    """Yield the parts of a statement, as SQL names them, that a reading SELECT cannot have."""
    from sqlglot import exp

    if isinstance(tree, exp.Condition | exp.Alias):
        yield "no SELECT"
    elif not isinstance(tree, exp.Select | exp.SetOperation | exp.Subquery):
        yield tree.name.upper() if isinstance(tree, exp.Command) else tree.key.upper()
    for node in tree.walk():
        if isinstance(node, exp.CTE) and not isinstance(node.this, exp.Select | exp.SetOperation | exp.Subquery):
            yield f"{node.this.key.upper()} in a WITH"
        part = _name_if_writing(node) or writing_function(node, driver)
        if part:
            yield part


def _name_if_writing(node: exp.Expr) -> str | None:
    from sqlglot import exp

    if isinstance(node, exp.Into):
        return "INTO"
    if isinstance(node, exp.Lock):
        return "FOR UPDATE or FOR SHARE"
    if isinstance(node, exp.DML | exp.Create | exp.Drop | exp.Command):
        return node.key.upper()
    # SQL Server needs no semicolon: SELECT 1 DELETE FROM t is two statements there, and parses as an alias.
    if isinstance(node, exp.Alias) and node.alias.upper() == "DELETE" and not node.args["alias"].quoted:
        return "an alias DELETE without quotes"
    return None


def _refusal(part: str) -> DeclarationError:
    return DeclarationError(f"the query must be one SELECT that only reads, and it holds {part}", key=KEY)


def _split_at_binds(query: str, pieces: re.Pattern[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the text of a query in pieces, each with the name that it binds if it is a bind."""
    end = 0
    for match in pieces.finditer(query):
        if match["open"]:
            raise DeclarationError(f"the query opens {match['open']} and never closes it", key=KEY)
        yield query[end : match.start()], None
        yield match[0], match["bind"]
        end = match.end()
    yield query[end:], None
