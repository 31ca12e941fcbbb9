"""Put the features of a Feast repository beside rows: each row what was known of its entity at its time.

Feast is asked view by view for each distinct pair of entity and time, and what it says is put beside the rows here:
its file store leaves out entities that have no value yet and keeps one row of several with the same entity and time,
and neither may cost a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.declaration.arrow_types import canonical_type
from airflow_mlops.core.errors import MlopsError, SourceUnreachableError, SourceUnreadableError

EVENT_TIME = "event_timestamp"
"""What every offline store of Feast calls the time of an entity row."""
PAIR = "airflow_mlops_pair"
MOMENT = pa.timestamp("us", tz="UTC")
EXACT = 2**53
"""From here on, a float does not hold every integer."""


@dataclass(frozen=True)
class View:
    """One feature view: by which columns it is joined, and what is taken from it."""

    name: str
    keys: tuple[str, ...]
    features: tuple[tuple[str, pa.DataType], ...]


@dataclass(frozen=True)
class FeatureJoin:
    """Joins the features of some views to batches of entity rows.

    Parameters
    ----------
    store : feast.FeatureStore
        Who is asked.
    views : sequence of View
        What for.
    time : str
        Column of the entity rows with their time.
    where : str
        What is read, for errors.
    """

    store: Any
    views: Sequence[View]
    time: str
    where: str

    def schema(self, entities: pa.Schema) -> pa.Schema:
        """Return the columns of the joined rows, or refuse entity rows that cannot be joined.

        Raises
        ------
        SourceUnreadableError
        """
        for view in self.views:
            for name in (*view.keys, self.time):
                if name not in entities.names:
                    raise SourceUnreadableError(
                        f"{self.where}: the entity rows have no column {name!r}, by which the view {view.name!r} is "
                        f"joined; they have {', '.join(entities.names)}"
                    )
        kind = entities.field(self.time).type
        if not pa.types.is_timestamp(kind):
            raise SourceUnreadableError(
                f"{self.where}: the time of the entity rows, {self.time!r}, is {kind}; Feast joins by a timestamp"
            )
        schema = entities.remove_metadata()
        for view in self.views:
            for name, kind in view.features:
                if name in schema.names:
                    raise SourceUnreadableError(
                        f"{self.where}: the feature {view.name}:{name} has the name of a column that is there already"
                    )
                schema = schema.append(pa.field(name, kind))
        return schema

    def joined(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Return a batch with its features, null where a view knew nothing; as many rows, in the same order."""
        columns = list(batch.columns)
        for view in self.views:
            columns += self._features_of(view, batch)
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _features_of(self, view: View, batch: pa.RecordBatch) -> list[pa.Array]:
        pairs, of_row = distinct_pairs(batch, view.keys, self.time)
        if not pairs.num_rows:
            return [pa.nulls(batch.num_rows, kind) for _, kind in view.features]
        with told(self.where):
            found = self.store.get_historical_features(
                entity_df=pairs.to_pandas(),
                features=[f"{view.name}:{name}" for name, _ in view.features],
                filter_by_created_timestamp=True,  # a value that was filled in afterwards was not known then
            ).to_arrow()
            answered = np.asarray(found.column(PAIR).to_numpy(), np.int64)
        if len(np.unique(answered)) != len(answered):
            raise SourceUnreadableError(
                f"{self.where}: the view {view.name!r} gave {len(answered):,} rows for {pairs.num_rows:,} pairs of "
                "entity and time, some of them twice"
            )
        place = np.full(pairs.num_rows + 1, -1)  # the last is of rows without an entity or a time
        place[answered] = np.arange(len(answered))
        at = pa.array(place[of_row], pa.int64(), mask=place[of_row] < 0)
        return [
            as_declared(found.column(name), kind, f"{self.where}: the feature {view.name}:{name}").take(at)
            for name, kind in view.features
        ]


def distinct_pairs(batch: pa.RecordBatch, keys: Sequence[str], time: str) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """Return each pair of entity and time once, numbered, and the number of each row's pair, -1 where it has none.

    >>> batch = pa.RecordBatch.from_pydict({"id": [7, 7, None], "at": pa.array([0, 0, 0], pa.timestamp("us"))})
    >>> pairs, of_row = distinct_pairs(batch, ["id"], "at")
    >>> pairs.num_rows, of_row.tolist()
    (1, [0, 0, -1])
    """
    named = {**{key: batch.column(key) for key in keys}, EVENT_TIME: batch.column(time).cast(MOMENT)}
    rows = pa.table({**named, "row": np.arange(batch.num_rows)})
    whole = pc.is_valid(rows.column(EVENT_TIME))
    for key in keys:
        whole = pc.and_(whole, pc.is_valid(rows.column(key)))
    rows = rows.filter(whole)
    pairs = rows.group_by(list(named), use_threads=False).aggregate([("row", "list")])
    of_row = np.full(batch.num_rows, -1)
    lists = pairs.column("row_list").combine_chunks()
    of_row[lists.flatten().to_numpy()] = lists.value_parent_indices().to_numpy()
    return pairs.select(list(named)).append_column(PAIR, pa.array(np.arange(pairs.num_rows))), of_row


def as_declared(values: Any, kind: pa.DataType, what: str) -> pa.Array:
    """Return a feature with the type that its view declares.

    Raises
    ------
    SourceUnreadableError
        If it does not fit. Feast's stores on pandas turn integers with nulls into floats: one that a float may
        have rounded is refused.
    """
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    found = values.type
    if pa.types.is_integer(kind) and pa.types.is_floating(found):
        largest = pc.max(pc.abs(values)).as_py()
        if largest is not None and largest >= EXACT:
            raise SourceUnreadableError(f"{what} holds {largest:.0f}, which Feast gave as a float that may be rounded")
    alike = (
        found in (kind, pa.null())
        or (canonical_type(kind) is not None and canonical_type(found) == canonical_type(kind))
        or (_is_number(found) and _is_number(kind))
        or (pa.types.is_timestamp(found) and pa.types.is_timestamp(kind))
    )
    if not alike:
        raise SourceUnreadableError(f"{what} is declared as {kind} and holds {found}")
    try:
        return values.cast(kind)
    except pa.ArrowInvalid as error:
        raise SourceUnreadableError(f"{what} is declared as {kind} and holds {found}: {error}") from error


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


@contextmanager
def told(where: str) -> Iterator[None]:
    """Raise what Feast, or a store behind it, raises as an error of this package."""
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:  # the stores behind Feast have errors of their own
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error).strip() else ''}"
        if isinstance(error, ConnectionError | TimeoutError):
            raise SourceUnreachableError(f"{where} does not answer: {said}") from error
        raise SourceUnreadableError(f"{where} cannot be read: {said}") from error
