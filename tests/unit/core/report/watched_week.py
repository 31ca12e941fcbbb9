"""A loop with a scored week to report on, whose columns and values may be called anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import FIELDS, go_live, ingest, toy_loop, toy_rows, week

HOSTILE = [
    '<script>document.title="owned"</script>',
    "\"><img src=x onerror=document.title='owned'>",
    "'><svg/onload=document.title='owned'>",
    "</script><script>document.title='owned'</script>",
    "</title></style><script>document.title='owned'</script>",
    "{{7*7}}",
    "${7*7}",
    "javascript:document.title='owned'",
    "__proto__",
    "\u202eelttit\u0000\\u003cscript\\u003edocument.title='owned'\\u003c/script\\u003e",
]
"""Names of columns, and values of a column, that would run if anything took them for more than text."""
WATCHED: dict[str, Any] = {
    "drift": {"alarm_rate": 0.01},
    "performance": {"metric": "mae", "worse_by": 0.1, "min_rows": 30, "slices": ["kind"]},
}


def hostile_features(frame: pd.DataFrame) -> pd.DataFrame:
    """Return features that have the hostile names: a column that arrives with one is refused before."""
    return frame.assign(**{name: frame["x"] * (place + 1) for place, name in enumerate(HOSTILE)})


def hostile_rows(number: int, *, shift: float = 0.0) -> pd.DataFrame:
    """Return the rows of a week with hostile values in ``kind``."""
    frame = toy_rows(number, rows=600, shift=shift)
    frame["kind"] = np.random.default_rng(number).choice(HOSTILE, len(frame))
    return frame


def scored_week(tmp_path: Path, weeks: dict[int, pd.DataFrame], **changes: Any) -> Workspace:
    """Return a loop whose champion was made of weeks 0 to 2 and has scored week 3; nothing was judged yet."""
    fields = {"watch": WATCHED, "rollout": {"stages": [{"shadow": 100}, {"live": 100}]}, **changes}
    frames = {week(number): frame for number, frame in weeks.items()}
    workspace = in_memory_workspace(toy_loop(**fields), frames, scratch=tmp_path)
    for number in range(4):
        ingest(workspace, week(number))
    go_live(workspace, week(2))
    score_partition(workspace, week(3))
    return workspace


def judged_week(tmp_path: Path, weeks: dict[int, pd.DataFrame], **changes: Any) -> Workspace:
    """Return such a loop with the week judged and a decision made."""
    workspace = scored_week(tmp_path, weeks, **changes)
    detect_drift(workspace, week(3))
    measure_performance(workspace, week(3))
    decide_and_record(workspace, week(3), trigger="watch")
    return workspace


def moved_weeks() -> dict[int, pd.DataFrame]:
    """Return four plain weeks, the last of which has moved."""
    return {number: toy_rows(number, rows=600, shift=2.0 * (number == 3)) for number in range(4)}


def hostile_week(tmp_path: Path) -> Workspace:
    """Return a judged loop whose last week has moved, with hostile names of features and hostile values."""
    weeks = {number: hostile_rows(number, shift=2.0 * (number == 3)) for number in range(4)}
    data = {**FIELDS["data"], "features": f"{__name__}:hostile_features"}
    return judged_week(tmp_path, weeks, data=data)
