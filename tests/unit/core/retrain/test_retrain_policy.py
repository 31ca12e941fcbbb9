"""The decision to retrain: every answer, case by case, with its cause."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops.core.retrain.retrain_policy import RetrainDecision, Trigger, decide_retrain
from tests.unit.core.ledger.histories import History, week
from tests.unit.core.toy_loop import toy_loop

# The toy loop trains on two partitions and judges on one: its first training waits for three.


def decide(history: History, number: int, trigger: Trigger = "watch", **retrain: Any) -> RetrainDecision:
    return decide_retrain(history.state(), toy_loop(retrain=retrain), week(number), trigger)


def served_history(promoted: int = 2, *, until: int = 2, version: str = "1") -> History:
    """Return a history with a champion promoted in a week and partitions published until another."""
    return History().publish(*range(until + 1)).promote(promoted, version)


@pytest.mark.parametrize(
    ("published", "answer"), [(1, "too early"), (2, "too early"), (3, "first model"), (9, "first model")]
)
def test_the_first_model_waits_for_enough_partitions(published: int, answer: str) -> None:
    decision = decide(History().publish(*range(published)), published - 1, "nightly")
    assert (decision.cause, decision.retrain) == (answer, answer == "first model")


def test_the_first_model_does_not_wait_for_an_alarm_a_clock_or_the_cooldown() -> None:
    for policy in ("alarm", "never", {"clock": 50}):
        assert decide(History().publish(0, 1, 2), 2, policy=policy, cooldown=9).cause == "first model"


def test_after_a_first_model_failed_the_next_attempt_waits_for_new_data() -> None:
    history = History().publish(0, 1, 2)
    decision = history.decide(2, retrain=True)
    history.add("training_failed", 2, decision=decision.sequence, reason="raised")
    assert decide(history, 2, "nightly").cause == "waiting"
    assert decide(history.publish(3), 3, "nightly").cause == "first model"


def alarmed_history(pattern: str, *, kind: str = "performance") -> History:
    """Return a champion's windows after its promotion: ``a`` alarmed, ``-`` did not."""
    history = served_history(until=2 + len(pattern))
    for number, mark in enumerate(pattern, start=3):
        history.judge(number, "1", **{kind: "alarm" if mark == "a" else "no alarm"})
    return history


@pytest.mark.parametrize(
    ("pattern", "windows", "of", "retrain"),
    [
        ("", 1, 1, False),
        ("-", 1, 1, False),
        ("a", 1, 1, True),
        ("a-", 1, 1, False),
        ("a", 2, 3, False),
        ("aa", 2, 3, True),
        ("a-a", 2, 3, True),
        ("aa-", 2, 3, True),
        ("a--a", 2, 3, False),
        ("aa--", 2, 3, False),
        ("--aa", 2, 2, True),
        ("a-a", 2, 2, False),
        ("aaa", 3, 3, True),
        ("-aa", 3, 3, False),
    ],
)
@pytest.mark.parametrize("kind", ["performance", "drift"])
def test_k_of_the_newest_n_windows_must_alarm(pattern: str, windows: int, of: int, retrain: bool, kind: str) -> None:
    history = alarmed_history(pattern, kind=kind)
    decision = decide(history, 2 + len(pattern), alarm={"windows": windows, "of": of}, cooldown=0)
    assert decision.retrain is retrain
    assert decision.cause == (f"alarm: {kind}" if retrain else "no alarm")


def test_an_alarm_s_cause_names_its_windows_and_their_numbers() -> None:
    history = alarmed_history("a").judge(3, "1", performance="alarm", drift="alarm")
    decision = decide(history, 3, alarm={"windows": 1, "of": 1}, cooldown=0)
    assert decision.cause == "alarm: drift and performance"
    assert f"{week(3)[:10]} performance: mae 2 against 1, drift: x" in decision.reason
    assert decision.numbers["windows"] == [week(3)]


def test_alarms_against_an_earlier_champion_do_not_count() -> None:
    history = alarmed_history("aa").promote(5, "2").publish(5)
    assert decide(history, 5, alarm={"windows": 1, "of": 3}, cooldown=0).cause == "no alarm"


@pytest.mark.parametrize(("age", "retrain"), [(0, False), (1, False), (3, False), (4, True), (5, True)])
def test_the_clock_asks_after_so_many_partitions(age: int, retrain: bool) -> None:
    decision = decide(served_history(until=2 + age), 2 + age, policy={"clock": 4}, cooldown=0)
    assert (decision.retrain, decision.cause, decision.numbers) == (retrain, "clock", {"age": age, "clock": 4})


