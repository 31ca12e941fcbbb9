"""The drift verdict of a window by Evidently, where a loop declares it: one method and threshold for every column.

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
from airflow_mlops.core.watch.drift.ask_evidently import score_column
from airflow_mlops.core.watch.drift.column_findings import ColumnFinding
from airflow_mlops.core.watch.drift.drift_verdict import MIN_ROWS
from airflow_mlops.core.watch.drift.evidently_extra import require_evidently
from airflow_mlops.core.watch.drift.evidently_rows import MOST_ROWS, comparable_column, reference_features
from airflow_mlops.core.watch.sampled_rows import sample_positions
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
        The findings about its columns that need no test.
    """

    pin: PinnedPartition
    features: pd.DataFrame
    findings: list[ColumnFinding]


def judge_by_evidently(
    workspace: Workspace, champion: Version, window: WindowOfRows, declared: Drift
) -> tuple[DriftJudged, dict[str, Any]]:
    """Return the details of the drift record of a partition, and the contents of its evidence.

    Raises
    ------
    DeclarationError
        If Evidently is not installed.
    DataError
        If nothing of the training window can be read any more.
    """
    require_evidently()
    reference = reference_features(workspace, champion)
    sample = window.features.iloc[sample_positions(len(window.features), MOST_ROWS, window.pin.digest)]
    findings = [finding for finding in window.findings if finding.alarms]
    alarming_columns = {finding.column for finding in findings}
    missing = [finding.column for finding in findings if finding.what == "missing"]
    names = sorted({str(name) for name in reference} & {str(name) for name in sample} - alarming_columns)
    enough = len(sample) >= MIN_ROWS
    columns = [judge_column(name, reference[name], sample[name], declared) for name in names] if enough else []
    drifted = {str(column["column"]) for column in columns if column["drifted"]}
    alarm, judged = bool(alarming_columns or drifted), [column for column in columns if column["score"] is not None]
    unjudged = tuple(str(column["column"]) for column in columns if column["score"] is None)
    summary = DriftJudged(
        verdict=ALARM if alarm else NO_ALARM if judged else INSUFFICIENT_DATA,
        message=summary_sentence(declared, columns, findings, (len(sample), len(reference))),
        rows=len(window.features),
        needed=MIN_ROWS,
        engine="evidently",
        method=declared.method,
        threshold=declared.threshold,
        drifted=tuple(sorted(drifted | alarming_columns.difference(missing))),
        missing=tuple(missing),
        remarks={"unjudged": unjudged} if unjudged else {},
    )
    return summary, {
        **summary.to_json(),
        "reference_rows": len(reference),
        "window_rows": len(sample),
        "columns": columns,
        "findings": [finding.to_dict() for finding in window.findings],
    }


def judge_column(name: str, reference: pd.Series, window: pd.Series, declared: Drift) -> dict[str, Any]:
    """Return Evidently's verdict on a column as JSON values; without a ``score``, ``message`` is the reason."""
    assert declared.method is not None
    assert declared.threshold is not None
    verdict: dict[str, Any] = {"column": name, "method": declared.method, "score": None, "drifted": False}
    column = comparable_column(reference, window)
    score = column if isinstance(column, str) else score_column(column, declared.method, declared.threshold)
    if isinstance(score, str):
        return {**verdict, "verdict": "insufficient data", "message": score}
    return {
        **verdict,
        "score": score.score,
        "drifted": score.drifted,
        "verdict": "alarm" if score.drifted else "no alarm",
    }


def summary_sentence(
    declared: Drift, columns: list[dict[str, Any]], alarming: list[ColumnFinding], sizes: tuple[int, int]
) -> str:
    """Return the verdict in a sentence with its numbers; ``sizes`` are the rows of window and reference."""
    rows, reference_rows = sizes
    comparison = (
        f"Evidently's {declared.method} at {declared.threshold:g} for each column by itself, {rows:,} rows against "
        f"{reference_rows:,}"
    )
    alarms = [f"{finding.column!r} {finding.message}" for finding in alarming]
    alarms += [f"{column['column']!r} scored {column['score']:.3g}" for column in columns if column["drifted"]]
    if alarms:
        more = f" and {len(alarms) - SHOWN} more" if len(alarms) > SHOWN else ""
        return f"{comparison}: {'; '.join(alarms[:SHOWN])}{more}"
    if rows < MIN_ROWS:
        return f"{comparison}: a verdict needs {MIN_ROWS} rows"
    judged = sum(column["score"] is not None for column in columns)
    others = "" if judged == len(columns) else f"; of {len(columns) - judged} others it says nothing"
    return (
        f"{comparison}: none of {judged} columns is drift{others}"
        if judged
        else f"{comparison}: no column could be judged"
    )
