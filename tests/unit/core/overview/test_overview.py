"""The overview of a loop: its state in a word, its history for pictures, its records as sentences."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlops.core.ledger.kinds import KINDS
from airflow_mlops.core.ledger.rollout_details import Promoted, StageAnalysed
from airflow_mlops.core.ledger.sql_ledger import SqlLedger, open_ledgers
from airflow_mlops.core.ledger.watch_details import WindowJudged
from airflow_mlops.core.overview.model_history import decision_marks, metric_points, rollout_looks
from airflow_mlops.core.overview.model_summary import STATES, summarise_model, urgency
from airflow_mlops.core.overview.sentences import SENTENCES, describe_record, is_decision, tone_of

FROZEN = Path(__file__).parents[1] / "ledger" / "frozen" / "ledger.sqlite"
MODELS = ("flight_air_time", "flight_delay", "toy_alarms", "toy_labels", "toy_lake", "toy_people", "toy_regret")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The frozen ledger, of which every state was read once."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    shutil.copyfile(FROZEN, path)
    for model in MODELS:
        SqlLedger(f"sqlite:///{path}", model).state()
    return f"sqlite:///{path}"


@pytest.fixture
def ledgers(url: str) -> Iterator[dict[str, SqlLedger]]:
    """The ledgers of all models over one connection."""
    with open_ledgers(url) as opened:
        yield opened


def test_the_ledgers_of_a_database_are_those_of_its_models(ledgers: dict[str, SqlLedger]) -> None:
    assert tuple(ledgers) == MODELS
    assert [ledgers[model].model for model in MODELS] == list(MODELS)


@pytest.mark.parametrize(
    ("model", "state", "reason"),
    [
        ("toy_people", "held", "version 6 is paused at canary: until January"),
        ("toy_regret", "fresh", "version 3 serves, and nothing alarms"),
        ("toy_alarms", "failing", "the training as of 2013-05-26T00:00:00 failed"),
        ("toy_labels", "rolling out", "version 2 waits for its rollout"),
        ("flight_delay", "fresh", "version 2 serves, and nothing alarms"),
    ],
)
def test_a_loop_is_in_the_state_that_a_person_has_to_know(
    ledgers: dict[str, SqlLedger], model: str, state: str, reason: str
) -> None:
    summary = summarise_model(ledgers[model])
    assert (summary.state, summary.reason[: len(reason)]) == (state, reason)


def test_an_alarm_stands_until_another_champion_serves(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    shutil.copyfile(FROZEN, path)
    whole = SqlLedger(f"sqlite:///{path}", "toy_regret")
    promotion = max(record.sequence for record in whole.records(Promoted))
    assert summarise_model(whole).alarms == ()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM airflow_mlops_ledger WHERE sequence >= ?", (promotion,))
    before = summarise_model(SqlLedger(f"sqlite:///{path}", "toy_regret"))
    assert before.state == "alarming"
    assert before.reason.startswith("performance: mae 2.66 [2.44, 2.88] on 300 labelled rows")


def test_who_needs_a_person_comes_first(ledgers: dict[str, SqlLedger]) -> None:
    summaries = [summarise_model(ledger) for ledger in ledgers.values()]
    ordered = sorted(summaries, key=lambda summary: urgency(summary.state, summary.model))
    assert [summary.model for summary in ordered][:2] == ["toy_alarms", "toy_people"]
    assert [STATES.index(summary.state) for summary in ordered] == sorted(STATES.index(s.state) for s in ordered)


def test_the_values_of_a_summary_are_those_of_the_newest_judgements(ledgers: dict[str, SqlLedger]) -> None:
    state, summary = ledgers["toy_regret"].state(), summarise_model(ledgers["toy_regret"])
    keys = [partition for partition, _, _ in summary.values]
    assert keys == list(state.performance)
    assert [value for _, value, _ in summary.values] == [state.performance[key].value for key in keys]
    assert summary.value == state.performance[keys[-1]].value


def test_a_loop_of_which_nothing_is_known_is_new(url: str) -> None:
    summary = summarise_model(SqlLedger(url, "nobody"))
    assert (summary.state, summary.champion, summary.value) == ("new", None, None)


def test_every_kind_of_record_has_a_sentence() -> None:
    assert {kind for kind in KINDS.values() if kind is not WindowJudged} == set(SENTENCES)


def test_every_record_of_a_long_history_is_told_in_one_line(ledgers: dict[str, SqlLedger]) -> None:
    for ledger in ledgers.values():
        for record in ledger.records():
            sentence = describe_record(record)
            assert sentence
            assert "None" not in sentence
            assert tone_of(record) in ("bad", "good", "ask", "plain")


def test_decisions_and_alarms_are_told_apart_from_facts(ledgers: dict[str, SqlLedger]) -> None:
    decided = [record for record in ledgers["toy_people"].records() if is_decision(record)]
    kinds = {record.kind for record in decided}
    assert {"promoted", "rolled_back", "rejected", "rollout_paused"} <= kinds
    assert kinds.isdisjoint({"snapshot_published", "predictions_published", "training_started"})
    assert all(record.details.retrain for record in decided if record.kind == "retrain_decided")


def test_the_history_has_a_point_for_every_measured_partition_and_marks_from_then_on(
    ledgers: dict[str, SqlLedger],
) -> None:
    ledger = ledgers["toy_people"]
    points = metric_points(ledger.state(), lambda partition: f"#{partition}")
    assert [point.label for point in points] == list(ledger.state().performance)
    assert all(point.href == f"#{point.label}" for point in points)
    marks = decision_marks(ledger, points[3].label, str)
    assert marks
    assert all(mark.label >= points[3].label for mark in marks)
    assert [mark.kind for mark in marks].count("rolled back") == 3


def test_the_looks_of_a_rollout_are_those_of_its_own_analyses(ledgers: dict[str, SqlLedger]) -> None:
    ledger = ledgers["toy_people"]
    rollout = ledger.state().rollout
    assert rollout is not None
    steps = rollout_looks(ledger.records(StageAnalysed), rollout.record)
    assert [(step.step, step.metric) for step in steps] == [("shadow_100", "label")]
    assert steps[0].looks[0].verdict == "pass"
    assert rollout_looks(ledger.records(StageAnalysed), -1) == []
