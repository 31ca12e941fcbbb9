r"""The text of a key of several columns: the texts of its parts with ``+`` between them.

A ``\`` or a ``+`` within a part is written with a ``\`` before it, so that no two keys have one text:

    ("1017", "2")    1017+2
    ("a+b", "c")     a\+b+c
    ("a", "b+c")     a+b\+c
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.masking import keyed_hash, mask_key
from airflow_mlops.core.data.read_text import format_column, parse_column
from airflow_mlops.core.declaration.key_columns import SIGN, is_joined, key_columns
from airflow_mlops.core.errors import DataError

if TYPE_CHECKING:
    from airflow_mlops.core.workspace import Workspace

ESCAPE = "\\"
_PARTS = re.compile(r"(?:[^\\+]|\\.)*", re.DOTALL)


def join_key(texts: Sequence[str]) -> str:
    r"""Return the text of a key from the texts of its parts.

    >>> print(join_key(["1017", "2"]), join_key(["a+b", "c"]))
    1017+2 a\+b+c
    """
    return SIGN.join(text.replace(ESCAPE, ESCAPE * 2).replace(SIGN, ESCAPE + SIGN) for text in texts)


def split_key(text: str) -> list[str]:
    r"""Return the texts of the parts of a key.

    >>> split_key(join_key(["a+b", "", "c"]))
    ['a+b', '', 'c']
    """
    parts, start = [], 0
    while start <= len(text):
        match = _PARTS.match(text, start)
        assert match is not None, "the pattern matches an empty part"
        end = match.end() if match.end() == len(text) or text[match.end()] == SIGN else len(text)
        parts.append(re.sub(r"\\(.)", r"\1", text[start:end], flags=re.DOTALL))
        start = end + 1
    return parts


def join_key_columns(columns: Sequence[pa.Array]) -> pa.Array:
    """Return the texts of keys from the columns of their parts, shape (n_rows,); null where a part is null.

    Parameters
    ----------
    columns : sequence of pyarrow.Array
        The parts in the order of the key, in the types of snapshots or as text; shape (n_rows,) each.
    """
    texts = []
    for column in columns:
        text = format_column(column)
        for sign in (ESCAPE, SIGN):
            if pc.any(pc.match_substring(text, sign), min_count=0).as_py():
                text = pc.replace_substring(text, sign, ESCAPE + sign)
        texts.append(text)
    return pc.binary_join_element_wise(*texts, SIGN)


def stored_key(workspace: Workspace, key: str) -> str:
    """Return a key as snapshots hold it: masked where the contract masks it or a part of it.

    Parameters
    ----------
    key : str
        The key as it stands in the source; the parts of a key of several columns with ``+`` between them.
    """
    column = workspace.loop.data.key
    if not is_joined(column):
        return masked_text(workspace, column, key)
    texts = canonical_parts(workspace, key)
    return join_key([masked_text(workspace, *pair) for pair in zip(key_columns(column), texts, strict=False)])


def plain_key(workspace: Workspace, key: str) -> str:
    """Return a key without masks, each part of a key of several columns in the one text of its value."""
    return join_key(canonical_parts(workspace, key)) if is_joined(workspace.loop.data.key) else key


def require_whole_key(workspace: Workspace, key: str) -> None:
    """Raise DataError unless a text has as many parts as the key of the loop has columns.

    Raises
    ------
    DataError
        If it has more or fewer.
    """
    column = workspace.loop.data.key
    if is_joined(column) and len(split_key(key)) != len(key_columns(column)):
        raise DataError(
            f"{key!r} has {len(split_key(key))} parts, and the key is {', '.join(key_columns(column))}: write the "
            f"values in that order with {SIGN} between them, and a {ESCAPE} before a {SIGN} within a value"
        )


def canonical_parts(workspace: Workspace, key: str) -> list[str]:
    """Return the texts of a key's parts, each as :func:`format_column` writes the value that it stands for."""
    column, contract = workspace.loop.data.key, workspace.contract
    if not is_joined(column):
        return [key]
    texts, names = split_key(key), key_columns(column)
    if contract is None:
        return texts
    known = [canonical_text(text, contract.columns[name].source_type) for name, text in zip(names, texts, strict=False)]
    return [*known, *texts[len(known) :]]


def canonical_text(text: str, kind: pa.DataType) -> str:
    """Return a text as :func:`format_column` writes its value; the text itself if it is no value of the type."""
    values, _invalid = parse_column(pa.array([text], pa.string()), kind)
    written = format_column(values)[0].as_py()
    return text if written is None else str(written)


def masked_text(workspace: Workspace, column: str, text: str) -> str:
    """Return the text of a value, or its keyed hash if the contract masks the column."""
    contract = workspace.contract
    masks = contract is not None and column in contract.columns and contract.columns[column].mask
    return keyed_hash(text, mask_key(workspace.secret, column)) if masks else text
