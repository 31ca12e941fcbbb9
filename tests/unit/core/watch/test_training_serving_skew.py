"""Rows that were scored go one by one: an honest function gives them the same features, another one is caught."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.training_serving_skew import SkewError, is_identical, replay_rows, require_no_skew
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import FIELDS, go_live, ingest, toy_loop, toy_rows, week

HONEST = "    return frame[['x']].assign(double=frame['x'] * 2, code=frame['kind'].map({'a': 0, 'b': 1, 'c': 2}))\n"
PAST = """    past = history.rows(columns=['kind', 'y'])
    levels = past.groupby('kind')['y'].mean() if len(past) else {}
    return frame[['x']].assign(level=frame['kind'].map(levels).astype(float))
"""


def score_week(tmp_path: Path, body: str | None, *, history: bool = False) -> Workspace:
    """Return the toy loop whose version 1 has scored the fifth week, by a features function of its own."""
    data = dict(FIELDS["data"])
    if body is not None:
        name = f"skew_of_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(f"def features(frame{', history' if history else ''}):\n{body}")
        sys.modules.pop(name, None)
        data["features"] = f"{name}:features"
    rows = {week(number): toy_rows(number) for number in range(5)}
    workspace = in_memory_workspace(toy_loop(data=data), rows, scratch=tmp_path, root=tmp_path)
    for key in rows:
        ingest(workspace, key)
    go_live(workspace, week(3))
    score_partition(workspace, week(4))
    return workspace


@pytest.mark.parametrize(("body", "history"), [(None, False), (HONEST, False), (PAST, True)])
def test_an_honest_function_passes_with_history_too(tmp_path: Path, body: str | None, history: bool) -> None:
    report = replay_rows(score_week(tmp_path, body, history=history), rows=40)
    assert (report.partition, report.version, report.rows, report.difference) == (week(4), "1", 40, None)
    assert report.features >= 2
    require_no_skew(report)


@pytest.mark.parametrize(
    ("body", "column"),
    [
        pytest.param("    return frame[['x']].assign(c=frame['x'] - frame['x'].mean())\n", "c", id="batch_mean"),
        pytest.param("    return frame[['x']].assign(r=frame['x'].rank())\n", "r", id="rank"),
        pytest.param("    return frame[['x']].assign(b=frame['x'].shift(1).fillna(0.0))\n", "b", id="row_before"),
        pytest.param("    return frame[['x']].assign(n=len(frame))\n", "n", id="count"),
        pytest.param(
            "    import pandas as pd\n    return frame[['x']].join(pd.get_dummies(frame['kind']))\n", "a", id="dummies"
        ),
    ],
)
def test_a_function_that_looks_at_the_whole_batch_is_caught_with_both_values(
    tmp_path: Path, body: str, column: str
) -> None:
    report = replay_rows(score_week(tmp_path, body), rows=40)
    difference = report.difference
    assert difference is not None
    assert (difference.what, difference.column) == ("feature", column)
    assert difference.together != difference.apart
    with pytest.raises(SkewError, match=f"feature '{column}' of '4-.*' is .* in the batch and .* alone"):
        require_no_skew(report)


def test_a_function_that_cannot_make_one_row_is_caught(tmp_path: Path) -> None:
    report = replay_rows(
        score_week(tmp_path, "    assert len(frame) > 1, 'too few'\n    return frame[['x']]\n"), rows=3
    )
    assert report.difference is not None
    assert "too few" in str(report.difference)


@pytest.mark.parametrize("change", [1e-9, None])
def test_predictions_that_are_not_those_that_were_logged_are_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float | None
) -> None:
    workspace = score_week(tmp_path, HONEST)
    logged = workspace.predictions.read(week(4)).to_pandas()
    key = logged["key"][7]
    if change is None:
        logged = logged.drop(index=7)
    else:
        logged.loc[7, "champion_prediction"] += change
    table = pa.Table.from_pandas(logged, preserve_index=False)
    monkeypatch.setattr(workspace.predictions, "read", lambda *_, **__: table)
    difference = replay_rows(workspace, rows=5).difference
    assert difference is not None
    assert (difference.what, difference.key) == ("logged prediction", key)


def test_a_partition_that_was_not_scored_has_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="was not scored"):
        replay_rows(score_week(tmp_path, None), week(0))


def test_values_are_the_same_only_to_the_last_bit() -> None:
    third = 1 / 3
    assert is_identical(third, third)
    assert is_identical(float("nan"), None)
    assert is_identical(np.int64(3), 3.0)
    assert is_identical(pd.Timestamp("2013-01-06"), pd.Timestamp("2013-01-06"))
    assert not is_identical(third, np.nextafter(third, 1))
    assert not is_identical(0.0, -0.0)
    assert not is_identical(1.0, float("nan"))
    assert not is_identical("a", 1.0)
