"""The steps of facts in SQL: read by index as of any partition, and written in batches of records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, delete, exists, func, insert, select, update

from airflow_mlops.core.ledger.fact_codecs import decode, encode
from airflow_mlops.core.ledger.facts import FactSource, Stretch
from airflow_mlops.core.ledger.fold import View
from airflow_mlops.core.ledger.projection import Step
from airflow_mlops.core.ledger.sql_schema import FACT

Result = TypeVar("Result")
PAGE = 64
"""Keys that are read at a time where nobody said how many are wanted."""
Key = tuple[str, str]
NEWEST = "~"
"""Greater than every partition key."""

UNLIMITED = 2**31 - 1
"""A limit that no range of keys reaches."""
KEYS_AT_ONCE = 500
"""Keys that one query asks for: a database takes only so many parameters."""

_OTHER = FACT.alias("other")
_OF_KEY = and_(FACT.c.model == bindparam("model"), FACT.c.fact == bindparam("fact"), FACT.c.key == bindparam("key"))
_HOLDING = select(func.max(FACT.c.partition)).where(_OF_KEY, FACT.c.partition <= bindparam("since")).scalar_subquery()
_STEPS = (
    select(FACT.c.partition, FACT.c.value)
    .where(_OF_KEY, FACT.c.partition >= func.coalesce(_HOLDING, ""))
    .order_by(FACT.c.partition)
)
"""The step of a key that holds at ``since``, and those after it. To build a statement costs more than to run it."""
_EARLIER_STEPS = _STEPS.where(FACT.c.partition < bindparam("until"))
_KNOWN_KEYS = (
    select(FACT.c.fact, FACT.c.key)
    .where(
        FACT.c.model == bindparam("model"),
        FACT.c.fact.in_(bindparam("facts", expanding=True)),
        FACT.c.key.in_(bindparam("keys", expanding=True)),
    )
    .distinct()
)


_BOUNDS: dict[str, Callable[[ColumnElement[str]], ColumnElement[bool]]] = {
    "since": lambda key: key >= bindparam("since"),
    "after": lambda key: key > bindparam("after"),
    "until": lambda key: key <= bindparam("until"),
    "before": lambda key: key < bindparam("before"),
}


def _within(partition: ColumnElement[str], view: frozenset[str]) -> list[ColumnElement[bool]]:
    """Return the SQL conditions of the steps in a view of a form; a step without a partition has the empty key."""
    conditions: list[ColumnElement[bool]] = []
    if "as_of" in view:
        conditions.append(partition <= bindparam("view_as_of"))
    if "before" in view:
        conditions.append((partition < bindparam("view_before")) | (partition == ""))
    return conditions


@cache
def _value_query(view: frozenset[str]) -> Select[Any]:
    """Return the query of the value of a key in a view of a form."""
    query = select(FACT.c.value).where(_OF_KEY, *_within(FACT.c.partition, view))
    return query.order_by(FACT.c.partition.desc()).limit(1)


@cache
def _range_query(columns: str, bounds: frozenset[str], view: frozenset[str], *, descending: bool) -> Select[Any]:
    """Return the query of the newest step of each key of a range, where that step has a value.

    A statement is built once for every form of it, since to build it costs more than to run it.

    Parameters
    ----------
    columns : str
        ``keys``, ``items`` or ``count``.
    bounds, view : frozenset of str
        Which bounds the range and the view have.
    descending : bool
        Whether the greatest key comes first; of no matter to a count.
    """
    selected: dict[str, Select[Any]] = {
        "keys": select(FACT.c.key),
        "items": select(FACT.c.key, FACT.c.value),
        "count": select(func.count()),
    }
    newer = and_(
        _OTHER.c.model == FACT.c.model,
        _OTHER.c.fact == FACT.c.fact,
        _OTHER.c.key == FACT.c.key,
        _OTHER.c.partition > FACT.c.partition,
        *_within(_OTHER.c.partition, view),
    )
    query = (
        selected[columns]
        .select_from(FACT)
        .where(
            FACT.c.model == bindparam("model"),
            FACT.c.fact == bindparam("fact"),
            FACT.c.value.is_not(None),
            *_within(FACT.c.partition, view),
            *(_BOUNDS[bound](FACT.c.key) for bound in sorted(bounds)),
            ~exists().where(newer),
        )
    )
    if columns == "count":
        return query
    return query.order_by(FACT.c.key.desc() if descending else FACT.c.key).limit(bindparam("limit"))


class Run(Protocol):
    """Runs an action on a connection and returns its result."""

    def __call__(self, action: Callable[[Connection], Result], /) -> Result:
        """Run ``action``."""


class SqlFacts:
    """The facts of a model in a view; a :class:`~airflow_mlops.core.ledger.facts.FactSource`.

    Parameters
    ----------
    run : callable
        Runs a query on a connection and returns what it gave.
    model : str
        Name of the model.
    view : View
        Which partitions count.
    """

    def __init__(self, run: Run, model: str, view: View) -> None:
        self._run, self._model = run, model
        self._within = {name: value for name, value in vars(view).items() if value is not None}
        self._form = frozenset(self._within)

    def value(self, table: str, key: str) -> Any | None:
        """Return the value of a key; None where there is none."""
        query, values = _value_query(self._form), self._values(table, key=key)
        return decode(table, self._run(lambda connection: connection.execute(query, values).scalar()))

    def keys(self, table: str, stretch: Stretch) -> list[str]:
        """Return the keys of a range, in its order."""
        rows = self._run(partial(_rows, query=self._query("keys", stretch), values=self._range(table, stretch)))
        return [str(key) for (key,) in rows]

    def items(self, table: str, stretch: Stretch) -> Iterator[tuple[str, Any]]:
        """Yield the keys of a range with their values, in its order; a page at a time."""
        left, page = stretch.limit, stretch
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            values = {**self._range(table, page), "limit": size}
            rows = self._run(partial(_rows, query=self._query("items", page), values=values))
            for key, value in rows:
                yield str(key), decode(table, value)
            if len(rows) < size:
                return
            left = None if left is None else left - len(rows)
            last = str(rows[-1][0])
            narrowed = {"before": last, "until": None} if stretch.newest_first else {"after": last, "since": None}
            page = Stretch(**{**vars(page), **narrowed})

    def count(self, table: str, stretch: Stretch) -> int:
        """Return the number of keys in a range."""
        query, values = self._query("count", stretch), self._range(table, stretch)
        return self._run(lambda connection: int(connection.execute(query, values).scalar_one()))

    def _query(self, columns: str, stretch: Stretch) -> Select[Any]:
        bounds = frozenset(name for name in _BOUNDS if getattr(stretch, name) is not None)
        return _range_query(columns, bounds, self._form, descending=stretch.newest_first)

    def _range(self, table: str, stretch: Stretch) -> dict[str, Any]:
        bounds = {name: getattr(stretch, name) for name in _BOUNDS if getattr(stretch, name) is not None}
        return self._values(table, **bounds, limit=UNLIMITED if stretch.limit is None else stretch.limit)

    def _values(self, table: str, **values: Any) -> dict[str, Any]:
        within = {f"view_{name}": value for name, value in self._within.items()}
        return {"model": self._model, "fact": table, **within, **values}


def _rows(connection: Connection, query: Select[Any], values: dict[str, Any]) -> list[Any]:
    return list(connection.execute(query, values).all())


class SqlSteps:
    """The steps of a model inside one transaction; a :class:`~airflow_mlops.core.ledger.projection.StepStore`.

    What is read is kept and what changes is written by :meth:`flush`, so that a key which many records of a batch
    change is read and written once.
    """

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection, self._model = connection, model
        self._steps: dict[Key, list[Step]] = {}
        self._stored: dict[Key, dict[str, Any]] = {}
        self._read_from: dict[Key, str] = {}
        self._changed: set[Key] = set()

    def expect(self, places: Collection[Key]) -> None:
        """Look up in one query which keys have no steps yet."""
        unknown = sorted({key for table, key in places if (table, key) not in self._steps})
        facts = sorted({table for table, _ in places})
        for start in range(0, len(unknown), KEYS_AT_ONCE):
            keys = unknown[start : start + KEYS_AT_ONCE]
            rows = self._connection.execute(_KNOWN_KEYS, {"model": self._model, "facts": facts, "keys": keys})
            known, wanted = {(str(table), str(key)) for table, key in rows}, set(keys)
            for place in places:
                if place[1] in wanted and place not in known and place not in self._steps:
                    self._steps[place], self._stored[place], self._read_from[place] = [], {}, ""

    def steps(self, table: str, key: str, since: str) -> list[Step]:
        """Return the step that holds at ``since``, if there is one, and those after it, in order."""
        steps = self._loaded(table, key, since)
        first = max((place for place, step in enumerate(steps) if step.partition <= since), default=0)
        return steps[first:]

    def replace(self, table: str, key: str, before: Sequence[Step], after: Sequence[Step]) -> None:
        """Replace some steps of a key by others."""
        kept = [step for step in self._steps[table, key] if step not in before]
        self._steps[table, key] = sorted([*kept, *after], key=lambda step: step.partition)
        self._changed.add((table, key))

    def seen(self, view: View) -> FactSource:
        """Return the facts in a view, including the changes of this transaction."""
        return _SeenSteps(self, view)

    def value(self, table: str, key: str, view: View) -> Any | None:
        """Return the value of a key in a view."""
        steps = reversed(self._loaded(table, key, NEWEST if view.as_of is None else view.as_of))
        return next((step.value for step in steps if view.covers(step.partition or None)), None)

    def flush(self) -> None:
        """Write the changed steps."""
        gone, new, other = [], [], []
        for table, key in sorted(self._changed):
            stored, kept = self._stored[table, key], set()
            for step in self._steps[table, key]:
                row = {"f": table, "k": key, "p": step.partition}
                kept.add(step.partition)
                if step.partition not in stored:
                    new.append(
                        {"fact": table, "key": key, "partition": step.partition, "value": encode(table, step.value)}
                    )
                elif stored[step.partition] != step.value:
                    other.append({**row, "v": encode(table, step.value)})
            gone += [{"f": table, "k": key, "p": partition} for partition in stored if partition not in kept]
        place = and_(
            FACT.c.model == self._model,
            FACT.c.fact == bindparam("f"),
            FACT.c.key == bindparam("k"),
            FACT.c.partition == bindparam("p"),
        )
        if gone:
            self._connection.execute(delete(FACT).where(place), gone)
        if other:
            self._connection.execute(update(FACT).where(place).values(value=bindparam("v")), other)
        if new:
            self._connection.execute(insert(FACT), [{"model": self._model, **row} for row in new])
        self._steps, self._stored, self._read_from, self._changed = {}, {}, {}, set()

    def _loaded(self, table: str, key: str, since: str) -> list[Step]:
        """Return the steps of a key, read from the one that holds at ``since`` at least."""
        place = (table, key)
        if place not in self._steps:
            self._steps[place], self._stored[place] = [], {}
        elif self._read_from[place] <= since:
            return self._steps[place]
        query, values = _STEPS, {"model": self._model, "fact": table, "key": key, "since": since}
        if place in self._read_from:
            query, values = _EARLIER_STEPS, {**values, "until": self._read_from[place]}
        read = [
            Step(str(partition), decode(table, value)) for partition, value in self._connection.execute(query, values)
        ]
        known = {step.partition for step in self._steps[place]} | self._stored[place].keys()
        more = [step for step in read if step.partition not in known]
        self._steps[place] = sorted([*more, *self._steps[place]], key=lambda step: step.partition)
        self._stored[place].update({step.partition: step.value for step in more})
        self._read_from[place] = since
        return self._steps[place]


class _SeenSteps:
    """The facts that effects read: single values, never a whole table."""

    def __init__(self, steps: SqlSteps, view: View) -> None:
        self._steps, self._view = steps, view

    def value(self, table: str, key: str) -> Any | None:
        return self._steps.value(table, key, self._view)

    def keys(self, table: str, stretch: Stretch) -> list[str]:
        raise NotImplementedError("a record's effects read single facts")

    def items(self, table: str, stretch: Stretch) -> Iterator[tuple[str, Any]]:
        raise NotImplementedError("a record's effects read single facts")

    def count(self, table: str, stretch: Stretch) -> int:
        raise NotImplementedError("a record's effects read single facts")
