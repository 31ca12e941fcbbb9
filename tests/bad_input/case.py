"""A case of bad input: the delivery, its outcome, and the words of the message.

The cases are data: ``test_bad_input.py`` runs them, and the page ``docs/reference/bad-input.md`` is generated from
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from tests.bad_input.world import BAD, ROWS, SourceKind, World, Writer, as_text, good_rows

Outcome = Literal["refused", "quarantined", "published", "declaration error", "not ready"]
Deliver = Callable[[World], None]


@dataclass(frozen=True)
class Case:
    """A delivery that is not as it should be.

    Parameters
    ----------
    line : str
        The delivery in words.
    outcome : str
        The outcome.
    words : tuple of str
        Texts that the message must contain: the reason of a refusal, the reasons of quarantined rows, the warnings
        of a publication, the error of a declaration.
    deliver : callable
        Writes the delivery to the source.
    source : str
        Kind of the source.
    arrived : int
        Number of arriving rows; None if it is not known.
    bad : int
        Number of quarantined rows.
    data : dict
        Keys of the declaration's ``data`` that differ from the usual ones.
    contract : dict or None
        Keys of the contract that differ, from the first partition on; None for a loop without a contract.
    changed : dict
        Keys of the contract that change with this delivery.
    fresh : bool
        Whether the loop has no history.
    writer : callable, optional
        Writes cells as the text of a CSV file, where the case has another dialect.
    stage : str
        The stage that refuses.
    check : callable
        Further assertions on the world.
    """

    line: str
    outcome: Outcome
    words: tuple[str, ...]
    deliver: Deliver
    source: SourceKind = "parquet"
    arrived: int | None = ROWS
    bad: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    contract: dict[str, Any] | None = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    writer: Writer | None = None
    stage: str = "snapshot"
    check: Callable[[World], None] | None = None


def refused(line: str, *words: str, deliver: Deliver, **more: Any) -> Case:
    """Return a case of a refused delivery."""
    return Case(line, "refused", words, deliver, **more)


def quarantined(line: str, *words: str, deliver: Deliver, bad: int = 1, **more: Any) -> Case:
    """Return a case with quarantined rows whose good rows are published."""
    return Case(line, "quarantined", words, deliver, bad=bad, **more)


def published(line: str, *words: str, deliver: Deliver, **more: Any) -> Case:
    """Return a case of a delivery that is published."""
    return Case(line, "published", words, deliver, **more)


def table(spoil: Callable[[pa.Table], pa.Table]) -> Deliver:
    """Deliver the good week, changed."""
    return lambda world: world.put(BAD, spoil(good_rows(BAD)))


def column(name: str, make: Callable[[pa.Table], Any]) -> Deliver:
    """Deliver the good week with one column replaced, or added at the end."""

    def spoil(rows: pa.Table) -> pa.Table:
        values = make(rows)
        if name not in rows.column_names:
            return rows.append_column(name, values)
        return rows.set_column(rows.column_names.index(name), name, values)

    return table(spoil)


def values(name: str, *first: Any, kind: pa.DataType | None = None) -> Deliver:
    """Deliver the good week with the first values of a column replaced."""
    return column(
        name,
        lambda rows: pa.array([*first, *rows.column(name).to_pylist()[len(first) :]], kind or rows.column(name).type),
    )


def content(spoil: Callable[[bytes], bytes]) -> Deliver:
    """Deliver the good week's file with other bytes."""

    def deliver(world: World) -> None:
        world.put(BAD)
        world.file(BAD).write_bytes(spoil(world.file(BAD).read_bytes()))

    return deliver


def cells(name: str, *first: str) -> Deliver:
    """Deliver the good week as CSV with the first values of a column replaced by texts."""
    return texts({name: first})


def first_row(**cells: str) -> Deliver:
    """Deliver the good week as CSV with texts in the first row."""
    return texts({name: (text,) for name, text in cells.items()})


def texts(columns: Mapping[str, Sequence[str]]) -> Deliver:
    """Deliver the good week as CSV with the first values of some columns replaced by texts."""

    def deliver(world: World) -> None:
        cells = as_text(good_rows(BAD))
        for name, first in columns.items():
            for row, text in enumerate(first, start=1):
                cells[row][cells[0].index(name)] = text
        world.file(BAD).write_bytes(world.writer(cells))

    return deliver


def lines(spoil: Callable[[list[str]], list[str]]) -> Deliver:
    """Deliver the good week as CSV with other lines, the header among them."""
    return content(lambda old: "".join(spoil(old.decode().splitlines(keepends=True))).encode())


def file_text(name: str, text: str | bytes) -> Deliver:
    """Deliver a good week, and a file of declarations beside it that says ``text``."""

    def deliver(world: World) -> None:
        world.put(BAD)
        world.texts[name] = text.encode() if isinstance(text, str) else text

    return deliver


def bad_declaration(line: str, *words: str, deliver: Deliver, **more: Any) -> Case:
    """Return a case of a declaration that is refused before anything is read."""
    return Case(line, "declaration error", words, deliver, **more)


def statement(text: str) -> Deliver:
    """Deliver the good week as rows of a database, changed by a statement; ``{table}`` is the table."""

    def deliver(world: World) -> None:
        world.put(BAD)
        world.run(text.replace("{table}", world.table))

    return deliver
