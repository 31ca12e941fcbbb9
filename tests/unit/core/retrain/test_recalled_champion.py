"""The first reign of a recalled champion decides nothing in its second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.declaration.retrain import Retrain
from airflow_mlops.core.evaluation.recallable_versions import evident_recall
from airflow_mlops.core.retrain.retrain_policy import decide_retrain, judged_windows
from tests.unit.core.ledger.histories import History, week
from tests.unit.core.toy_loop import toy_loop

ALARM: dict[str, Any] = {"policy": "alarm", "alarm": {"windows": 1, "of": 3}, "cooldown": 0}


def recalled_history() -> History:
    """Return a history whose version 1 alarmed in week 1, gave way to version 2, and was recalled as of week 3."""
    history = History().publish(*range(6)).promote(0, "1")
    history.judge(1, "1", performance="alarm").promote(1, "2").judge(2, "2").judge(3, "2", performance="alarm")
    decision = history.decide(3, retrain=True)
    history.add("version_recalled", 3, version="1", decision=decision.sequence)
    history.add("rollout_started", 3, version="1")
    history.add("promoted", 3, version="1", previous="2")
    return history


def test_alarms_of_its_first_reign_ask_for_no_retrain() -> None:
    history = recalled_history().judge(4, "1")
    state = history.state()
    assert list(judged_windows(state)) == [week(4)]
    decision = decide_retrain(state, toy_loop(retrain=ALARM), week(4), "watch")
    assert (decision.retrain, decision.cause) == (False, "no alarm")


def test_an_alarm_that_lasts_beyond_the_recall_that_it_caused_is_escalated() -> None:
    history = History().publish(*range(6)).promote(0, "1").promote(1, "2").judge(3, "2", performance="alarm")
    alarms = {week(3): ["performance: mae 2 against 1"]}
    decision = history.add("retrain_decided", 3, retrain=True, cause="alarm", numbers={"alarms": alarms})
    history.add("version_recalled", 3, version="1", decision=decision.sequence)
    history.add("promoted", 3, version="1", previous="2")
    history.judge(4, "1", performance="alarm")
    escalated = decide_retrain(history.state(), toy_loop(retrain=ALARM), week(4), "watch")
    assert (escalated.retrain, escalated.cause) == (False, "escalated")
    assert escalated.reason.startswith("version 1 was recalled because of performance")


def losses(mean: float, seed: int) -> Any:
    return np.random.default_rng(seed).exponential(size=200) + mean


def test_a_reference_of_regret_needs_the_evidence_of_as_many_as_may_be_recalled() -> None:
    champion = losses(1.0, 0)
    declared, one = Retrain(), Retrain(recall=1)
    gap = 0.12  # about 1.2 standard errors of the difference
    earlier = {"1": losses(1.0 - gap, 1)}
    assert earlier["1"].mean() < champion.mean()
    assert evident_recall(earlier, {"champion": champion}, "champion", one) == "1"
    assert evident_recall(earlier, {"champion": champion}, "champion", declared) is None
    surely = {"1": earlier["1"], "2": losses(0.0, 2)}
    assert evident_recall(surely, {"champion": champion}, "champion", declared) == "2"
    assert evident_recall(surely, {"champion": champion, "fresh": losses(-1.0, 3)}, "champion", declared) is None
    assert evident_recall(surely, {"fresh": champion}, "champion", declared) is None
    assert evident_recall(earlier, {"champion": champion}, "champion", Retrain(confidence="none")) is None


@pytest.mark.parametrize("worse", [0.0, 0.1])
def test_by_luck_alone_a_reference_is_an_earlier_champion_as_seldom_as_declared(worse: float) -> None:
    random, replaced = np.random.default_rng(7), 0
    for _ in range(400):
        rows = random.exponential(size=(9, 100))
        earlier = {str(number): rows[number] + worse for number in range(8)}
        replaced += evident_recall(earlier, {"champion": rows[8]}, "champion", Retrain()) is not None
    assert replaced / 400 <= 0.2
