"""The cost of retrains beside that of a stale champion, as the ledger knows it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import CandidateRefused, RetrainDecided
from airflow_mlops.core.ledger.watch_details import RegretMeasured
from airflow_mlops.core.overview.retrain_costs import (
    PARTITIONS,
    TRAININGS,
    limits_in_words,
    regret_points,
    retrain_costs,
)
from airflow_mlops.core.retrain.retrain_policy import regret_since_promotion

FROZEN = Path(__file__).parents[1] / "ledger" / "frozen" / "ledger.sqlite"


@dataclass
class Ledger:
    """A copy of the frozen ledger of a loop that retrains by regret, to which a test adds records."""

    store: SqlLedger

    def add(self, details: Details, partition: str) -> int:
        """Append a record, and return its number."""
        read = self.store.head().sequence
        draft = Draft(details, f"{details.KIND}:{read}", partition, "test")
        return self.store.append(draft, read=read).sequence

    def measure(self, *regrets: float | None) -> list[str]:
        """Record the regret of the champion on partitions after all others, a day each, and return their keys."""
        champion = self.state.champion
        assert champion is not None
        keys = [f"2014-02-{day + 1:02}T00:00:00" for day in range(len(regrets))]
        for key, regret in zip(keys, regrets, strict=True):
            verdict, message = ("insufficient data", "no labels") if regret is None else ("measured", "")
            details = RegretMeasured(verdict=verdict, message=message, champion=champion.number, regret=regret)
            self.add(details, key)
        return keys

    @property
    def state(self) -> LoopState:
        """The state as of now."""
        return self.store.state()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """The ledger of ``toy_regret``."""
    path = tmp_path / "ledger.db"
    shutil.copyfile(FROZEN, path)
    return Ledger(SqlLedger(f"sqlite:///{path}", "toy_regret"))


def test_the_sum_of_a_champions_regret_is_the_one_that_its_policy_decides_on(ledger: Ledger) -> None:
    before = regret_points(ledger.state, "")
    own = ledger.measure(0.25, 0.5, 0.125)
    points = regret_points(ledger.state, "")
    assert [point.total for point in points[len(before) :]] == [0.25, 0.75, 0.875]
    decided = regret_since_promotion(ledger.state)
    assert list(decided) == own
    assert points[-1].total == sum(each.regret or 0.0 for each in decided.values())


def test_a_champion_that_serves_for_longer_than_is_shown_keeps_the_sum_from_before(ledger: Ledger) -> None:
    own = ledger.measure(0.25, 0.5, 0.125, 1.0)
    sequence = ledger.add(RetrainDecided(retrain=False, cause="regret", numbers={"regret": 0.875}), own[2])
    decision = ledger.store.record(sequence)
    shown = regret_points(ledger.state, own[1], decision)
    assert [(point.partition, point.total) for point in shown] == list(zip(own[1:], (0.75, 0.875, 1.875), strict=True))


def test_regret_that_could_not_be_measured_leaves_a_gap_and_says_why(ledger: Ledger) -> None:
    ledger.measure(0.25, None, 0.5)
    *_, first, unknown, last = regret_points(ledger.state, "")
    assert (unknown.regret, unknown.total, unknown.message) == (None, None, "no labels")
    assert (first.total, last.total) == (0.25, 0.75)


def test_trainings_are_listed_with_their_cause_their_time_and_what_came_of_them(ledger: Ledger) -> None:
    key = str(ledger.state.published.newest())
    declared = {"policy": {"regret": 0.5, "or_alarm": True}, "cooldown": 2, "budget": 13}
    decision = ledger.add(RetrainDecided(retrain=True, cause="regret", declared=declared), key)
    ledger.add(CandidateRefused(decision=decision, reason="gates", training_seconds=2.5), key)
    costs = retrain_costs(ledger.store, ledger.state)
    newest = costs.trainings[0]
    assert (newest.cause, newest.seconds, newest.result) == ("regret", 2.5, "refused by its gates")
    assert newest.message == "refused by its gates, 2.5 s of fits, because: regret"
    assert {training.result for training in costs.trainings} >= {"version 3", "refused by its gates"}
    assert len(costs.trainings) <= TRAININGS
    assert len(costs.partitions) <= PARTITIONS
    assert costs.seconds == pytest.approx(sum(training.seconds or 0 for training in costs.trainings))
    (drawn,) = [point for point in costs.points(str) if point.label == key]
    assert [bar.href for bar in drawn.fits][-1] == str(newest.sequence)
    assert costs.limit == 0.5
    assert costs.limits[0] == "Policy: by regret, 0.5 as the cost of a promotion, or by an alarm."
    assert costs.limits[1].startswith("Cooldown: 2 partitions; the last retrain was 0 ago.")
    assert costs.limits[2].startswith("Budget: 13 promotions in 52 partitions;")


def test_a_ledger_of_an_earlier_release_does_not_say_what_was_declared(ledger: Ledger) -> None:
    costs = retrain_costs(ledger.store, ledger.state)
    assert (costs.limit, costs.limits) == (None, ())
    assert costs.trainings


@pytest.mark.parametrize(
    ("policy", "words"),
    [("alarm", "by alarm"), ("never", "never"), ({"clock": 8, "or_alarm": False}, "by clock, 8 partitions")],
)
def test_every_policy_is_said_in_words(ledger: Ledger, policy: object, words: str) -> None:
    sentences = limits_in_words(ledger.state, {"policy": policy, "cooldown": 1, "budget": 2})
    assert sentences[0] == f"Policy: {words}."
