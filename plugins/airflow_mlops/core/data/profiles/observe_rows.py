"""Count rows on the bins of a reference, and report missing, new and retyped columns.

A column that cannot be counted never stops the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, Profiler
from airflow_mlops.core.declaration.arrow_types import column_kind


@dataclass(frozen=True)
class ObservedRows:
    """The counts of rows, and the columns that could not be counted.

    Parameters
    ----------
    profile : PartitionProfile
        The columns that could be counted on the bins.
    missing : tuple of str
        Columns with bins that the rows lack.
    new : tuple of str
        Columns of the rows that have no bins.
    retyped : mapping of str to str
        The present types of columns whose kind is not that of their bins.
    """

    profile: PartitionProfile
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    retyped: Mapping[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the observation as JSON values, all finite."""
        return {
            "profile": self.profile.to_dict(),
            "missing": list(self.missing),
            "new": list(self.new),
            "retyped": dict(self.retyped or {}),
        }


class RowObserver:
    """Counts rows batch by batch, in bounded memory.

    >>> from airflow_mlops.core.data.profiles.profile_rows import profile_bins
    >>> bins = profile_bins(pa.table({"x": [1.0, 2.0], "t": ["a", "b"]}))
    >>> observer = RowObserver(bins, pa.schema([("x", pa.string()), ("y", pa.int64())]))
    >>> observer.update(pa.RecordBatch.from_pydict({"x": ["1.0"], "y": [1]}))
    >>> result = observer.result()
    >>> result.profile.rows, result.missing, result.new, result.retyped
    (1, ('t',), ('y',), {'x': 'string'})
    """

    def __init__(self, bins: ProfileBins, schema: pa.Schema) -> None:
        types = {field.name: field.type for field in schema}
        self._missing = tuple(sorted(name for name in bins.columns if name not in types))
        self._new = tuple(sorted(name for name in types if name not in bins.columns))
        self._retyped = {
            name: str(types[name])
            for name, kind in sorted(bins.kinds.items())
            if name in types and not can_count(types[name], kind)
        }
        counted = [name for name in bins.columns if name in types and name not in self._retyped]
        self._profiler = Profiler(ProfileBins(bins.kinds, {name: bins.columns[name] for name in counted}))

    def update(self, batch: pa.RecordBatch) -> None:
        """Count a batch of the schema.

        Raises
        ------
        ProfileMismatchError
            If the batch has another schema.
        """
        self._profiler.update(batch)

    def result(self) -> ObservedRows:
        """Return the counts of the rows so far."""
        return ObservedRows(self._profiler.profile(), self._missing, self._new, self._retyped)


def can_count(arrow_type: pa.DataType, kind: str) -> bool:
    """Return whether values of a type can be counted on bins of a kind; nulls can be counted on all bins."""
    return bool(pa.types.is_null(arrow_type)) or column_kind(arrow_type) == kind