def test_the_clock_may_be_overtaken_by_an_alarm() -> None:
    with_alarm: dict[str, Any] = {"policy": {"clock": 9, "or_alarm": True}, "alarm": {"windows": 2, "of": 2}}
    assert decide(alarmed_history("aa"), 4, **with_alarm).cause == "alarm: performance"
    assert decide(alarmed_history("a-"), 4, **with_alarm).cause == "clock"
    assert not decide(alarmed_history("aa"), 4, policy={"clock": 9}).retrain


def test_never_means_that_only_a_person_may() -> None:
    history = alarmed_history("aaa")
    assert decide(history, 5, policy="never").cause == "never"
    assert decide(history, 5, "person", policy="never").retrain


@pytest.mark.parametrize(("cooldown", "cause"), [(0, "alarm: performance"), (1, "alarm: performance"), (2, "cooldown")])
def test_within_the_cooldown_an_alarm_is_refused_and_says_what_was_wanted(cooldown: int, cause: str) -> None:
    decision = decide(alarmed_history("a"), 3, alarm={"windows": 1, "of": 1}, cooldown=cooldown)
    assert (decision.cause, decision.retrain) == (cause, cause != "cooldown")
    assert "windows alarmed" in decision.reason


def test_a_retrain_that_gave_no_model_starts_the_cooldown_too() -> None:
    history = alarmed_history("aaaaa")
    decision = history.decide(6, retrain=True)
    history.add("candidate_refused", 6, decision=decision.sequence, reason="gates")
    assert decide(history, 7, alarm={"windows": 1, "of": 1}, cooldown=2).cause == "cooldown"


def test_the_budget_counts_the_promotions_of_the_last_52_partitions() -> None:
    history = served_history(2, until=3).promote(3, "2").publish(*range(4, 60))
    assert decide(history, 20, policy={"clock": 1}, budget=2).cause == "budget"
    assert decide(history, 20, policy={"clock": 1}, budget=3).retrain
    assert decide(history, 53, policy={"clock": 1}, budget=2).cause == "budget"
    # As of week 54 the period of 52 partitions starts with week 3: one promotion has left it.
    assert decide(history, 54, policy={"clock": 1}, budget=2).retrain


def test_a_person_passes_cooldown_and_budget() -> None:
    assert decide(served_history(), 2, "person", cooldown=9, budget=1).cause == "person"


@pytest.mark.parametrize("trigger", ["watch", "nightly", "person"])
def test_while_a_retrain_is_in_flight_everybody_joins_it(trigger: Trigger) -> None:
    deciding = History().publish(0, 1, 2)
    deciding.decide(2, retrain=True)
    registered = History().publish(0, 1, 2).register(2, "1")
    rolling = History().publish(0, 1, 2).register(2, "1")
    rolling.add("rollout_started", 2, version="1")
    for history, phrase in ((deciding, "record 4"), (registered, "waits for"), (rolling, "being rolled out")):
        decision = decide(history, 2, trigger)
        assert (decision.retrain, decision.cause) == (False, "joined")
        assert phrase in decision.reason


@pytest.mark.parametrize("trigger", ["watch", "nightly", "person"])
def test_a_partition_older_than_the_newest_decision_is_historical(trigger: Trigger) -> None:
    history = alarmed_history("aaa")
    history.decide(5, retrain=False)
    decision = decide(history, 4, trigger, alarm={"windows": 1, "of": 1}, cooldown=0)
    assert (decision.retrain, decision.cause) == (False, "historical")
    assert week(4) in decision.reason
    assert decide(history, 5, trigger, alarm={"windows": 1, "of": 1}, cooldown=0).retrain


def test_every_answer_says_why() -> None:
    for history in (History().publish(0), served_history(), alarmed_history("aaa")):
        for trigger in ("watch", "nightly", "person"):
            assert len(decide(history, 2, trigger).reason) > 10  # type: ignore[arg-type]


def history_with_regret(*regrets: float | None, historical: tuple[int, ...] = ()) -> History:
    """Return a champion's windows after its promotion, with its regret on each; None could not be measured."""
    history = served_history(until=2 + len(regrets))
    for number, regret in enumerate(regrets, start=3):
        history.judge(number, "1")
        history.add(
            "regret_measured",
            number,
            champion="1",
            regret=regret,
            historical=number in historical,
            reason="20 rows have a label, 100 are needed",
            snapshot=f"d{number}",
            labels="",
        )
    return history


