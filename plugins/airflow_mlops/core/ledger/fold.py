"""Fold the records of a ledger to the state of its loop; no other state exists.

With ``as_of`` only what was recorded for partitions up to that key counts, which is what makes a backfill see the world
as it was. The projection must give the same; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.ledger.effects import effects_of
from airflow_mlops.core.ledger.facts import FoldedFacts
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import MACHINE, LoopState
from airflow_mlops.core.ledger.state_machine import StateMachine


@dataclass(frozen=True)
class View:
    """A filter of partitions: those up to ``as_of``, or below ``before``; all of them without either."""

    as_of: str | None = None
    before: str | None = None

    def covers(self, partition: str | None) -> bool:
        """Return whether a record about a partition is in the view; a record without a partition always is."""
        if partition is None:
            return True
        return (self.as_of is None or partition <= self.as_of) and (self.before is None or partition < self.before)


class Fold:
    """A state that grows record by record."""

    def __init__(self) -> None:
        self.facts, self.sequence = FoldedFacts(), 0

    def add(self, record: Record[Any]) -> None:
        """Apply one record."""
        self.sequence = record.sequence
        changes = [
            (effect, effect.change(self.facts.value(effect.table, effect.key), self.facts))
            for effect in effects_of(record, self.facts)
        ]
        for effect, value in changes:
            self.facts.put(effect.table, effect.key, value)

    @property
    def state(self) -> LoopState:
        """The state after the records so far."""
        machine: StateMachine = self.facts.value(MACHINE, "") or StateMachine()
        return LoopState(self.sequence, machine, self.facts)


def fold(records: Iterable[Record[Any]], *, as_of: str | None = None, before: str | None = None) -> LoopState:
    """Return the state after ``records``.

    Parameters
    ----------
    records : iterable of Record
        All records of a model, oldest first.
    as_of, before : str, optional
        Count only what was recorded for partitions at or before ``as_of``, or strictly before
        ``before``. ``sequence`` is the number of the last record either way: it is what a writer read.
    """
    folded, view = Fold(), View(as_of, before)
    for record in records:
        if view.covers(record.partition):
            folded.add(record)
        folded.sequence = record.sequence
    return folded.state
