"""Judge a window against the training window of a model: the findings of its columns, and the calibrated verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from airflow_mlops.core.data.profiles.observe_rows import ObservedRows
from airflow_mlops.core.data.profiles.partition_profile import ColumnProfile
from airflow_mlops.core.ledger.watch_details import DriftJudged
from airflow_mlops.core.training.column_cells import ODD, Counts, join_bins
from airflow_mlops.core.training.reference_profile import ReferenceProfile
from airflow_mlops.core.watch.drift.column_findings import ColumnFinding, What, column_findings
from airflow_mlops.core.watch.drift.drift_verdict import DriftVerdict, judge_columns, rate_of_one, worth_of
from airflow_mlops.core.watch.drift.profile_distances import (
    jensen_shannon,
    kolmogorov_smirnov,
    population_stability_index,
    wasserstein,
)

SHOWN = 3
RECORDED: tuple[What, ...] = ("new", "retyped", "empty", "infinite", "constant", "other bins")


@dataclass(frozen=True)
class WindowJudgement:
    """What is said of a window.

    Parameters
    ----------
    judged : DriftVerdict
        Of the columns that could be tested.
    findings : tuple of ColumnFinding
        What was seen without a test.
    distances : dict
        ``psi``, ``jensen_shannon``, and of numbers ``ks`` and ``wasserstein``, for each column that was compared.
    rows, reference_rows : int
        Of the window, and of the training window.
    min_effect : float
        The least distance that matters, as it was declared.
    """

    judged: DriftVerdict
    findings: tuple[ColumnFinding, ...]
    distances: dict[str, dict[str, float]]
    rows: int
    reference_rows: int
    min_effect: float

    @property
    def verdict(self) -> str:
        """``alarm``, ``no alarm`` or ``insufficient data``."""
        return "alarm" if any(finding.alarms for finding in self.findings) else self.judged.verdict

    @property
    def missing(self) -> list[str]:
        """Columns that are gone."""
        return self.that_are("missing")

    @property
    def drifted(self) -> list[str]:
        """Columns that alarm otherwise: they moved, are of another type, or hold nothing that could have moved."""
        others = {one.column for one in self.findings if one.alarms and one.what != "missing"}
        return sorted(others.union(self.judged.drifted))

    def that_are(self, what: What) -> list[str]:
        """Return the columns of which something was found."""
        return [finding.column for finding in self.findings if finding.what == what]

    @property
    def message(self) -> str:
        """The finding in a sentence with its numbers."""
        found = [f"{one.column!r} {one.said}" for one in self.findings if one.alarms] + [
            f"{one.column!r} moved by {one.distance:.3g} (p = {one.p_value:.2g})" for one in self.judged.columns
            if one.drifted
        ]  # fmt: skip
        of = f"{self.rows:,} rows against {self.reference_rows:,}"
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            return f"{of}: {'; '.join(found[:SHOWN])}{more}"
        columns, needed = len(self.judged.columns), self.judged.needed
        if needed is None:
            return f"{of}: so small a reference cannot tell a shift of {self.min_effect:g}, whatever the window"
        if self.rows < needed:
            return f"{of}: a shift of {self.min_effect:g} needs {needed:,}"
        hidden = f"the reference's own windows differ by so much that {len(self.blind)} of {columns} columns could not "
        hidden += f"be seen to move by {self.min_effect:g}"
        if self.judged.verdict == "insufficient data":
            return f"{of}: {hidden}"
        calm = f"{of}: none of {columns} columns moved further than chance and the minimum effect let it"
        return f"{calm}; {hidden}" if self.blind else calm

    @property
    def blind(self) -> list[str]:
        """Columns in which the least effect that matters is hidden by how the reference's own windows differ."""
        if not self.judged.restless:
            return []
        return [one.column for one in self.judged.columns if one.detectable > self.min_effect > 0]

    def summary(self) -> DriftJudged:
        """Return what a record of the ledger holds of it."""
        columns = {what.replace(" ", "_"): tuple(self.that_are(what)) for what in RECORDED} | {
            "blind": tuple(self.blind)
        }
        return DriftJudged(
            verdict=self.verdict,
            message=self.message,
            rows=self.rows,
            needed=self.judged.needed,
            drifted=tuple(self.drifted),
            missing=tuple(self.missing),
            restless=self.judged.restless,
            remarks={what: names for what, names in columns.items() if names},
        )

    def details(self) -> dict[str, Any]:
        """Return all of it as JSON values, column by column."""
        return {
            **self.summary().to_json(), "reference_rows": self.reference_rows, "min_effect": self.min_effect,
            "columns": [{**one.to_dict(), **self.distances.get(one.column, {})} for one in self.judged.columns],
            "findings": [finding.to_dict() for finding in self.findings],
        }  # fmt: skip


def judge_window(
    reference: ReferenceProfile, observed: ObservedRows, *, alarm_rate: float, min_effect: float
) -> WindowJudgement:
    """Return what is said of a window.

    Parameters
    ----------
    reference : ReferenceProfile
        The training window.
    observed : ObservedRows
        The window, counted on the bins of the reference. A column that was counted on others is a finding.
    alarm_rate : float
        Share of windows without drift that may alarm, all columns together.
    min_effect : float
        Total variation distance below which a shift is no matter.
    """
    columns = observed.profile.columns
    rate = rate_of_one(alarm_rate, worth_of(reference.effective, alarm_rate, len(reference.bins.columns)))
    findings = column_findings(reference, observed, rate=rate)
    apart = {one.column for one in findings if one.alarms or one.what == "other bins"}
    tested = [name for name in sorted(columns) if name not in apart]
    past = {name: reference.counts(name) for name in tested}
    judged = judge_columns(
        past, {name: columns[name].bin_counts for name in tested},
        alarm_rate=alarm_rate, min_effect=min_effect, effective=reference.effective,
        unordered={name for name in tested if columns[name].kind == "category"},
    )  # fmt: skip
    rows = observed.profile.rows
    distances = {name: column_distances(past[name].sum(axis=0), reference, columns[name], name) for name in tested}
    return WindowJudgement(judged, tuple(findings), distances if rows else {}, rows, reference.rows, min_effect)


def column_distances(total: Counts, reference: ReferenceProfile, column: ColumnProfile, name: str) -> dict[str, float]:
    """Return the distances of a column from its reference; those of numbers where both hold numbers.

    PSI and Jensen-Shannon are of about ten joined bins, the rest and null; KS and Wasserstein of all bins.
    """
    now = column.bin_counts
    if not total.sum() or not now.sum():
        return {}
    group = np.append(join_bins((total + now)[:-ODD], 1.0), [0] * ODD)
    group[-ODD:] = group.max() + 1 + np.arange(ODD)
    whole, here = (np.bincount(group, counts) for counts in (total, now))
    found = {"psi": population_stability_index(whole, here), "jensen_shannon": jensen_shannon(whole, here)}
    values = total[:-ODD]
    if column.kind == "category" or not values.sum() or not now[:-ODD].sum():
        return found
    found["ks"] = kolmogorov_smirnov(values, now[:-ODD])
    sums = reference.sums(name)
    if sums is not None and column.sums:
        found["wasserstein"] = wasserstein(values, sums, now[:-ODD], column.sums)
    return found
