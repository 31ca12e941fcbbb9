"""The drift verdict of a window by Evidently, for whoever declares it: one stated method and threshold, every column.

It has the form of the calibrated verdict, and another meaning: each column is held against the threshold by itself. No
rate of false alarms is stated over all columns, and none is corrected for. What needs no test, such as a column that is
missing or empty, is found as it always is; a column that Evidently cannot judge stops no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from airflow_mlops.core.declaration.watch import Drift
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.ledger.watch_details import ALARM, INSUFFICIENT_DATA, NO_ALARM, DriftJudged
from airflow_mlops.core.watch.drift.ask_evidently import asked
from airflow_mlops.core.watch.drift.column_findings import ColumnFinding
from airflow_mlops.core.watch.drift.drift_verdict import MIN_ROWS
from airflow_mlops.core.watch.drift.evidently_extra import require_evidently
from airflow_mlops.core.watch.drift.evidently_rows import MOST_ROWS, comparable, reference_features
from airflow_mlops.core.watch.sampled_rows import sampled
from airflow_mlops.core.workspace import Workspace

SHOWN = 3


@dataclass(frozen=True)
class WindowOfRows:
    """A window to judge.

    Parameters
    ----------
    pin : PinnedPartition
        Which snapshot it is.
    features : DataFrame
        Of all its rows; Evidently sees at most ``MOST_ROWS`` of them, the same every time.
    findings : list of ColumnFinding
        What was found of its columns without a test.
    """

    pin: PinnedPartition
    features: pd.DataFrame
    findings: list[ColumnFinding]


def judge_by_evidently(
    workspace: Workspace, champion: Version, window: WindowOfRows, declared: Drift
) -> tuple[DriftJudged, dict[str, Any]]:
    """Return what a record holds of the drift of a partition, and what the evidence holds beside.

    Raises
    ------
    DeclarationError
        If Evidently is not installed.
    DataError
        If nothing of the training window can be read any more.
    """
    require_evidently()
    reference = reference_features(workspace, champion)
    seen = window.features.iloc[sampled(len(window.features), MOST_ROWS, window.pin.digest)]
    findings = [one for one in window.findings if one.alarms]
    apart, missing = {one.column for one in findings}, [one.column for one in findings if one.what == "missing"]
    names = sorted({str(name) for name in reference} & {str(name) for name in seen} - apart)
    enough = len(seen) >= MIN_ROWS
    columns = [judged_column(name, reference[name], seen[name], declared) for name in names] if enough else []
    drifted = {str(one["column"]) for one in columns if one["drifted"]}
    alarm, judged = bool(apart or drifted), [one for one in columns if one["score"] is not None]
    unjudged = tuple(str(one["column"]) for one in columns if one["score"] is None)
    summary = DriftJudged(
        verdict=ALARM if alarm else NO_ALARM if judged else INSUFFICIENT_DATA,
        message=in_words(declared, columns, findings, (len(seen), len(reference))),
        rows=len(window.features),
        needed=MIN_ROWS,
        engine="evidently",
        method=declared.method,
        threshold=declared.threshold,
        drifted=tuple(sorted(drifted | apart.difference(missing))),
        missing=tuple(missing),
        remarks={"unjudged": unjudged} if unjudged else {},
    )
    return summary, {
        **summary.to_json(), "reference_rows": len(reference), "window_rows": len(seen), "columns": columns,
        "findings": [one.to_dict() for one in window.findings],
    }  # fmt: skip


def judged_column(name: str, reference: pd.Series, window: pd.Series, declared: Drift) -> dict[str, Any]:
    """Return what Evidently says of a column as JSON values; ``score`` is None where it says nothing, ``said`` why."""
    assert declared.method is not None
    assert declared.threshold is not None
    of: dict[str, Any] = {"column": name, "method": declared.method, "score": None, "drifted": False}
    column = comparable(reference, window)
    found = column if isinstance(column, str) else asked(column, declared.method, declared.threshold)
    if isinstance(found, str):
        return {**of, "verdict": "insufficient data", "said": found}
    return {**of, "score": found.score, "drifted": found.drifted, "verdict": "alarm" if found.drifted else "no alarm"}


def in_words(
    declared: Drift, columns: list[dict[str, Any]], alarming: list[ColumnFinding], sizes: tuple[int, int]
) -> str:
    """Return the verdict in a sentence with its numbers; ``sizes`` are the rows that were compared."""
    rows, past = sizes
    of = (
        f"Evidently's {declared.method} at {declared.threshold:g} for each column by itself, {rows:,} rows against "
        f"{past:,}"
    )
    found = [f"{one.column!r} {one.said}" for one in alarming]
    found += [f"{one['column']!r} scored {one['score']:.3g}" for one in columns if one["drifted"]]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return f"{of}: {'; '.join(found[:SHOWN])}{more}"
    if rows < MIN_ROWS:
        return f"{of}: a verdict needs {MIN_ROWS} rows"
    judged = sum(one["score"] is not None for one in columns)
    silent = "" if judged == len(columns) else f"; of {len(columns) - judged} others it says nothing"
    return f"{of}: none of {judged} columns is drift{silent}" if judged else f"{of}: no column could be judged"
