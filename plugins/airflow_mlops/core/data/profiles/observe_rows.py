"""Count rows on the bins of a reference, whatever has become of their columns.

A column that is gone, has appeared, or has changed its kind is told of; it never stops the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, Profiler, kind_of


@dataclass(frozen=True)
class ObservedRows:
    """What was counted of rows, and what was not and why.

    Parameters
    ----------
    profile : PartitionProfile
        The columns that could be counted on the bins.
    missing : tuple of str
        Columns that have bins and are not there.
    new : tuple of str
        Columns that are there and have no bins.
    retyped : mapping of str to str
        Columns of another kind than their bins, with the type they have now.
    """

    profile: PartitionProfile
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    retyped: Mapping[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what was seen as JSON values, all finite."""
        return {
            "profile": self.profile.to_dict(),
            "missing": list(self.missing),
            "new": list(self.new),
            "retyped": dict(self.retyped or {}),
        }


class RowObserver:
    """Counts rows batch by batch; memory does not grow with them.

    >>> from airflow_mlops.core.data.profiles.profile_rows import profile_bins
    >>> bins = profile_bins(pa.table({"x": [1.0, 2.0], "t": ["a", "b"]}))
    >>> observer = RowObserver(bins, pa.schema([("x", pa.string()), ("y", pa.int64())]))
    >>> observer.update(pa.RecordBatch.from_pydict({"x": ["1.0"], "y": [1]}))
    >>> seen = observer.observed()
    >>> seen.profile.rows, seen.missing, seen.new, seen.retyped
    (1, ('t',), ('y',), {'x': 'string'})
    """

    def __init__(self, bins: ProfileBins, schema: pa.Schema) -> None:
        types = {field.name: field.type for field in schema}
        self._missing = tuple(sorted(name for name in bins.columns if name not in types))
        self._new = tuple(sorted(name for name in types if name not in bins.columns))
        self._retyped = {
            name: str(types[name])
            for name, kind in sorted(bins.kinds.items())
            if name in types and not fits(types[name], kind)
        }
        counted = [name for name in bins.columns if name in types and name not in self._retyped]
        self._profiler = Profiler(ProfileBins(bins.kinds, {name: bins.columns[name] for name in counted}))

    def update(self, batch: pa.RecordBatch) -> None:
        """Count a batch of the schema."""
        self._profiler.update(batch)

    def observed(self) -> ObservedRows:
        """Return what was counted so far."""
        return ObservedRows(self._profiler.profile(), self._missing, self._new, self._retyped)


def fits(found: pa.DataType, kind: str) -> bool:
    """Whether values of a type can be counted on bins of a kind; a column of nulls alone fits any."""
    return bool(pa.types.is_null(found)) or kind_of(found) == kind
