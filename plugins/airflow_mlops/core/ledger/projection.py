"""The projection: facts stored beside the ledger, updated incrementally by new records, and read as of any partition.

The state as of a partition counts the records of partitions up to it, so a value is a step function of the partition:
each :class:`Step` holds from its partition until the next one. A record of partition *p* changes the steps from *p* on.
That is the newest step alone wherever partitions come in order, and few where they do not, so a record costs the same
however long the history is.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_mlops.core.ledger.effects import effects_of
from airflow_mlops.core.ledger.facts import FactSource, FoldedFacts, Stretch
from airflow_mlops.core.ledger.fold import View
from airflow_mlops.core.ledger.record import Record


@dataclass(frozen=True)
class Step:
    """The value of a key as of ``partition`` and later ones; None from where it is removed."""

    partition: str
    value: Any | None


class StepStore(Protocol):
    """A store of the steps of all keys."""

    def steps(self, table: str, key: str, since: str) -> list[Step]:
        """Return the step that holds at ``since``, if there is one, and those after it, in order."""

    def replace(self, table: str, key: str, before: Sequence[Step], after: Sequence[Step]) -> None:
        """Replace some steps of a key by others."""

    def seen(self, view: View) -> FactSource:
        """Return the facts in a view."""


def places_of(records: Iterable[Record[Any]]) -> set[tuple[str, str]]:
    """Return the tables and keys that records change or read, except those that depend on earlier facts."""
    effects = [effect for record in records for effect in effects_of(record, _NOTHING)]
    changed = {(effect.table, effect.key) for effect in effects}
    return changed.union(*(effect.reads for effect in effects))


def apply(record: Record[Any], store: StepStore) -> None:
    """Apply one record to the steps."""
    since = record.partition or ""
    changes = []
    for effect in effects_of(record, store.seen(View())):
        before = store.steps(effect.table, effect.key, since)
        # The value may change wherever it, or a fact that the effect reads, has a step.
        steps = [before, *(store.steps(table, key, since) for table, key in effect.reads)]
        starts = sorted({since, *(step.partition for each in steps for step in each if step.partition > since)})
        after: list[Step] = [step for step in before if step.partition < since]
        # A step that begins at `since` may end a value from before it, which is not among those that were read.
        ends_unread = bool(before) and before[0].partition == since
        for start in starts:
            value = next((step.value for step in reversed(before) if step.partition <= start), None)
            value = effect.change(value, store.seen(View(as_of=start)))
            if value != (after[-1].value if after else None) or (ends_unread and not after):
                after.append(Step(start, value))
        if after != before:
            changes.append((effect.table, effect.key, before, after))
    # All changes are computed from the facts before the record, and only then made.
    for change in changes:
        store.replace(*change)


class MemoryStepStore:
    """Steps in memory; a :class:`StepStore`."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, list[Step]]] = {}
        self._ordered: dict[str, list[str]] = {}

    def steps(self, table: str, key: str, since: str) -> list[Step]:
        """Return the step that holds at ``since``, if there is one, and those after it, in order."""
        steps = self.tables.get(table, {}).get(key, [])
        first = max(bisect_right(steps, since, key=lambda step: step.partition) - 1, 0)
        return steps[first:]

    def replace(self, table: str, key: str, before: Sequence[Step], after: Sequence[Step]) -> None:
        """Replace some steps of a key by others."""
        held = self.tables.setdefault(table, {})
        if key not in held:
            insort(self._ordered.setdefault(table, []), key)
        kept = [step for step in held.get(key, []) if step not in before]
        held[key] = sorted([*kept, *after], key=lambda step: step.partition)

    def seen(self, view: View) -> FactSource:
        """Return the facts in a view."""
        return _SeenInMemory(self, view)

    def ordered(self, table: str) -> list[str]:
        """Return the keys of a table, in order."""
        return self._ordered.get(table, [])


class _SeenInMemory:
    def __init__(self, store: MemoryStepStore, view: View) -> None:
        self._store, self._view = store, view

    def value(self, table: str, key: str) -> Any | None:
        steps = self._store.tables.get(table, {}).get(key, ())
        return next((step.value for step in reversed(steps) if self._view.covers(step.partition or None)), None)

    def keys(self, table: str, stretch: Stretch) -> list[str]:
        return [key for key, _ in self.items(table, stretch)]

    def items(self, table: str, stretch: Stretch) -> Iterator[tuple[str, Any]]:
        keys = list(self._store.ordered(table))
        left = stretch.limit
        for key in reversed(keys) if stretch.newest_first else keys:
            if left == 0:
                return
            value = self.value(table, key) if stretch.holds(key) else None
            if value is not None:
                yield key, value
                left = None if left is None else left - 1

    def count(self, table: str, stretch: Stretch) -> int:
        return sum(stretch.holds(key) and self.value(table, key) is not None for key in self._store.ordered(table))


_NOTHING = FoldedFacts()
