"""Regret: what the champion lost against a fresh model, added up until a promotion is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.measure_regret import measure_regret
from tests.unit.core.toy_loop import ingest, week
from tests.unit.core.watch.living_toy import live, live_through, loop_of_slopes

REGRET: dict[str, Any] = {"retrain": {"policy": {"regret": 0.2}, "cooldown": 0, "budget": 50}}
STEADY, MOVED = 2.0, 3.5


def test_where_nothing_moves_regret_stays_near_zero_and_nothing_is_retrained(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [STEADY] * 9, **REGRET)
    assert live(workspace, 9) == [week(2)]  # the first model, and no other
    regret = workspace.state().regret
    assert sorted(regret) == [week(number) for number in range(3, 9)]
    assert all(abs(details.regret) < 0.05 for details in regret.values())


def test_a_world_that_has_moved_is_regretted_until_a_promotion_is_worth_it(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [STEADY] * 5 + [MOVED] * 6, **REGRET)
    decided = live(workspace, 11)
    assert decided[0] == week(2)
    # Week 5 is the first with the new slope: no fresh model knows it yet, so nothing is regretted.
    assert workspace.state().regret[week(5)].regret < 0.05
    assert workspace.state().regret[week(7)].regret > 0.2
    assert decided[1] == week(7)
    decision = next(details for details in workspace.state().retrains.values() if details.partition == week(7))
    assert decision.details.cause == "regret"
    assert "a promotion costs 0.2" in decision.details.reason
    assert workspace.state().champion is not None
    assert workspace.state().regret[week(10)].regret < 0.1


def test_a_champion_that_is_as_fresh_as_can_be_regrets_nothing_and_costs_no_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = loop_of_slopes(tmp_path, [STEADY] * 4, **REGRET)
    live(workspace, 3)
    monkeypatch.setattr("airflow_mlops.core.watch.fresh_model.run_fit", None)
    live_through(workspace, week(3))
    assert workspace.state().regret[week(3)].regret == 0.0


def test_measuring_again_adds_no_record(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [STEADY] * 5, **REGRET)
    live(workspace, 5)
    before = workspace.ledger.head().sequence
    first = measure_regret(workspace, week(4))
    assert first == measure_regret(workspace, week(4))
    assert workspace.ledger.head().sequence == before


def test_with_too_few_labels_there_is_no_regret_and_alarms_decide(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [STEADY] * 5, rows=15, **REGRET)
    live(workspace, 5)
    regret = workspace.state().regret[week(4)]
    assert (regret.regret, regret.rows) == (None, 15)
    assert "15 rows have a label, 20 are needed" in regret.message
    last = list(workspace.ledger.records(RetrainDecided))[-1].details
    assert not last.retrain
    assert "so alarms decide" in last.reason


def test_a_fit_that_fails_is_said_and_stops_nothing(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [STEADY] * 5, **REGRET)
    live(workspace, 4)
    broken = workspace.loop.train.model_copy(update={"function": "tests.unit.core.toy_loop:breaking"})
    object.__setattr__(workspace, "loop", workspace.loop.model_copy(update={"train": broken}))
    ingest(workspace, week(4))
    score_partition(workspace, week(4))
    regret = measure_regret(workspace, week(4))
    assert regret.regret is None
    assert "no fresh model" in regret.message
    assert decide_and_record(workspace, week(4), trigger="watch").details.cause == "regret"


def test_a_backfilled_window_is_measured_and_never_counts(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [STEADY] * 4 + [MOVED] * 4, **REGRET)
    live(workspace, 4)
    for number in (4, 5, 6):
        ingest(workspace, week(number))
        score_partition(workspace, week(number))
    decide_and_record(workspace, week(6), trigger="nightly")
    regret = measure_regret(workspace, week(6)), measure_regret(workspace, week(5))
    assert [details.historical for details in regret] == [False, True]
    decided = decide_and_record(workspace, week(6), trigger="watch")
    assert set(decided.details.numbers.get("windows", {})) <= {week(3), week(6)}


def test_another_policy_asks_for_no_regret(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [STEADY] * 4)
    live(workspace, 4)
    with pytest.raises(NotReadyError, match="does not ask for regret"):
        measure_regret(workspace, week(3))