@pytest.mark.parametrize(
    ("regrets", "retrain"),
    [
        ((), False),
        ((0.05,), False),
        ((0.11,), True),
        ((0.05, 0.06), True),
        ((0.05, -0.04, 0.06), False),
        ((-0.2, 0.25), False),
        ((0.04, None, 0.07), True),
        ((None, 0.04), False),
    ],
)
def test_regret_is_added_up_with_its_sign_until_it_exceeds_the_cost(
    regrets: tuple[float | None, ...], retrain: bool
) -> None:
    decision = decide(history_with_regret(*regrets), 2 + len(regrets), policy={"regret": 0.1}, cooldown=0)
    assert (decision.retrain, decision.cause) == (retrain, "regret")
    assert decision.numbers["regret"] == pytest.approx(sum(regret or 0.0 for regret in regrets))


def test_regret_of_an_earlier_champion_and_of_history_does_not_count() -> None:
    assert not decide(
        history_with_regret(0.5).promote(3, "2").publish(4), 4, policy={"regret": 0.1}, cooldown=0
    ).retrain
    assert not decide(history_with_regret(0.5, 0.01, historical=(3,)), 4, policy={"regret": 0.1}, cooldown=0).retrain


def test_regret_passes_cooldown_and_budget_like_everything_else() -> None:
    assert decide(history_with_regret(0.5), 3, policy={"regret": 0.1}, cooldown=2).cause == "cooldown"
    assert decide(history_with_regret(0.5), 3, policy={"regret": 0.1}, cooldown=0, budget=1).cause == "budget"


def test_where_no_regret_can_be_measured_alarms_decide_and_the_record_says_so() -> None:
    history = history_with_regret(None, None)
    decision = decide(history, 4, policy={"regret": 0.1}, cooldown=0)
    assert (decision.retrain, decision.cause) == (False, "no alarm")
    assert "no regret could be measured in 2 partitions (20 rows have a label, 100 are needed)" in decision.reason
    history.judge(4, "1", drift="alarm")
    decision = decide(history, 4, policy={"regret": 0.1}, alarm={"windows": 1, "of": 1}, cooldown=0)
    assert (decision.retrain, decision.cause) == (True, "alarm: drift")


def test_an_alarm_may_overtake_regret() -> None:
    history = history_with_regret(0.01).judge(3, "1", performance="alarm")
    policy = {"regret": 9.0, "or_alarm": True}
    assert decide(history, 3, policy=policy, alarm={"windows": 1, "of": 1}, cooldown=0).cause == "alarm: performance"


def test_another_check_alarms_like_drift_does() -> None:
    history = served_history(until=3).judge(3, "1")
    history.add("check_judged", 3, check="predictions", verdict="alarm", said="moved by 0.3", champion="1")
    decision = decide(history, 3, alarm={"windows": 1, "of": 1}, cooldown=0)
    assert decision.cause == "alarm: predictions"
    assert "predictions: moved by 0.3" in decision.reason


def retrained_by(kind: str) -> History:
    """Return a history in which an alarm of week 3 asked for version 2, live as of week 3."""
    history = served_history(until=3).judge(3, "1", **{kind: "alarm"})
    decision = history.add(
        "retrain_decided", 3, retrain=True, cause=f"alarm: {kind}", numbers={"alarms": {week(3): [f"{kind}: x"]}}
    )
    history.add("candidate_registered", 3, version="2", decision=decision.sequence, request="r2")
    history.add("rollout_started", 3, version="2")
    history.add("promoted", 3, version="2")
    return history


def test_an_alarm_that_a_retrain_did_not_stop_is_a_person_s_to_look_at() -> None:
    history = retrained_by("drift").publish(4).judge(4, "2", drift="alarm")
    decision = decide(history, 4, alarm={"windows": 1, "of": 1}, cooldown=0)
    assert (decision.retrain, decision.cause) == (False, "escalated")
    assert "version 2 was made because of drift" in decision.reason
    assert "a person must look" in decision.reason
    history.publish(5).judge(5, "2", drift="alarm")
    assert decide(history, 5, alarm={"windows": 1, "of": 1}, cooldown=0).cause == "escalated"
    assert decide(history, 5, "person").retrain


def test_an_alarm_of_another_kind_or_after_a_quiet_week_is_no_such_thing() -> None:
    other = retrained_by("drift").publish(4).judge(4, "2", performance="alarm")
    assert decide(other, 4, alarm={"windows": 1, "of": 1}, cooldown=0).retrain
    quiet = retrained_by("drift").publish(4, 5).judge(4, "2").judge(5, "2", drift="alarm")
    assert decide(quiet, 5, alarm={"windows": 1, "of": 1}, cooldown=0).retrain


def test_the_clock_goes_on_where_an_alarm_is_escalated() -> None:
    history = retrained_by("drift").publish(4, 5).judge(4, "2", drift="alarm").judge(5, "2", drift="alarm")
    policy = {"clock": 2, "or_alarm": True}
    decision = decide(history, 5, policy=policy, alarm={"windows": 1, "of": 1}, cooldown=0)
    assert (decision.retrain, decision.cause) == (True, "clock")


