"""What is found of a column without any test: it is gone, new, of another type, or holds nothing to compare.

A column that is missing or of another type is no matter of chance and alarms, with however few rows. One that holds
no value, or infinities alone, alarms where no window of the reference was so and chance would not make it so. A
constant column and one with some infinities are told of, and alarm through the test of the column if at all. A new
column is told of: the model does not see it. So is one that was counted on other bins, which cannot be compared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from airflow_mlops.core.data.profiles.observe_rows import ObservedRows
from airflow_mlops.core.data.profiles.partition_profile import ColumnProfile
from airflow_mlops.core.training.reference_profile import ReferenceProfile

What = Literal["missing", "retyped", "empty", "infinite", "constant", "new", "other bins"]


@dataclass(frozen=True)
class ColumnFinding:
    """Something about a column: ``what`` in a word, ``said`` in a few, and whether it alarms by itself."""

    column: str
    what: What
    alarms: bool
    said: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def column_findings(reference: ReferenceProfile, observed: ObservedRows, *, rate: float) -> list[ColumnFinding]:
    """Return what is found of the columns of a window, in the order of their names.

    Parameters
    ----------
    reference : ReferenceProfile
        The training window.
    observed : ObservedRows
        The window. Where it has no rows nothing alarms.
    rate : float
        Probability below which a column is not empty by chance.
    """
    there = observed.profile.rows > 0  # of no rows nothing is said, not even by their columns
    found = [ColumnFinding(name, "missing", there, "is missing") for name in observed.missing]
    found += [ColumnFinding(name, "new", False, "is new, and the model does not see it") for name in observed.new]
    for name, kind in (observed.retyped or {}).items():
        # What a version of an earlier release knows of kinds is guessed, and no ground for an alarm.
        said = f"holds {kind} and was of the kind {reference.bins.kinds[name]}"
        found.append(ColumnFinding(name, "retyped", there and not reference.counts_only, said))
    for name, column in observed.profile.columns.items():
        if name not in reference.bins.columns or column.bins != reference.bins.columns[name].digest:
            found.append(ColumnFinding(name, "other bins", False, "was counted on other bins than the reference"))
        elif there:
            past = [one.columns[name] for one in reference.windows.values() if one.rows and name in one.columns]
            found += of_values(name, column, past, rate=rate)
    return sorted(found, key=lambda one: (one.column, one.what))


def of_values(name: str, column: ColumnProfile, past: list[ColumnProfile], *, rate: float) -> list[ColumnFinding]:
    """Return what is found of the values of a column that could be counted."""
    rows, values = size(column), column.values
    if values == 0:
        what: What = "infinite" if column.infinite else "empty"
        said = "holds infinities and no number" if column.infinite else "holds no value"
        lacking = sum(size(one) - one.values for one in past)
        chance = ((lacking + 1) / (sum(size(one) for one in past) + 2)) ** rows
        new = bool(past) and all(one.values for one in past) and chance <= rate
        return [ColumnFinding(name, what, new, f"{said} in {rows:,} rows")]
    found = []
    if column.infinite and not any(one.infinite for one in past):
        found.append(ColumnFinding(name, "infinite", False, f"holds {column.infinite:,} infinities and had none"))
    if not varies(column) and past and all(varies(one) for one in past):
        found.append(ColumnFinding(name, "constant", False, f"holds one value in {values:,} rows and used to vary"))
    return found


def size(column: ColumnProfile) -> int:
    """Return how many rows were counted."""
    return column.values + column.nulls + column.nan + column.infinite


def varies(column: ColumnProfile) -> bool:
    """Whether two rows hold different values, as far as counts alone tell where nothing else was kept."""
    known = column.only is not None if column.kind == "category" else column.low is not None
    return column.varies if known else sum(count > 0 for count in (*column.counts, column.rest)) > 1
