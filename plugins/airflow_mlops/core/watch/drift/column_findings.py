"""Findings about columns that need no test: missing, new, of another type, or without a value to compare.

A column that is missing or of another type is no matter of chance and alarms, with however few rows. One that holds
no value, or infinities alone, alarms where no window of the reference was so and chance would not make it so. A
constant column and one with some infinities are reported, and alarm through the test of the column if at all. A new
column is reported: the model does not see it. So is one that was counted on other bins, which cannot be compared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from airflow_mlops.core.data.profiles.observe_rows import ObservedRows
from airflow_mlops.core.data.profiles.partition_profile import ColumnProfile
from airflow_mlops.core.training.reference_profile import ReferenceProfile

FindingKind = Literal["missing", "retyped", "empty", "infinite", "constant", "new", "other bins"]


@dataclass(frozen=True)
class ColumnFinding:
    """A finding about a column: ``what`` is its kind, ``message`` describes it, ``alarms`` tells whether it alarms."""

    column: str
    what: FindingKind
    alarms: bool
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def column_findings(reference: ReferenceProfile, observed: ObservedRows, *, rate: float) -> list[ColumnFinding]:
    """Return the findings about the columns of a window, in the order of their names.

    Parameters
    ----------
    reference : ReferenceProfile
        The training window.
    observed : ObservedRows
        The window. Where it has no rows nothing alarms.
    rate : float
        Probability below which a column is not empty by chance.
    """
    has_rows = observed.profile.rows > 0  # a window without rows never alarms
    findings = [ColumnFinding(name, "missing", has_rows, "is missing") for name in observed.missing]
    findings += [ColumnFinding(name, "new", False, "is new, and the model does not see it") for name in observed.new]
    for name, kind in (observed.retyped or {}).items():
        # The kinds in a version of an earlier release are guessed, and no ground for an alarm.
        message = f"holds {kind} and was of the kind {reference.bins.kinds[name]}"
        findings.append(ColumnFinding(name, "retyped", has_rows and not reference.counts_only, message))
    for name, column in observed.profile.columns.items():
        if name not in reference.bins.columns or column.bins != reference.bins.columns[name].digest:
            findings.append(ColumnFinding(name, "other bins", False, "was counted on other bins than the reference"))
        elif has_rows:
            reference_columns = [
                window.columns[name] for window in reference.windows.values() if window.rows and name in window.columns
            ]
            findings += value_findings(name, column, reference_columns, rate=rate)
    return sorted(findings, key=lambda finding: (finding.column, finding.what))


def value_findings(name: str, column: ColumnProfile, past: list[ColumnProfile], *, rate: float) -> list[ColumnFinding]:
    """Return the findings about the values of a column, given the same column in the reference's windows."""
    rows, values = row_count(column), column.values
    if values == 0:
        kind: FindingKind = "infinite" if column.infinite else "empty"
        message = "holds infinities and no number" if column.infinite else "holds no value"
        lacking = sum(row_count(profile) - profile.values for profile in past)
        chance = ((lacking + 1) / (sum(row_count(profile) for profile in past) + 2)) ** rows
        new = bool(past) and all(profile.values for profile in past) and chance <= rate
        return [ColumnFinding(name, kind, new, f"{message} in {rows:,} rows")]
    findings = []
    if column.infinite and not any(profile.infinite for profile in past):
        findings.append(ColumnFinding(name, "infinite", False, f"holds {column.infinite:,} infinities and had none"))
    if not has_several_values(column) and past and all(has_several_values(profile) for profile in past):
        findings.append(ColumnFinding(name, "constant", False, f"holds one value in {values:,} rows and used to vary"))
    return findings


def row_count(column: ColumnProfile) -> int:
    """Return the number of rows of a column."""
    return column.values + column.nulls + column.nan + column.infinite


def has_several_values(column: ColumnProfile) -> bool:
    """Return whether a column has different values, by the counts of its bins where its range was not recorded."""
    has_values = column.only is not None if column.kind == "category" else column.low is not None
    return column.varies if has_values else sum(count > 0 for count in (*column.counts, column.rest)) > 1
