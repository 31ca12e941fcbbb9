"""Choose the key of a draft: one column that tells all rows apart, or else two that do together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts
from airflow_mlops.core.data.drafting.learn_columns import LearnedTable, open_file, require_column
from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.row_hash import Hashes, column_constants, hash_cells, mix
from airflow_mlops.core.declaration.arrow_types import is_text, is_time
from airflow_mlops.core.declaration.key_columns import read_key
from airflow_mlops.core.errors import DeclarationError

KEY_WORDS = ("id", "key", "uuid", "guid", "number", "no", "code")
PART_WORDS = (*KEY_WORDS, "line", "position", "pos", "item", "index", "seq", "sequence", "row", "part")
"""Last words of the names of columns that are tried as parts of a key before others."""
MAX_PARTS = 8
"""Largest number of columns whose pairs are tried."""


def choose_key(table: LearnedTable, files: Sequence[Path], stated: str | None) -> tuple[str, str]:
    """Return the key, and a remark if it was guessed.

    Parameters
    ----------
    table : LearnedTable
        The columns of the files.
    files : sequence of Path
        The files, which are read once more where columns are tried together.
    stated : str, optional
        The column, or several with commas between them.

    Raises
    ------
    DeclarationError
        If the stated columns cannot be the key, or neither a column nor a pair can.
    """
    if stated is not None:
        return require_key(table, files, stated), ""
    candidates = [column.name for column in table.columns.values() if can_be_key(column.value_type) and column.unique]
    order = list(table.columns)
    if candidates:
        best = min(candidates, key=lambda name: (name_rank(name, KEY_WORDS), order.index(name)))
        return best, f"{best} is the key, as it is never null and never repeats{and_others(candidates, best)}"
    parts = sorted(
        (column for column in table.columns.values() if can_be_part(column, table)),
        key=lambda column: (part_rank(column), order.index(column.name)),
    )[:MAX_PARTS]
    names = [column.name for column in parts]
    pairs = [sorted(pair, key=order.index) for pair in combinations(names, 2) if sum(map(len, pair)) < 100]
    unique = unique_together(table, files, [tuple(pair) for pair in pairs])
    if not unique:
        raise DeclarationError(
            "no column tells all rows apart (text or whole numbers, never null, never twice), and no two do together; "
            "say which are the key with --key a,b,c, or draft from files that do not overlap",
            key="key",
        )
    best_pair = min(unique, key=lambda pair: sum(map(names.index, pair)))
    written = [" and ".join(pair) for pair in unique]
    remark = (
        "no column tells all rows apart; "
        f"{' and '.join(best_pair)} are the key together, as no pair of their values repeats"
        f"{and_others(written, ' and '.join(best_pair))}"
    )
    return read_key(best_pair), remark


def and_others(candidates: Sequence[str], best: str) -> str:
    """Return the end of a remark that lists the candidates which were not chosen."""
    others = [name for name in candidates if name != best]
    return f"; so could be {', '.join(others[:5])}" if others else ""


def require_key(table: LearnedTable, files: Sequence[Path], stated: str) -> str:
    """Return the key that a person states.

    Raises
    ------
    DeclarationError
        If there is no such column, or the columns cannot be the key.
    """
    names = [stated] if stated in table.columns else [name.strip() for name in stated.split(",")]
    columns = [require_column(table, name) for name in names]
    try:
        key = read_key(names)
    except ValueError as error:
        raise DeclarationError(str(error), key="key") from None
    if len(columns) == 1:
        if not columns[0].unique:
            raise DeclarationError(
                f"{names[0]!r} cannot be the key: a key is text or a whole number, never null and never there twice",
                key="key",
            )
        return key
    wrong = next((column for column in columns if not can_be_part(column, table)), None)
    if wrong is not None:
        raise DeclarationError(
            f"{wrong.name!r} cannot be part of the key: a part is text, a whole number, a date or a time, and never "
            "null",
            key="key",
        )
    if not unique_together(table, files, [tuple(names)]):
        raise DeclarationError(
            f"{', '.join(names)} cannot be the key: some rows have the same values in all of these columns", key="key"
        )
    return key


def unique_together(
    table: LearnedTable, files: Sequence[Path], keys: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return those of some tuples of columns whose values tell all rows of the files apart."""
    with ExitStack() as stack:
        spools = {key: stack.enter_context(KeySpool()) for key in keys}
        for file in files if spools else ():
            with open_file(file, files, table.form) as arrival:
                for batch in arrival.batches:
                    spools = {key: spool for key, spool in spools.items() if add_batch(spool, batch, key)}
        return [key for key, spool in spools.items() if not len(spool.duplicates())]


def add_batch(spool: KeySpool, batch: pa.RecordBatch, key: tuple[str, ...]) -> bool:
    """Add the hashes of a batch to those of a key; return whether they differ from each other."""
    hashes: Hashes = np.zeros(batch.num_rows, np.uint64)
    for name in key:
        hashes += hash_cells(name, batch.column(name))[1] * column_constants(name)[0]
    hashes = mix(hashes)
    spool.add(hashes)
    return len(np.unique(hashes)) == len(hashes)


def can_be_part(column: ColumnFacts, table: LearnedTable) -> bool:
    """Return whether a column may be part of a key: text, whole numbers, dates or times, never null or missing."""
    kind = column.kind
    return (
        not column.unsupported
        and column.nulls == 0
        and column.rows == table.rows
        and (can_be_key(kind) or is_time(kind))
    )


def part_rank(column: ColumnFacts) -> tuple[bool, bool, int]:
    """Return the order in which columns are tried as parts: times last, then by name, text after numbers."""
    kind = column.kind
    return is_time(kind), name_rank(column.name, PART_WORDS) == len(PART_WORDS), int(is_text(kind))


def name_rank(name: str, words: Sequence[str]) -> int:
    """Return the index in ``words`` of the last word of a name; the number of words if it is none of them."""
    last = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())[-1]
    return words.index(last) if last in words else len(words)


def can_be_key(kind: pa.DataType) -> bool:
    """Return whether a column of a type may be a key: text or integers."""
    return is_text(kind) or bool(pa.types.is_integer(kind))
