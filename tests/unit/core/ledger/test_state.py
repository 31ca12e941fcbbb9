"""The fold: the state is what the records say, and as of a partition nothing later counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_mlops.core.ledger.effects import RULES
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.kinds import KINDS
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import StateMachine
from tests.unit.core.ledger.histories import History, contents, week

WEEKS = st.integers(0, 6)


def test_every_kind_of_record_is_folded() -> None:
    facts_that_change_nothing = {"report_rendered", "approval_void", "approval_wanted", "policy_replayed"}
    assert {kind.KIND for kind in RULES} | facts_that_change_nothing == set(KINDS)


def test_no_record_is_an_empty_state() -> None:
    assert contents(fold([])) == {"machine": StateMachine()}


def test_a_first_model_is_candidate_then_challenger_then_champion() -> None:
    history = History().publish(0, 1)
    history.register(1, "1")
    state = history.state()
    assert state.candidate is not None
    assert (state.candidate.number, state.open_decision, state.champion) == ("1", None, None)
    assert state.in_flight == "version 1 waits for its rollout"
    history.add("rollout_started", 1, version="1")
    history.add("stage_entered", 1, version="1", stage=0, share=10, kind="canary")
    state = history.state()
    assert state.rollout is not None
    assert (state.rollout.share, state.rollout.kind, state.candidate) == (10, "canary", None)
    assert state.in_flight == "version 1 is being rolled out (canary)"
    history.add("promoted", 1, version="1")
    state = history.state()
    assert state.champion is not None
    assert (state.champion.number, state.promoted_at, state.rollout, state.in_flight) == ("1", week(1), None, None)


def test_a_rollback_ends_the_rollout_quarantines_the_version_and_keeps_the_champion() -> None:
    history = History().publish(0, 1).promote(0, "1").register(1, "2")
    history.add("rollout_started", 1, version="2")
    history.add("rolled_back", 1, version="2", reason="worse")
    state = history.state()
    assert state.champion is not None
    assert (state.champion.number, state.rollout, dict(state.quarantined.items())) == ("1", None, {"2": "worse"})


def test_a_decision_stays_open_until_its_own_training_ends() -> None:
    history = History().publish(0, 1)
    first = history.decide(0, retrain=True)
    history.add("training_failed", 0, decision=first.sequence + 99, reason="of another one")
    assert history.state().open_decision == first
    history.add("training_failed", 0, decision=first.sequence, reason="raised")
    assert history.state().open_decision is None
    history.decide(1, retrain=False)
    assert history.state().open_decision is None
    assert len(history.state().retrains) == 1


def test_a_partition_that_was_refused_and_then_published_is_no_longer_refused() -> None:
    history = History()
    history.add("partition_refused", 0, reason="empty")
    assert list(history.state().refused) == [week(0)]
    history.publish(0)
    assert (list(history.state().refused), list(history.state().published)) == ([], [week(0)])


def test_a_recalled_champion_waits_for_its_rollout_and_for_a_new_approval() -> None:
    history = History().publish(0, 1, 2).promote(0, "1")
    history.add("escalated", 0, champion="1")
    history.promote(1, "2").add("approved", 1, version="1", by="ann")
    decision = history.decide(2, retrain=True)
    history.add("version_recalled", 2, version="1", decision=decision.sequence, report="r")
    state = history.state()
    assert state.candidate is not None
    assert (state.candidate.number, state.candidate.partition, state.candidate.chosen_as_of) == ("1", week(0), week(2))
    assert (state.candidate.chosen_by, state.candidate.judged_in) == (decision.sequence, ("r", "version 1"))
    assert (state.open_decision, list(state.approved)) == (None, [])
    assert state.in_flight == "version 1 waits for its rollout"
    assert history.state(as_of=1).versions["1"].recall is None
    history.add("rollout_started", 2, version="1")
    history.add("promoted", 2, version="1", previous="2")
    state = history.state()
    assert state.champion is not None
    assert (state.champion.number, state.promoted_at, state.champion.chosen_as_of) == ("1", week(2), week(2))
    assert list(state.escalations) == []  # a person was told of its first reign


SERVED = {
    "each once": ("123", ["2", "1"]),
    "one that came back": ("1231", ["3", "2"]),
    "one after that": ("12324", ["2", "3", "1"]),
    "two in turn": ("12121", ["2"]),
    "both behind a third": ("121213", ["1", "2"]),
}


@pytest.mark.parametrize("name", SERVED)
def test_the_champions_before_are_those_that_served_newest_first_however_often_each_did(name: str) -> None:
    promoted, expected = SERVED[name]
    history, previous = History().publish(*range(len(promoted))), None
    for number, version in enumerate(promoted):
        if version in promoted[:number]:
            decision = history.decide(number, retrain=True)
            history.add("version_recalled", number, version=version, decision=decision.sequence)
        else:
            history.register(number, version)
        history.add("rollout_started", number, version=version)
        history.add("promoted", number, version=version, previous=previous)
        previous = version
    assert history.state().champions_before == expected


def test_who_was_taken_back_before_a_promotion_was_not_before_it() -> None:
    history = History().publish(*range(6))
    for number, version in enumerate("123"):
        history.register(number, version)
        history.add("promoted", number, version=version, previous=str(number) if number else None)
    history.add("rolled_back", 2, version="3", champion="2", reason="worse")
    for number, (version, previous) in enumerate([("1", "2"), ("4", "1"), ("1", "4")], start=3):
        history.add("version_recalled", number, version=version, decision=0)
        history.add("promoted", number, version=version, previous=previous)
    # Version 1 served first, after version 2 again, and now; version 4 was registered nowhere and is no version.
    assert history.state().champions_before == ["4", "2"]


class AnyHistory(RuleBasedStateMachine):
    """Facts in any order that the stages can bring about, for partitions in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.versions = 0

    def now(self) -> LoopState:
        return self.history.state()

    @rule(number=WEEKS)
    def publish(self, number: int) -> None:
        self.history.publish(number)

    @rule(number=WEEKS)
    def refuse(self, number: int) -> None:
        self.history.add("partition_refused", number, reason="empty")

    @rule(number=WEEKS, retrain=st.booleans())
    def decide(self, number: int, retrain: bool) -> None:
        self.history.decide(number, retrain=retrain and self.now().in_flight is None)

    @precondition(lambda self: self.now().open_decision is not None)
    @rule(kind=st.sampled_from(["training_failed", "candidate_refused", "superseded", "candidate_registered"]))
    def end_training(self, kind: str) -> None:
        decision = self.now().open_decision
        assert decision is not None
        details: dict[str, Any] = {"decision": decision.sequence, "reason": "said so"}
        if kind == "candidate_registered":
            self.versions += 1
            details |= {"version": str(self.versions), "request": f"r{self.versions}"}
        self.history.add(kind, number_of(str(decision.partition)), **details)

    @precondition(lambda self: self.now().open_decision is not None and bool(self.now().champions_before))
    @rule(late=st.integers(0, 2))
    def recall(self, late: int) -> None:
        state = self.now()
        assert state.open_decision is not None
        version = next((number for number in state.champions_before if number not in state.quarantined), None)
        if version is not None:
            number = number_of(str(state.open_decision.partition)) + late
            self.history.add("version_recalled", number, version=version, decision=state.open_decision.sequence)

    @precondition(lambda self: self.now().in_flight is None)
    @rule(number=WEEKS)
    def train(self, number: int) -> None:
        self.versions += 1
        self.history.register(number, str(self.versions))

    @precondition(lambda self: self.now().candidate is not None and self.now().rollout is None)
    @rule(late=st.integers(0, 2))
    def start(self, late: int) -> None:
        candidate = self.now().candidate
        assert candidate is not None
        self.history.add("rollout_started", number_of(candidate.chosen_as_of) + late, version=candidate.number)

    @precondition(lambda self: self.now().rollout is not None)
    @rule(late=st.integers(0, 2), kind=st.sampled_from(["promoted", "rolled_back", "stage_entered"]))
    def move(self, late: int, kind: str) -> None:
        rollout = self.now().rollout
        assert rollout is not None
        more = {"stage": rollout.stage + 1, "share": 10, "kind": "canary"} if kind == "stage_entered" else {}
        if kind == "promoted" and self.now().champion is not None:
            more = {"previous": self.now().champion.number}
        number = number_of(rollout.version.chosen_as_of) + late
        self.history.add(kind, number, version=rollout.version.number, reason="said so", **more)

    @precondition(lambda self: back_to(self.now()) is not None)
    @rule(late=st.integers(0, 2))
    def take_the_champion_back(self, late: int) -> None:
        state = self.now()
        assert state.champion is not None
        number = number_of(str(state.promoted_at)) + late
        going, coming = state.champion.number, back_to(state)
        self.history.add("rolled_back", number, version=going, champion=coming, reason="said so")

    @precondition(lambda self: bool(self.now().quarantined))
    @rule(number=WEEKS)
    def unquarantine(self, number: int) -> None:
        self.history.add("quarantine_lifted", number, version=next(iter(self.now().quarantined)))

    @invariant()
    def the_sequence_is_that_of_the_last_record_whatever_is_left_out(self) -> None:
        count = self.history.ledger.head().sequence
        assert self.now().sequence == count
        assert all(self.history.state(as_of=number).sequence == count for number in (0, 3))

    @invariant()
    def as_of_a_partition_nothing_depends_on_records_of_later_ones(self) -> None:
        records = list(self.history.ledger.records())
        for number in range(7):
            without = [record for record in records if str(record.partition) <= week(number)]
            assert contents(fold(records, as_of=week(number))) == contents(fold(without))
            before = [record for record in records if str(record.partition) < week(number)]
            assert contents(fold(records, before=week(number))) == contents(fold(before))

    @invariant()
    def once_there_was_a_champion_there_is_one_and_it_was_promoted(self) -> None:
        state = self.now()
        assert (state.champion is None) == (not state.promotions)
        if state.champion is not None:
            assert state.champion.number in set(state.promotions.values())
            assert state.champion.number not in state.quarantined
            assert state.champion.number not in state.champions_before


@pytest.mark.no_cover  # what it adds is other histories, not other lines
class TestInAnyHistory(AnyHistory.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=40, stateful_step_count=30)


def back_to(state: LoopState) -> str | None:
    """Return the champion from before that a rollback goes to."""
    return next((number for number in state.champions_before if number not in state.quarantined), None)


def number_of(key: str) -> int:
    """Return the number of a week from its key."""
    return next(number for number in range(60) if week(number) == key)


@given(st.lists(WEEKS, max_size=10), WEEKS)
def test_the_newest_partition_as_of_a_key_is_never_later_than_it(published: list[int], as_of: int) -> None:
    state = History().publish(*published).state()
    newest = state.published.newest(until=week(as_of))
    expected = [number for number in published if number <= as_of]
    assert newest == (week(max(expected)) if expected else None)
