"""The parts of a page: sections of sentences and tables, all of them plain text."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading, sentences below it, pictures as SVG, and tables. A text page has no pictures."""

    title: str
    texts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelCard:
    """The card of a version. ``missing`` names the items that a complete card would have besides."""

    title: str
    sections: tuple[Section, ...]
    missing: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        return asdict(self)
