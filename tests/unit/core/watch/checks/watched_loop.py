"""The toy loop with checks declared, as far as a scored partition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, week

EVERY_CHECK = (
    "predictions",
    "estimated_performance",
    "multivariate",
    "reconstruction",
    "importance",
    "concept",
    "service",
)
ROWS = 400


def scored_loop(
    tmp_path: Path,
    *,
    checks: tuple[str, ...] = EVERY_CHECK,
    changed: Mapping[int, pd.DataFrame] | None = None,
    scored: tuple[int, ...] = (3,),
    **fields: Any,
) -> Workspace:
    """Return a loop whose champion was made of weeks 0 to 2, and has scored the given weeks.

    ``changed`` are other rows of some weeks than those of the toy loop.
    """
    loop = toy_loop(rollout={"stages": [{"shadow": 100}, {"live": 100}]}, watch={"checks": list(checks)}, **fields)
    rows = {number: toy_rows(number, rows=ROWS) for number in range(3 + len(scored))} | dict(changed or {})
    workspace = in_memory_workspace(loop, {week(number): frame for number, frame in rows.items()}, scratch=tmp_path)
    for number in sorted(rows):
        ingest(workspace, week(number))
    go_live(workspace, week(2))
    for number in scored:
        score_partition(workspace, week(number))
    return workspace
