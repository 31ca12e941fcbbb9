"""A loop whose labels come a week late: regret is estimated, decides, and is measured once labels come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.measure_regret import measure_regret, measure_regret_again
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.later_labels import arrive, with_champion
from tests.unit.core.toy_loop import toy_rows, week

REGRET: dict[str, Any] = {"policy": {"regret": 0.5}, "cooldown": 0, "budget": 50}
MOVED = 4
"""The first week of another slope."""


def lived(folder: Path, until: int, *, rows: int = 400) -> Workspace:
    """Return a loop after a week of which no label has come yet; its champion knows the slope of before."""
    slopes = [2.0] * MOVED + [3.5] * 8
    frames = {week(number): toy_rows(number, rows=rows, slope=slope) for number, slope in enumerate(slopes)}
    workspace = with_champion(folder, frames, retrain=REGRET)
    for number in range(4, until + 1):
        arrive(workspace, number, rows=frames)
        score_partition(workspace, week(number))
        measure_regret_again(workspace, week(number))
        measure_regret(workspace, week(number))
    return workspace


def test_before_labels_come_the_regret_is_estimated_and_then_measured(tmp_path: Path) -> None:
    workspace = lived(tmp_path, 8)
    estimated = workspace.state().regret[week(8)]
    assert (estimated.verdict, estimated.rows, estimated.holdout_rows) == ("estimated", 400, 400)
    assert estimated.message.startswith("0 rows have a label; by the 400 labelled rows of ")
    frames = {week(8): toy_rows(8, rows=400, slope=3.5)}
    arrive(workspace, 9, rows=frames | {week(9): toy_rows(9, rows=400, slope=3.5)})
    again = dict(measure_regret_again(workspace, week(9)))
    assert again[week(8)].verdict == "measured"
    assert workspace.state().regret[week(8)] == again[week(8)]
    assert estimated.low <= again[week(8)].regret <= estimated.high
    assert estimated.regret == pytest.approx(again[week(8)].regret, abs=0.2)


def test_an_estimate_decides_a_week_before_the_labels_could(tmp_path: Path) -> None:
    workspace = lived(tmp_path, 8)
    decision = decide_and_record(workspace, week(8), trigger="watch").details
    assert (decision.retrain, decision.cause) == (True, "regret")
    by_labels = [details.regret for _, details in workspace.state().regret.items() if details.verdict == "measured"]
    assert sum(by_labels) < REGRET["policy"]["regret"] < decision.numbers["regret"]


def test_right_after_a_training_nothing_fresher_could_have_been_made(tmp_path: Path) -> None:
    regret = lived(tmp_path, 4).state().regret[week(4)]
    assert (regret.verdict, regret.regret) == ("insufficient data", None)
    assert regret.message == (
        "0 rows have a label, 20 are needed; nothing fresher than the champion could have been made"
    )


def test_few_rows_estimate_nothing_and_say_how_many_would_do(tmp_path: Path) -> None:
    regret = lived(tmp_path, 6, rows=60).state().regret[week(6)]
    assert regret.regret is None
    assert (
        "an estimate needs 100 labelled rows of the holdout and rows of the partition, which have 60" in regret.message
    )