def refuse(history: History, number: int, change: float | None, **details: Any) -> History:
    """Add a retrain of a week whose candidate was refused, with its loss beside the champion's."""
    alarms = details.pop("alarms", {})
    decision = history.add("retrain_decided", number, retrain=True, cause="regret", numbers={"alarms": alarms})
    history.add("candidate_refused", number, decision=decision.sequence, loss_change=change, **details)
    return history


def lost(history: History, number: int, regret: float, version: str = "1") -> History:
    """Publish a week, and add the regret of the champion on it."""
    history.publish(number)
    history.add("regret_measured", number, verdict="measured", champion=version, regret=regret)
    return history


REGRET = {"policy": {"regret": 0.1}}


def refused_history(*changes: float | None, **details: Any) -> History:
    """Return a champion that loses 0.2 a week from week 3 on, and a refused retrain of each."""
    history = served_history()
    for number, change in enumerate(changes, start=3):
        refuse(lost(history, number, 0.2), number, change, **details)
    return history


def test_after_three_retrains_without_a_better_model_a_person_is_told_with_their_numbers() -> None:
    history = lost(refused_history(-0.01, 0.02, 0.0), 6, 0.05)
    decision = decide(history, 6, **REGRET)
    assert (decision.retrain, decision.cause) == (False, "escalated")
    assert "the last 3 retrains since the promotion changed the loss by -1.0%, +2.0%, +0.0%" in decision.reason
    assert "0.05 was lost since the last of them, and the next is paid for beyond 0.1" in decision.reason


def test_two_retrains_without_a_better_model_are_no_reason_to_stop() -> None:
    assert decide(lost(refused_history(-0.01, 0.02), 5, 0.05), 5, **REGRET).retrain


def test_a_regret_that_grows_again_is_paid_for_and_ever_later() -> None:
    history = lost(refused_history(0.0, 0.0, 0.0), 6, 0.15)
    assert decide(history, 6, **REGRET).retrain
    lost(refuse(history, 6, 0.01), 7, 0.15)
    assert decide(history, 7, **REGRET).cause == "escalated"
    assert decide(lost(history, 8, 0.06), 8, **REGRET).retrain


def test_a_person_is_not_stopped_by_retrains_that_did_not_help() -> None:
    assert decide(refused_history(0.0, 0.0, 0.0), 5, "person", **REGRET).retrain


def test_a_promotion_ends_a_row_of_unhelpful_retrains() -> None:
    history = refused_history(0.0, 0.0, 0.0).promote(5, "2")
    lost(lost(history, 6, 0.0, "2"), 7, 0.2, "2")
    assert decide(history, 7, **REGRET).retrain


def test_refusals_without_a_champion_to_compare_with_do_not_count() -> None:
    assert decide(lost(refused_history(None, None, None), 6, 0.05), 6, **REGRET).retrain


def test_another_declaration_or_other_code_begins_a_row_anew() -> None:
    history = lost(refused_history(0.0, 0.0, 0.0, setup="before"), 6, 0.05)
    loop = toy_loop(retrain=REGRET)
    answers = {setup: decide_retrain(history.state(), loop, week(6), "watch", setup=setup).cause for setup in "ab"}
    assert set(answers.values()) == {"regret"}
    assert decide_retrain(history.state(), loop, week(6), "watch", setup="before").cause == "escalated"


def alarms_through_refusals(pattern: str, kinds: str = "ppp") -> History:
    """Return a champion whose last weeks alarmed, the first three of them with a refused retrain each."""
    history = served_history(until=2 + len(pattern))
    names = {"p": "performance", "d": "drift"}
    for place, (mark, kind) in enumerate(zip(pattern, kinds.ljust(len(pattern), kinds[-1]), strict=True)):
        number = 3 + place
        history.judge(number, "1", **{names[kind]: "alarm" if mark == "a" else "no alarm"})
        if place < 3:
            refuse(history, number, 0.01, alarms={week(number): [f"{names[kind]}: mae 2 against 1"]})
    return history


@pytest.mark.parametrize(
    ("pattern", "kinds", "cause"),
    [
        ("aaaa", "pppp", "escalated"),  # the alarm that three retrains could not stop
        ("aaaa", "pppd", "alarm: drift"),  # another alarm
        ("aa-a", "pppp", "alarm: performance"),  # a quiet week between the second and now
    ],
)
def test_an_alarm_that_lasts_through_refused_retrains_goes_to_a_person(pattern: str, kinds: str, cause: str) -> None:
    decision = decide(alarms_through_refusals(pattern, kinds), 6, alarm={"windows": 1, "of": 1}, cooldown=0)
    assert decision.cause == cause
