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
from airflow_mlops.core.watch.drift.column_findings import ColumnFinding, FindingKind, column_findings
from airflow_mlops.core.watch.drift.drift_verdict import (
    DriftVerdict,
    effective_number_of_tests,
    judge_columns,
    single_test_rate,
)
from airflow_mlops.core.watch.drift.drift_words import describe_doubt, describe_usual_distance
from airflow_mlops.core.watch.drift.profile_distances import (
    jensen_shannon,
    kolmogorov_smirnov,
    population_stability_index,
    wasserstein,
)

SHOWN = 3
RECORDED: tuple[FindingKind, ...] = ("new", "retyped", "empty", "infinite", "constant", "other bins")


@dataclass(frozen=True)
class WindowJudgement:
    """The drift verdict on a window, with its findings and distances.

    Parameters
    ----------
    judged : DriftVerdict
        Verdict on the columns that could be tested.
    findings : tuple of ColumnFinding
        The findings that need no test.
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
        """Columns of the reference that the window lacks."""
        return self.columns_with("missing")

    @property
    def drifted(self) -> list[str]:
        """Columns that alarm otherwise: they moved, are of another type, or hold nothing that could have moved."""
        others = {finding.column for finding in self.findings if finding.alarms and finding.what != "missing"}
        return sorted(others.union(self.judged.drifted))

    def columns_with(self, kind: FindingKind) -> list[str]:
        """Return the columns with a finding of a kind."""
        return [finding.column for finding in self.findings if finding.what == kind]

    @property
    def message(self) -> str:
        """The finding in a sentence with its numbers."""
        alarms = [f"{finding.column!r} {finding.message}" for finding in self.findings if finding.alarms]
        alarms += [
            f"{column.column!r} moved by {column.distance:.3g} (p = {column.p_value:.2g})"
            for column in self.judged.columns
            if column.drifted
        ]
        comparison = f"{self.rows:,} rows against {self.reference_rows:,}"
        if alarms:
            more = f" and {len(alarms) - SHOWN} more" if len(alarms) > SHOWN else ""
            return f"{comparison}: {'; '.join(alarms[:SHOWN])}{more}"
        columns, needed = len(self.judged.columns), self.judged.needed
        if needed is None:
            return f"{comparison}: so small a reference cannot tell a shift of {self.min_effect:g}, whatever the window"
        if self.rows < needed:
            return f"{comparison}: a shift of {self.min_effect:g} needs {needed:,}"
        usual = describe_usual_distance(self.judged.columns, self.min_effect)
        hidden = self._describe_hidden()
        if self.judged.verdict == "insufficient data":
            return f"{comparison}: {'; '.join(filter(None, [usual, hidden]))}"
        quiet = f"{comparison}: none of {columns} columns moved further than chance and the minimum effect let it"
        return "; ".join(filter(None, [quiet, usual, hidden if self.blind else ""]))

    def _describe_hidden(self) -> str:
        """Return why the reference's own windows hide a shift: how they differ, or what they do not tell."""
        blind = (
            f"{len(self.blind)} of {len(self.judged.columns)} columns could not be seen to move by {self.min_effect:g}"
        )
        differ = f"the reference's own windows differ by so much that {blind}" if self.blind else ""
        return "; ".join(filter(None, [describe_doubt(self.judged.columns), differ]))

    @property
    def blind(self) -> list[str]:
        """Columns in which the least effect that matters is hidden by how the reference's own windows differ."""
        if not self.judged.restless:
            return []
        return [column.column for column in self.judged.columns if column.detectable > self.min_effect > 0]

    def summary(self) -> DriftJudged:
        """Return the details of the ledger record."""
        columns = {kind.replace(" ", "_"): tuple(self.columns_with(kind)) for kind in RECORDED} | {
            "blind": tuple(self.blind),
            "in_doubt": tuple(column.column for column in self.judged.columns if column.doubt),
        }
        return DriftJudged(
            verdict=self.verdict,
            message=self.message,
            rows=self.rows,
            needed=self.judged.needed,
            drifted=tuple(self.drifted),
            missing=tuple(self.missing),
            restless=self.judged.restless,
            remarks={kind: names for kind, names in columns.items() if names},
        )

    def details(self) -> dict[str, Any]:
        """Return the judgement with every column as JSON values, for the evidence."""
        return {
            **self.summary().to_json(),
            "reference_rows": self.reference_rows,
            "min_effect": self.min_effect,
            "columns": [
                {**column.to_dict(), **self.distances.get(column.column, {})} for column in self.judged.columns
            ],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def judge_window(
    reference: ReferenceProfile, observed: ObservedRows, *, alarm_rate: float, min_effect: float
) -> WindowJudgement:
    """Judge the drift of a window against the training window.

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
    rate = single_test_rate(
        alarm_rate, effective_number_of_tests(reference.effective, alarm_rate, len(reference.bins.columns))
    )
    findings = column_findings(reference, observed, rate=rate)
    untestable = {finding.column for finding in findings if finding.alarms or finding.what == "other bins"}
    testable = [name for name in sorted(columns) if name not in untestable]
    reference_counts = {name: reference.counts(name) for name in testable}
    judged = judge_columns(
        reference_counts,
        {name: columns[name].bin_counts for name in testable},
        alarm_rate=alarm_rate,
        min_effect=min_effect,
        effective=reference.effective,
        unordered={name for name in testable if columns[name].kind == "category"},
    )
    rows = observed.profile.rows
    distances = {
        name: column_distances(reference_counts[name].sum(axis=0), reference, columns[name], name) for name in testable
    }
    return WindowJudgement(judged, tuple(findings), distances if rows else {}, rows, reference.rows, min_effect)


def column_distances(total: Counts, reference: ReferenceProfile, column: ColumnProfile, name: str) -> dict[str, float]:
    """Return the distances of a column from its reference by their names.

    PSI and Jensen-Shannon are over about ten joined bins, the rest and null. KS and Wasserstein are over all bins, and
    only where both sides hold numbers.
    """
    window_counts = column.bin_counts
    if not total.sum() or not window_counts.sum():
        return {}
    group = np.append(join_bins((total + window_counts)[:-ODD], 1.0), [0] * ODD)
    group[-ODD:] = group.max() + 1 + np.arange(ODD)
    reference_bins, window_bins = (np.bincount(group, counts) for counts in (total, window_counts))
    distances = {
        "psi": population_stability_index(reference_bins, window_bins),
        "jensen_shannon": jensen_shannon(reference_bins, window_bins),
    }
    values = total[:-ODD]
    if column.kind == "category" or not values.sum() or not window_counts[:-ODD].sum():
        return distances
    distances["ks"] = kolmogorov_smirnov(values, window_counts[:-ODD])
    sums = reference.sums(name)
    if sums is not None and column.sums:
        distances["wasserstein"] = wasserstein(values, sums, window_counts[:-ODD], column.sums)
    return distances
