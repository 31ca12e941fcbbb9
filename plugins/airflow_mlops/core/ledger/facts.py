"""Facts folded from the ledger's records: tables of values by key, read by key or by range of keys.

A table holds the newest value of each key, such as the publication of a partition or the card of a version. Where the
values come from, a fold or a projection in a database, is behind :class:`FactSource`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

V = TypeVar("V")


@dataclass(frozen=True)
class Stretch:
    """A range of keys.

    ``since`` is the first key that counts and ``after`` a key that all are greater than, ``until`` the last key that
    counts and ``before`` a key that all are less than; ``limit`` bounds how many, from the newest where
    ``newest_first``.
    """

    since: str | None = None
    after: str | None = None
    until: str | None = None
    before: str | None = None
    newest_first: bool = False
    limit: int | None = None

    def holds(self, key: str) -> bool:
        """Return whether a key lies in the range."""
        return (
            (self.since is None or key >= self.since)
            and (self.after is None or key > self.after)
            and (self.until is None or key <= self.until)
            and (self.before is None or key < self.before)
        )


class FactSource(Protocol):
    """A source of the values of all tables, as of one moment."""

    def value(self, table: str, key: str) -> Any | None:
        """Return the value of a key; None where there is none."""

    def keys(self, table: str, stretch: Stretch) -> list[str]:
        """Return the keys of a range, in its order."""

    def items(self, table: str, stretch: Stretch) -> Iterator[tuple[str, Any]]:
        """Yield the keys of a range with their values, in its order."""

    def count(self, table: str, stretch: Stretch) -> int:
        """Return the number of keys in a range, regardless of its limit."""


class Facts(Generic[V]):
    """One table of facts, ordered by key."""

    def __init__(self, source: FactSource, table: str) -> None:
        self._source, self._table = source, table

    def get(self, key: str) -> V | None:
        """Return the value of a key; None where there is none."""
        return self._source.value(self._table, key)

    def __getitem__(self, key: str) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._source.keys(self._table, Stretch()))

    def __len__(self) -> int:
        return self._source.count(self._table, Stretch())

    def __bool__(self) -> bool:
        return bool(self._source.keys(self._table, Stretch(limit=1)))

    def keys(
        self, *, since: str | None = None, after: str | None = None, until: str | None = None, before: str | None = None
    ) -> list[str]:
        """Return the keys from ``since`` to ``until``, or beyond ``after`` and short of ``before``, in order."""
        return self._source.keys(self._table, Stretch(since=since, after=after, until=until, before=before))

    def items(
        self, *, since: str | None = None, after: str | None = None, until: str | None = None
    ) -> Iterator[tuple[str, V]]:
        """Yield keys and values, the least key first."""
        return self._source.items(self._table, Stretch(since=since, after=after, until=until))

    def values(self) -> Iterator[V]:
        """Yield the values, that of the least key first."""
        return (value for _, value in self.items())

    def newest_first(self, *, until: str | None = None, limit: int | None = None) -> Iterator[tuple[str, V]]:
        """Yield keys and values lazily, the greatest key first; no more than ``limit`` of them."""
        return self._source.items(self._table, Stretch(until=until, newest_first=True, limit=limit))

    def newest(self, *, until: str | None = None, before: str | None = None) -> str | None:
        """Return the greatest key, at or before ``until`` or short of ``before``; None where there is none."""
        stretch = Stretch(until=until, before=before, newest_first=True, limit=1)
        return next(iter(self._source.keys(self._table, stretch)), None)

    def oldest(self) -> str | None:
        """Return the least key; None where there is none."""
        return next(iter(self._source.keys(self._table, Stretch(limit=1))), None)

    def last(self, count: int, *, until: str | None = None) -> list[str]:
        """Return the ``count`` greatest keys at or before ``until``, in order."""
        if count <= 0:
            return []
        return self._source.keys(self._table, Stretch(until=until, newest_first=True, limit=count))[::-1]

    def count(self, *, since: str | None = None, after: str | None = None, until: str | None = None) -> int:
        """Return the number of keys from ``since``, or beyond ``after``, to ``until``."""
        return self._source.count(self._table, Stretch(since=since, after=after, until=until))


class FoldedFacts:
    """All tables in memory after a fold of records; a :class:`FactSource`."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Any]] = {}

    def value(self, table: str, key: str) -> Any | None:
        """Return the value of a key; None where there is none."""
        return self.tables.get(table, {}).get(key)

    def keys(self, table: str, stretch: Stretch) -> list[str]:
        """Return the keys of a range, in its order."""
        held = sorted(filter(stretch.holds, self.tables.get(table, {})), reverse=stretch.newest_first)
        return held[: stretch.limit]

    def items(self, table: str, stretch: Stretch) -> Iterator[tuple[str, Any]]:
        """Yield the keys of a range with their values, in its order."""
        for key in self.keys(table, stretch):
            yield key, self.tables[table][key]

    def count(self, table: str, stretch: Stretch) -> int:
        """Return the number of keys in a range."""
        return sum(map(stretch.holds, self.tables.get(table, {})))

    def put(self, table: str, key: str, value: Any | None) -> None:
        """Set the value of a key, or remove it."""
        if value is None:
            self.tables.get(table, {}).pop(key, None)
        else:
            self.tables.setdefault(table, {})[key] = value
