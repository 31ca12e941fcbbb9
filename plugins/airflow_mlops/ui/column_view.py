"""The histogram of a column in a partition, against the training window of the version that scored it."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.charts.bin_chart import bin_chart
from airflow_mlops.core.charts.distance_strip import Strip, distance_strips
from airflow_mlops.core.charts.svg import format_number
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.protocols import EvidenceStore
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.ui.page_templates import svg

ODD = ("unseen or infinite", "null")
"""What the last two bins of every column hold."""
MOST_BINS = 66


def column_view(state: LoopState, evidence: EvidenceStore, partition: str, column: str) -> dict[str, Any]:
    """Return the values of the page of a column.

    Raises
    ------
    NotReadyError
        If the drift of the partition was not judged, or not of such a column.
    LedgerError
        If the evidence is gone or was changed.
    """
    from airflow_mlops.core.training.reference_profile import ReferenceProfile

    judged = state.drift.get(partition)
    if judged is None or judged.report is None or judged.champion is None:
        raise NotReadyError(f"the drift of partition {partition} was not judged")
    report, version = evidence.get(judged.report), state.versions.get(judged.champion)
    counts = report.get("counts", {}).get(column)
    if counts is None or version is None or version.details.profile is None:
        raise NotReadyError(f"no counts of column {column!r} were kept for partition {partition}")
    profile = ReferenceProfile.from_dict(evidence.get(version.details.profile))
    bins = profile.bins.columns[column]
    reference = profile.counts(column).sum(axis=0)
    labels = [*bin_labels(bins.edges, bins.categories), *ODD]
    before = shares_of([int(count) for count in reference])
    now = shares_of([int(count) for count in counts])
    entries = report.get("columns", ())
    entry: dict[str, Any] = next((entry for entry in entries if entry.get("column") == column), {})
    distance = entry.get("distance")
    moved = "" if distance is None else f"It moved by {format_number(float(distance))}"
    verdict = f"{moved}, which alarms." if entry.get("drifted") else f"{moved}, which does not alarm." if moved else ""
    usual = tuple(float(value) for value in entry.get("reference_distances", ()))
    if moved and usual:
        verdict += f" The reference's own windows move by up to {format_number(max(usual))}."
    drawn = distance is not None and usual
    strip = [Strip(column, float(distance or 0.0), usual, bool(entry.get("drifted")))] if drawn else []
    return {
        "partition": partition,
        "column": column,
        "champion": judged.champion,
        "verdict": verdict,
        "picture": svg(bin_chart(labels, before, now, column=column)),
        "strip": svg(distance_strips(strip, label=f"{column}: this window and the reference's own")),
        "shares": list(zip(labels, before, now, strict=True)),
        "reference_rows": int(reference.sum()),
        "rows": sum(int(count) for count in counts),
    }


def bin_labels(edges: tuple[float, ...], categories: tuple[str, ...] | None) -> list[str]:
    """Return the label of each bin: a category, or the numbers up to an edge.

    >>> bin_labels((1.0, 2.5), None), bin_labels((), ("a", "b"))
    (['to 1', 'to 2.5', 'above 2.5'], ['a', 'b'])
    """
    if categories is not None:
        return list(categories)
    if not edges:
        return ["all values"]
    return [*(f"to {format_number(edge)}" for edge in edges), f"above {format_number(edges[-1])}"]


def shares_of(counts: list[int]) -> list[float]:
    """Return counts as shares of their sum; zeros where there are no rows."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]
