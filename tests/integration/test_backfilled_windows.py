"""Old weeks that come late: judged and recorded by everything that is watched, and heard by nothing that decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.record import AnyRecord, Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.ledger.watch_details import DRIFT, PERFORMANCE, REGRET, WindowJudged
from airflow_mlops.core.retrain.decide_retrain import decide_and_record, decision_to_emit
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.checks.run_checks import rejudge_checks, run_checks
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.measure_regret import measure_regret, measure_regret_again
from airflow_mlops.core.watch.performance.measure_performance import measure_performance, rejudge_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week
from tests.unit.core.watch.living_toy import train_and_roll_out

WEEKS = 10
LATE = [5, 7, 8]
"""Weeks that come when all others are there: inputs far away, and a relation that the champion has never seen."""
CHECKS = ["predictions", "label_rate", "estimated_performance", "multivariate", "reconstruction", "importance"]


def watched_loop(scratch: Path, policy: Any) -> Workspace:
    """Return a loop in memory that is watched from all sides, nothing of which was taken in yet."""
    loop = toy_loop(
        rollout={"stages": [{"shadow": 100}, {"live": 100}], "min_rows": 20},
        watch={"drift": {}, "performance": {"metric": "mae", "worse_by": 0.5, "slices": ["kind"]}, "checks": CHECKS},
        retrain={"policy": policy, "alarm": {"windows": 1, "of": 6}, "cooldown": 0, "budget": 52},
    )
    frames = {
        week(number): toy_rows(number, rows=200, slope=8.0 if number in LATE else 2.0, shift=4.0 * (number in LATE))
        for number in range(WEEKS + 1)
    }
    return in_memory_workspace(loop, frames, scratch=scratch)


def follow(workspace: Workspace, number: int) -> None:
    """Ingest a week and run every stage on it in the order of the Dags; a second call runs it all again."""
    key = week(number)
    ingest(workspace, key)
    if workspace.state(before=key).champion is not None:
        score_partition(workspace, key)
        detect_drift(workspace, key)
        rejudge_performance(workspace, key)
        measure_performance(workspace, key)
        if isinstance(workspace.loop.retrain.policy, Regret):
            measure_regret_again(workspace, key)
            measure_regret(workspace, key)
        rejudge_checks(workspace, key)
        run_checks(workspace, key)
        decide_and_record(workspace, key, trigger="watch")
        if decision_to_emit(workspace, key) is not None:
            train_and_roll_out(workspace, key)
    decide_and_record(workspace, key, trigger="nightly")
    if decision_to_emit(workspace, key) is not None:
        train_and_roll_out(workspace, key)


@dataclass(frozen=True)
class Lived:
    """A loop that has lived through all weeks but the late ones, then these, these again, and one more week.

    ``new`` are the records that the late weeks brought, ``again`` those of the second time, and ``last_decision`` the
    decision of the week that followed.
    """

    policy: Any
    before: LoopState
    new: list[AnyRecord]
    after: LoopState
    again: list[AnyRecord]
    last_decision: Record[RetrainDecided]
    aliases: tuple[dict[str, str], dict[str, str]]


@pytest.fixture(scope="module", params=["alarm", {"regret": 0.5}], ids=["alarm", "regret"])
def backfill(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """A loop whose policy is an alarm or regret, and its backfill."""
    workspace = watched_loop(tmp_path_factory.mktemp("scratch"), request.param)
    for number in range(WEEKS):
        if number not in LATE:
            follow(workspace, number)
    before, aliases = fold(workspace.ledger.records()), workspace.registry.aliases()
    for number in LATE:
        follow(workspace, number)
    after = fold(workspace.ledger.records())
    for number in [*LATE, 3, 9]:
        follow(workspace, number)
    records = list(workspace.ledger.records())
    aliases_after = workspace.registry.aliases()
    follow(workspace, WEEKS)
    return Lived(
        request.param,
        before,
        records[before.sequence : after.sequence],
        after,
        records[after.sequence :],
        list(workspace.ledger.records(RetrainDecided))[-1],
        (aliases, aliases_after),
    )


def judgements(records: list[AnyRecord], kind: str) -> dict[str, Any]:
    """Return the judgements of drift, performance or regret by partition, or of checks by partition and name."""
    judged = [record for record in records if isinstance(record.details, WindowJudged)]
    if kind == "checks":
        own = (DRIFT, PERFORMANCE, REGRET)
        return {
            f"{record.partition} {record.details.check}": record.details
            for record in judged
            if record.details.check not in own
        }
    return {str(record.partition): record.details for record in judged if record.details.check == kind}


def test_old_weeks_that_come_late_are_judged_from_every_side_and_alarm_nothing(backfill: Lived) -> None:
    late = [week(number) for number in LATE]
    judged = {kind: judgements(backfill.new, kind) for kind in ("drift", "performance", "checks")}
    assert list(judged["drift"]) == list(judged["performance"]) == late
    assert list(judged["checks"]) == [f"{key} {check}" for key in late for check in CHECKS]
    for verdicts in judged.values():
        assert {details.verdict for details in verdicts.values()} <= {"no alarm", "insufficient data"}
        assert all(details.historical for details in verdicts.values())
    # What was seen is kept: only the alarm is not raised.
    assert all(details.drifted == ("x",) for details in judged["drift"].values())
    assert all(details.value > 5.0 for details in judged["performance"].values())


def test_a_history_that_was_completed_lacks_nothing(backfill: Lived) -> None:
    state = backfill.after
    assert sorted(state.published) == [week(number) for number in range(WEEKS)]
    scored = [key for key in sorted(state.published) if key > str(backfill.before.promoted_at)]
    assert scored == sorted(state.scored) == sorted(state.drift) == sorted(state.performance) == sorted(state.checked)
    assert all(sorted(state.checks_of(key)) == sorted(CHECKS) for key in state.checked)
    assert sorted(state.regret) == ([] if backfill.policy == "alarm" else scored)


def test_old_weeks_that_come_late_retrain_nothing(backfill: Lived) -> None:
    late = [week(number) for number in LATE]
    decisions = [record for record in backfill.new if record.kind == "retrain_decided"]
    assert [(record.partition, record.details.trigger) for record in decisions] == [
        (key, trigger) for key in late for trigger in ("watch", "nightly")
    ]
    assert {(record.details.retrain, record.details.cause) for record in decisions} == {(False, "historical")}
    assert backfill.aliases == ({"champion": "1"}, {"champion": "1"})
    assert backfill.after.champion == backfill.before.champion
    assert backfill.after.in_flight is None
    assert list(backfill.after.retrains) == list(backfill.before.retrains)
    assert not {record.kind for record in backfill.new} & {"training_started", "candidate_registered", "promoted"}


def test_weeks_backfilled_a_second_time_add_no_record(backfill: Lived) -> None:
    assert backfill.again == []


def test_what_was_backfilled_asks_for_no_retrain_when_the_next_week_comes(backfill: Lived) -> None:
    newest = backfill.last_decision
    numbers = newest.details.numbers
    assert (newest.partition, newest.details.retrain) == (week(WEEKS), False)
    if backfill.policy == "alarm":
        assert newest.details.cause == "no alarm"
        # The late weeks are among the windows that were asked, so it is their silence that is seen here.
        assert set(numbers["windows"]) >= {week(number) for number in LATE}
        assert numbers["alarms"] == {}
        return
    regrets = judgements(backfill.new, "regret")
    assert all(details.historical for details in regrets.values())
    assert max(details.regret for details in regrets.values()) > 0.5
    assert newest.details.cause == "regret"
    assert not numbers["windows"].keys() & regrets.keys()


@pytest.mark.parametrize("policy", ["alarm", {"regret": 0.5}], ids=["alarm", "regret"])
def test_the_same_weeks_alarm_and_retrain_when_they_come_in_time(tmp_path: Path, policy: Any) -> None:
    workspace = watched_loop(tmp_path, policy)
    asking = LATE[0] if policy == "alarm" else LATE[1]  # regret needs a fresh model that has seen the change
    for number in range(asking + 1):
        follow(workspace, number)
    state, key = workspace.state(), week(LATE[0])
    assert state.drift[key].verdict == state.performance[key].verdict == "alarm"
    assert {name for name, check in state.checks_of(key).items() if check.verdict == "alarm"} >= {
        "predictions",
        "multivariate",
    }
    assert list(state.retrains.values())[-1].partition == week(asking)
