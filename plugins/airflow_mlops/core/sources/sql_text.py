"""The text of a query as a driver wants it: names quoted, values bound and never written into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_mlops.core.errors import DeclarationError

IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,62}", re.ASCII)

# What a colon or a percent sign may stand in without being a bind, in the order in which SQL looks for it.
_PIECES = re.compile(
    r"""(?P<kept>
          [eE]'(?:[^'\\]|''|\\.)*'            # a text of PostgreSQL with escapes
        | '(?:[^']|'')*'                      # a text
        | "(?:[^"]|"")*" | `[^`]*`            # a name
        | --[^\n]* | /\*.*?\*/                # a comment
        | (?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag)   # a text of PostgreSQL between dollars
        | ::                                  # a cast
      )
      | (?<!\w):(?P<bind>[A-Za-z_]\w*)
      | (?P<open>['"`] | /\*)                 # what is never closed
      | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)


def quoted(name: str, *, quote: str) -> str:
    """Return a dotted name with each of its parts quoted.

    >>> quoted("public.flights", quote='"')
    '"public"."flights"'

    Raises
    ------
    DeclarationError
        If a part is anything but letters, digits and underscores.
    """
    parts = name.split(".")
    if not all(IDENTIFIER.fullmatch(part) for part in parts):
        raise DeclarationError(
            f"{name!r} is no name that goes into a query: letters, digits and underscores, not more than 63 for a part"
        )
    return ".".join(f"{quote}{part}{quote}" for part in parts)


def bound(query: str, values: Mapping[str, Any], paramstyle: str) -> tuple[str, Any]:
    """Return ``query`` with what it binds, as ``:start`` and ``:end``, as a driver has it, and the values beside it.

    Quotes, comments and casts are left as they are.

    Parameters
    ----------
    query : str
        One SELECT.
    values : mapping
        What each name that may be bound stands for.
    paramstyle : str
        Of the driver, by PEP 249.

    Raises
    ------
    DeclarationError
        If it is not one SELECT, a quote is not closed, or it binds another name.
    """
    text, order = "", []
    for piece, bind in _pieces(query):
        if bind is None:
            text += piece.replace("%", "%%") if "format" in paramstyle else piece
            continue
        if bind not in values:
            can = " and ".join(f":{name}" for name in values)
            raise DeclarationError(f"the query binds :{bind}; it can bind {can}", key="data.source.query")
        order.append(bind)
        text += {
            "qmark": "?", "numeric": f":{len(order)}", "named": f":{bind}", "format": "%s", "pyformat": f"%({bind})s",
        }[paramstyle]  # fmt: skip
    return text, dict(values) if paramstyle in ("named", "pyformat") else tuple(values[name] for name in order)


def _pieces(query: str) -> list[tuple[str, str | None]]:
    """Return the text of a query in pieces, each with the name that it binds if it is a bind."""
    query = query.strip().rstrip(";")
    pieces: list[tuple[str, str | None]] = []
    code, place = "", 0
    for found in _PIECES.finditer(query):
        if found["open"]:
            raise DeclarationError(f"the query opens {found['open']} and never closes it", key="data.source.query")
        if found["end"]:
            raise DeclarationError("the query holds more than one statement", key="data.source.query")
        between = query[place : found.start()]
        code += between
        pieces += [(between, None), (found[0], found["bind"])]
        place = found.end()
    pieces.append((query[place:], None))
    if not re.match(r"\s*\(*\s*(SELECT|WITH)\b", code + query[place:], re.IGNORECASE):
        raise DeclarationError("the query must be one SELECT", key="data.source.query")
    return pieces
