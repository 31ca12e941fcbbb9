"""Join the features of a Feast repository to rows, each with the values known at the time of the row.

Feast returns the features of each distinct pair of entity and time, view by view, and the join to the rows happens
here: Feast's file store drops entities without a value and keeps one of several rows with the same entity and time, and
no row may be lost.
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
"""Name of the time column that every offline store of Feast expects."""
PAIR = "airflow_mlops_pair"
MOMENT = pa.timestamp("us", tz="UTC")
EXACT = 2**53
"""From this number on, a float cannot hold every integer."""


@dataclass(frozen=True)
class View:
    """One feature view: the columns it is joined by, and the features that are read."""

    name: str
    keys: tuple[str, ...]
    features: tuple[tuple[str, pa.DataType], ...]


@dataclass(frozen=True)
class FeatureJoin:
    """A join of features to batches of entity rows.

    Parameters
    ----------
    store : feast.FeatureStore
        The store to read from.
    views : sequence of View
        The features to read.
    time : str
        Column of the entity rows with their time.
    where : str
        Partition and repository, for errors.
    """

    store: Any
    views: Sequence[View]
    time: str
    where: str

    def schema(self, entities: pa.Schema) -> pa.Schema:
        """Return the schema of the joined rows.

        Raises
        ------
        SourceUnreadableError
            If the entity rows lack a column to join by, their time is no timestamp, or a feature has the name of a
            column.
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

    def join_batch(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Return a batch with its features, null where a view has no value; rows and their order stay."""
        columns = list(batch.columns)
        for view in self.views:
            columns += self._fetch_features(view, batch)
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _fetch_features(self, view: View, batch: pa.RecordBatch) -> list[pa.Array]:
        pairs, pair_of_row = distinct_pairs(batch, view.keys, self.time)
        if not pairs.num_rows:
            return [pa.nulls(batch.num_rows, kind) for _, kind in view.features]
        with translate_errors(self.where):
            features = self.store.get_historical_features(
                entity_df=pairs.to_pandas(),
                features=[f"{view.name}:{name}" for name, _ in view.features],
                filter_by_created_timestamp=True,  # a value backfilled later was not known then
            ).to_arrow()
            pair_numbers = np.asarray(features.column(PAIR).to_numpy(), np.int64)
        if len(np.unique(pair_numbers)) != len(pair_numbers):
            raise SourceUnreadableError(
                f"{self.where}: the view {view.name!r} gave {len(pair_numbers):,} rows for {pairs.num_rows:,} pairs of "
                "entity and time, some of them twice"
            )
        position = np.full(pairs.num_rows + 1, -1)  # the last entry is for rows without an entity or a time
        position[pair_numbers] = np.arange(len(pair_numbers))
        at = pa.array(position[pair_of_row], pa.int64(), mask=position[pair_of_row] < 0)
        return [
            cast_feature(features.column(name), kind, f"{self.where}: the feature {view.name}:{name}").take(at)
            for name, kind in view.features
        ]


def distinct_pairs(batch: pa.RecordBatch, keys: Sequence[str], time: str) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """Return the distinct pairs of entity and time, numbered, and the pair number of each row (-1: no pair).

    >>> batch = pa.RecordBatch.from_pydict({"id": [7, 7, None], "at": pa.array([0, 0, 0], pa.timestamp("us"))})
    >>> pairs, pair_of_row = distinct_pairs(batch, ["id"], "at")
    >>> pairs.num_rows, pair_of_row.tolist()
    (1, [0, 0, -1])
    """
    named = {**{key: batch.column(key) for key in keys}, EVENT_TIME: batch.column(time).cast(MOMENT)}
    rows = pa.table({**named, "row": np.arange(batch.num_rows)})
    complete = pc.is_valid(rows.column(EVENT_TIME))
    for key in keys:
        complete = pc.and_(complete, pc.is_valid(rows.column(key)))
    rows = rows.filter(complete)
    pairs = rows.group_by(list(named), use_threads=False).aggregate([("row", "list")])
    pair_of_row = np.full(batch.num_rows, -1)
    lists = pairs.column("row_list").combine_chunks()
    pair_of_row[lists.flatten().to_numpy()] = lists.value_parent_indices().to_numpy()
    return pairs.select(list(named)).append_column(PAIR, pa.array(np.arange(pairs.num_rows))), pair_of_row


def cast_feature(values: Any, kind: pa.DataType, feature: str) -> pa.Array:
    """Return a feature with the type that its view declares.

    Raises
    ------
    SourceUnreadableError
        If the value does not fit. Feast's stores on pandas turn integers with nulls into floats: an integer that a
        float may have rounded is refused.
    """
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    actual = values.type
    if pa.types.is_integer(kind) and pa.types.is_floating(actual):
        largest = pc.max(pc.abs(values)).as_py()
        if largest is not None and largest >= EXACT:
            raise SourceUnreadableError(
                f"{feature} holds {largest:.0f}, which Feast gave as a float that may be rounded"
            )
    compatible = (
        actual in (kind, pa.null())
        or (canonical_type(kind) is not None and canonical_type(actual) == canonical_type(kind))
        or (_is_number(actual) and _is_number(kind))
        or (pa.types.is_timestamp(actual) and pa.types.is_timestamp(kind))
    )
    if not compatible:
        raise SourceUnreadableError(f"{feature} is declared as {kind} and holds {actual}")
    try:
        return values.cast(kind)
    except pa.ArrowInvalid as error:
        raise SourceUnreadableError(f"{feature} is declared as {kind} and holds {actual}: {error}") from error


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


@contextmanager
def translate_errors(where: str) -> Iterator[None]:
    """Translate the errors of Feast, and of the stores behind it, into errors of this package."""
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:  # the stores behind Feast have errors of their own
        message = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error).strip() else ''}"
        if isinstance(error, ConnectionError | TimeoutError):
            raise SourceUnreachableError(f"{where} does not answer: {message}") from error
        raise SourceUnreadableError(f"{where} cannot be read: {message}") from error
