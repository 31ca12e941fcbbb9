"""The key of a row: one column, or several that tell rows apart together.

    key: order_id
    key: [order_id, line]

Rows with a key of several columns get one more column of text, the key column: its name joins the names of the
columns, its values join the values, by ``+``. Whatever needs the key of a row reads that one column, however many
columns a key has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

SIGN = "+"
"""The sign between the parts of a key. It means nothing to a shell, which would end a command at a ``|``."""
MAX_LENGTH = 128


class KeyColumn(str):
    """The name of the key column of several columns; ``parts`` are their names.

    >>> KeyColumn(("order_id", "line"))
    'order_id+line'
    """

    parts: tuple[str, ...]

    def __new__(cls, parts: Sequence[str]) -> KeyColumn:
        """Return the name for the columns."""
        name = super().__new__(cls, SIGN.join(parts))
        name.parts = tuple(parts)
        return name

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return the arguments that make a copy."""
        return (self.parts,)


def key_columns(key: str) -> tuple[str, ...]:
    """Return the declared columns of a key.

    >>> key_columns("order_id"), key_columns(KeyColumn(("order_id", "line")))
    (('order_id',), ('order_id', 'line'))
    """
    return key.parts if isinstance(key, KeyColumn) else (key,)


def is_joined(key: str) -> bool:
    """Return whether a key has several columns, so that its key column is made of them."""
    return isinstance(key, KeyColumn)


def identifying_columns(key: str) -> frozenset[str]:
    """Return every column that holds the key of a row or a part of it."""
    return frozenset({str(key), *key_columns(key)})


def read_key(value: object) -> str:
    """Return the key that a declaration states: a name, or the key column of a list of names.

    Raises
    ------
    ValueError
        If the value is neither, or the list is empty, repeats a name, or is too long for a name of a column.
    """
    if isinstance(value, str):
        return value
    names = list(value) if isinstance(value, list | tuple) else None
    if names is None:
        raise ValueError("should be a valid string, the name of a column, or a list of names")
    if not names:
        raise ValueError("lists no column; name the column, or the columns, that tell rows apart")
    wrong = next((name for name in names if not isinstance(name, str) or not name), None)
    if wrong is not None:
        raise ValueError(f"lists {wrong!r}, which is no name of a column")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"names {repeated!r} more than once")
    if len(names) == 1:
        return str(names[0])
    name = KeyColumn(names)
    if len(name) > MAX_LENGTH:
        raise ValueError(f"names of {len(name)} characters together; the columns of a key have at most {MAX_LENGTH}")
    return name


def write_key(key: str) -> str | list[str]:
    """Return a key as a declaration states it."""
    return list(key.parts) if isinstance(key, KeyColumn) else key


Key = Annotated[
    str,
    PlainValidator(read_key),
    PlainSerializer(write_key),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
    ),
]
