"""Alarms of a monitor outside: one more window that alarmed, told once, and no more trusted than it has to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import DataError, NotReadyError
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.retrain.outside_alarms import (
    LONGEST,
    MOST,
    OUTSIDE,
    OutsideAlarm,
    read_alarms,
    record_outside_alarms,
)
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week
from tests.unit.core.watch.living_toy import train_and_roll_out

ROLLOUT: dict[str, Any] = {"stages": [{"shadow": 100}, {"live": 100}], "min_rows": 20}


def told_of(workspace: Workspace) -> list[tuple[str | None, str]]:
    """Return partition and verdict of all that was recorded of monitors outside."""
    return [
        (record.partition, record.details.verdict)
        for record in list(workspace.ledger.records())
        if record.kind == "window_judged" and record.details.check == OUTSIDE
    ]


def loop_with_scored(tmp_path: Path, *numbers: int, **retrain: Any) -> Workspace:
    """Return a loop whose champion was made of the first three weeks, and has scored the weeks of these numbers."""
    declared = {"policy": "alarm", "alarm": {"windows": 1, "of": 3}, "cooldown": 0, **retrain}
    frames = {week(number): toy_rows(number, rows=300) for number in range(8)}
    workspace = in_memory_workspace(toy_loop(rollout=ROLLOUT, retrain=declared), frames, scratch=tmp_path)
    for number in range(3):
        ingest(workspace, week(number))
    decide_and_record(workspace, week(2), trigger="nightly")
    train_and_roll_out(workspace, week(2))
    for number in numbers:
        score_week(workspace, number)
    return workspace


def score_week(workspace: Workspace, number: int) -> None:
    """Ingest a week, score it and watch it."""
    ingest(workspace, week(number))
    score_partition(workspace, week(number))
    decide_and_record(workspace, week(number), trigger="watch")


def test_an_alarm_from_outside_asks_for_a_retrain_as_any_other_alarm_does(tmp_path: Path) -> None:
    workspace = loop_with_scored(tmp_path, 3, 4)
    assert not list(workspace.ledger.records(RetrainDecided))[-1].details.retrain
    ((key, recorded),) = record_outside_alarms(
        workspace, [OutsideAlarm(id="a1", message="prices are in cents")]
    ).items()
    assert (key, recorded.verdict, recorded.message) == (week(4), "alarm", "prices are in cents")
    decided = decide_and_record(workspace, week(4), trigger="outside").details
    assert decided.retrain
    assert decided.cause == "alarm: outside"
    assert decided.numbers["alarms"] == {week(4): ["outside: prices are in cents"]}


@pytest.mark.parametrize(
    ("retrain", "cause"),
    [
        ({"alarm": {"windows": 2, "of": 3}}, "no alarm"),
        ({"cooldown": 5}, "cooldown"),
        ({"budget": 1}, "budget"),
        ({"policy": "never"}, "never"),
        ({"policy": {"clock": 30}}, "clock"),
    ],
)
def test_what_holds_back_other_alarms_holds_back_those_from_outside(
    tmp_path: Path, retrain: dict[str, Any], cause: str
) -> None:
    workspace = loop_with_scored(tmp_path, 3, 4, **retrain)
    record_outside_alarms(workspace, [OutsideAlarm(id="a1", message="one"), OutsideAlarm(id="a2", message="two")])
    decided = decide_and_record(workspace, week(4), trigger="outside").details
    assert (decided.retrain, decided.cause) == (False, cause)


def test_alarms_about_two_windows_are_two_of_three(tmp_path: Path) -> None:
    workspace = loop_with_scored(tmp_path, 3, alarm={"windows": 2, "of": 3})
    record_outside_alarms(workspace, [OutsideAlarm(id="a1", message="odd")])
    assert not decide_and_record(workspace, week(3), trigger="outside").details.retrain
    score_week(workspace, 4)
    record_outside_alarms(workspace, [OutsideAlarm(id="a2", message="odd again")])
    assert decide_and_record(workspace, week(4), trigger="outside").details.retrain


def test_an_alarm_is_recorded_once_however_often_and_wherever_it_is_told(tmp_path: Path) -> None:
    workspace = loop_with_scored(tmp_path, 3)
    alarm = OutsideAlarm(id="a1", message="odd")
    assert len(record_outside_alarms(workspace, [alarm])) == 1
    first = decide_and_record(workspace, week(3), trigger="outside")
    before = list(workspace.ledger.records())
    assert record_outside_alarms(workspace, [alarm, alarm]) == {}
    assert decide_and_record(workspace, week(3), trigger="outside") == first
    assert list(workspace.ledger.records()) == before
    score_week(workspace, 4)
    assert record_outside_alarms(workspace, [alarm]) == {}
    assert told_of(workspace) == [(week(3), "alarm")]


def test_a_second_alarm_of_a_window_is_decided_on_anew_and_the_first_still_stands(tmp_path: Path) -> None:
    workspace = loop_with_scored(tmp_path, 3, 4, policy="never")
    for number, name in enumerate(("a1", "a2")):
        ((_, recorded),) = record_outside_alarms(workspace, [OutsideAlarm(id=name, message=f"found {number}")]).items()
        decide_and_record(workspace, week(4), trigger="outside")
    assert recorded.message == "found 1 and 1 more"
    assert [record.details.trigger for record in workspace.ledger.records(RetrainDecided)][-2:] == ["outside"] * 2
    # Told later that an older week was odd as well: that one is history, the alarm of the newest is not.
    record_outside_alarms(
        workspace,
        [
            OutsideAlarm(id="a3", message="late", partition=week(3)),
            OutsideAlarm(id="a4", message="", partition=week(4)),
        ],
    )
    assert told_of(workspace)[2:] == [(week(3), "no alarm"), (week(4), "alarm")]


def test_alarms_about_old_partitions_are_recorded_and_alarm_nothing(tmp_path: Path) -> None:
    workspace = loop_with_scored(tmp_path, 3, 4, 5)
    ((key, recorded),) = record_outside_alarms(
        workspace, [OutsideAlarm(id="a1", message="odd", partition=week(3))]
    ).items()
    assert (key, recorded.verdict, recorded.historical) == (week(3), "no alarm", True)
    assert recorded.message == "historical, so no alarm: odd"
    assert not decide_and_record(workspace, week(5), trigger="outside").details.retrain


def test_an_alarm_counts_for_the_newest_scored_partition_up_to_the_one_it_names(tmp_path: Path) -> None:
    workspace = loop_with_scored(tmp_path, 3, 4)
    ingest(workspace, week(5))  # published, and not scored yet
    recorded = record_outside_alarms(workspace, [OutsideAlarm(id="a1", message="early", partition=week(6))])
    assert list(recorded) == [week(4)]


def test_an_alarm_before_anything_was_scored_waits_and_is_recorded_when_told_again(tmp_path: Path) -> None:
    workspace = loop_with_scored(tmp_path)
    alarms = [OutsideAlarm(id="a1", message="odd")]
    with pytest.raises(NotReadyError, match="nothing was scored that the alarm 'a1' could be about"):
        record_outside_alarms(workspace, alarms)
    score_week(workspace, 3)
    assert len(record_outside_alarms(workspace, alarms)) == 1


@pytest.mark.parametrize(
    ("answer", "ids", "complaint"),
    [
        ([{"id": "a"}, {"id": 7}], ["a", "7"], None),
        ({"alarms": [{"id": "a"}]}, ["a"], None),
        ({"id": "a", "message": "odd", "severity": "high"}, ["a"], None),
        (json.dumps({"alarms": [{"id": "a"}]}), ["a"], None),
        (b'[{"id": "a"}]', ["a"], None),
        ([], [], None),
        ([{"id": "a"}, {"id": "a", "message": "again"}], ["a"], None),
        ([{"message": "odd"}, {"id": "b"}], ["b"], "alarm 1: it has no id"),
        ([{"id": ""}, {"id": None}, {"id": True}, {"id": 1.5}, {"id": []}], [], "it has no id"),
        (["odd", 3, None], [], "alarm 1: it is a str"),
        ([{"id": "x" * 201}], [], "its id has 201 characters"),
        ([{"id": "a", "partition": "yesterday"}, {"id": "b"}], ["b"], "'yesterday' is no ISO date"),
        ([{"id": "a", "partition": "2013-01-06T00:00:00+02:00"}], [], "carries a time zone"),
        ([{"id": "a", "partition": 20130106}], [], "its partition is 20130106"),
    ],
)
def test_an_alarm_that_cannot_be_read_is_named_and_hides_no_other(
    answer: Any, ids: list[str], complaint: str | None
) -> None:
    alarms, refused = read_alarms(answer)
    assert [alarm.id for alarm in alarms] == ids
    assert bool(refused) is (complaint is not None)
    assert complaint is None or complaint in refused[0]


@pytest.mark.parametrize(
    "answer", ["<html>", "[" * 100_000, b"\xff\xfe", b"", {"alarms": None}, {"alarms": "many"}, None, 3]
)
def test_an_answer_that_lists_nothing_that_can_be_read_is_refused_and_not_taken_for_silence(answer: Any) -> None:
    with pytest.raises(DataError, match=r"is not JSON|a list of alarms is asked for"):
        read_alarms(answer)


def test_an_answer_without_end_is_cut_and_that_is_said() -> None:
    alarms, refused = read_alarms([{"id": number, "message": "x" * 10_000} for number in range(MOST + 5)])
    assert len(alarms) == MOST
    assert len(alarms[0].message) == LONGEST
    assert refused == [f"{MOST + 5} alarms were told; the first {MOST} are read"]


def test_words_from_outside_can_neither_break_a_line_nor_the_ledger(tmp_path: Path) -> None:
    workspace = loop_with_scored(tmp_path, 3)
    alarms, refused = read_alarms('[{"id": "\\ud800", "message": "a\\n\\u001b[31mred\\u202e\\u0000 end"}]')
    assert refused == []
    ((_, recorded),) = record_outside_alarms(workspace, alarms).items()
    assert recorded.message == "a ?[31mred?? end"
    assert recorded.added[0].id == "?"
