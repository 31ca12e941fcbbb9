"""Overdue findings depend on the tick of the nightly run alone: no clock, no zone, no repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.watch_details import OverdueJudged
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.overdue import Overdue, find_overdue, watch_overdue
from airflow_mlops.core.watch.performance.measure_performance import measure_performance, rejudge_performance
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.later_labels import arrive, deliver, labelled_fields, labels_by_key, weeks, with_champion
from tests.unit.core.ledger.histories import History, week
from tests.unit.core.toy_loop import ingest, toy_fields

NIGHT = "T02:00:00"


def loop(
    *, every: str = "@weekly", labels: int | None = None, data: dict[str, Any] | None = None, **watch: Any
) -> Loop:
    """Return a loop that asks what is overdue."""
    fields = toy_fields() if labels is None else labelled_fields(delay=labels)
    fields["data"] |= {"every": every, **(data or {})}
    return Loop(**{**fields, "watch": {"overdue": 24, **watch}})


def state(history: History, until: int | None = None) -> LoopState:
    """Return the state of a history as of a week."""
    return fold(list(history.ledger.records()), as_of=None if until is None else week(until))


def served(*published: int, champion: int = 2) -> History:
    """Return partitions that are published, and a champion from one of them whose window ended there."""
    history = History().publish(*published)
    window = {
        part: [{"partition": week(number), "version": 1, "digest": "d"}]
        for part, number in (("fitted", 0), ("holdout", champion))
    }
    history.add("candidate_registered", champion, version="1", request="r", window=window)
    history.add("rollout_started", champion, version="1")
    history.add("promoted", champion, version="1")
    return history


def about(findings: list[Overdue]) -> dict[str, str]:
    """Return since when each thing is overdue."""
    return {finding.about: finding.since for finding in findings}


def test_a_partition_is_overdue_so_many_hours_after_its_tick_and_not_before() -> None:
    published = state(History().publish(0, 1))
    assert find_overdue(published, loop(), "2013-01-20T23:59:59") == []
    assert find_overdue(published, loop(), "2013-01-21T00:00:00") == [
        Overdue(
            "absence",
            "partition",
            week(2),
            f"the partition is overdue: {week(2)}; the newest published one is {week(1)}",
            {"missing": 1, "first": week(2), "newest": week(1)},
        )
    ]
    assert find_overdue(published, loop(overdue=24 * 7), "2013-01-26T00:00:00") == []


def test_several_missing_partitions_are_one_finding_that_names_the_first() -> None:
    (finding,) = find_overdue(state(History().publish(0, 1)), loop(), "2013-02-12T02:00:00")
    assert (finding.since, finding.numbers["missing"]) == (week(2), 4)
    assert "the partitions, 4 of them, are overdue" in finding.message


def test_a_partition_that_was_refused_is_overdue_for_that_reason() -> None:
    history = History().publish(0, 1)
    history.add("partition_refused", 2, stage="snapshot", reason="the partition is empty: 0 rows arrived")
    (finding,) = find_overdue(state(history), loop(), "2013-01-22T02:00:00")
    assert "was refused: the partition is empty" in finding.message


def test_a_loop_owes_nothing_before_it_begins_nor_after_its_end() -> None:
    nothing = state(History())
    assert find_overdue(nothing, loop(data={"from": "2013-02-03"}), "2013-02-03T02:00:00") == []
    (finding,) = find_overdue(nothing, loop(data={"from": "2013-02-03"}), "2013-02-12T02:00:00")
    assert (finding.since, finding.numbers["missing"]) == ("2013-02-03T00:00:00", 2)
    ended = loop(data={"from": "2013-01-06", "until": "2013-01-20"})
    assert find_overdue(state(History().publish(0, 1, 2)), ended, "2014-05-01T02:00:00") == []


def test_a_clock_that_jumped_far_ahead_is_answered_at_once() -> None:
    (finding,) = find_overdue(state(History().publish(0)), loop(every="@hourly"), "9999-12-31T02:00:00")
    assert "1,000 or more of them" in finding.message
    for early in ("1970-01-01T02:00:00", "0001-01-01T00:00:00"):
        assert find_overdue(state(History().publish(0)), loop(), early) == []


@pytest.mark.parametrize(
    ("every", "newest", "quiet", "late"),
    [
        # In Berlin the clock leaps from two to three on 2013-03-31, and shows two twice on 2013-10-27.
        ("@hourly", "2013-03-31T01:00:00", "2013-03-31T03:59:59", "2013-03-31T04:00:00"),
        ("@hourly", "2013-10-27T01:00:00", "2013-10-27T03:59:59", "2013-10-27T04:00:00"),
        ("@daily", "2013-03-30T00:00:00", "2013-03-31T01:59:59", "2013-03-31T02:00:00"),
    ],
)
def test_daylight_saving_moves_no_tick(every: str, newest: str, quiet: str, late: str) -> None:
    history = History()
    history.ledger.append(Draft(SnapshotPublished(version=1, digest="d"), "p", newest, "test"), read=0)
    declared = loop(every=every, overdue=2)
    assert find_overdue(state(history), declared, quiet) == []
    (finding,) = find_overdue(state(history), declared, late)
    assert finding.numbers["missing"] == 1


def test_predictions_are_overdue_of_partitions_after_the_first_champion_alone() -> None:
    assert find_overdue(state(History().publish(0, 1, 2)), loop(), "2013-01-22T02:00:00") == []
    history = served(0, 1, 2, 3)
    assert find_overdue(state(history), loop(), "2013-01-27T02:00:00") == [], "not yet due"
    assert about(find_overdue(state(history), loop(), "2013-01-28T02:00:00")) == {"predictions": week(3)}
    history.add("predictions_published", 3, champion="1", snapshot="d3")
    assert find_overdue(state(history), loop(), "2013-01-28T02:00:00") == []


def test_a_champion_grows_old_by_published_partitions_and_not_by_days() -> None:
    history = served(0, 1, 2, 3, 4)
    assert find_overdue(state(history), loop(max_age=2, overdue=None), "2099-01-01T02:00:00") == []
    (finding,) = find_overdue(state(history.publish(5)), loop(max_age=2, overdue=None), "2013-02-12T02:00:00")
    assert (finding.check, finding.since, finding.numbers["age"]) == ("staleness", "1", 3)
    assert finding.message.startswith("version 1 is stale: 3 partitions were published since")
    assert find_overdue(state(History().publish(0, 1, 2)), loop(max_age=1, overdue=None), "2013-02-12T02:00:00") == []


ROWS = weeks(8)


def labelled(tmp_path: Path, **watch: Any) -> Workspace:
    """Return a loop with a champion of week 3 whose labels come a week after their rows."""
    watched = {"performance": {"metric": "mae", "worse_by": 0.5}, "overdue": 24, **watch}
    return with_champion(tmp_path, ROWS, watch=watched)


def follow(workspace: Workspace, number: int, *, labels: bool) -> None:
    """Ingest and watch a week, with or without labels of the week before."""
    if labels:
        arrive(workspace, number, rows=ROWS)
    else:
        ingest(workspace, week(number))
    score_partition(workspace, week(number))
    rejudge_performance(workspace, week(number))
    measure_performance(workspace, week(number))
    decide_and_record(workspace, week(number), trigger="watch")


def night(number: int) -> str:
    """Return the second night after the tick of a week, by which what it brings is due."""
    return week(number)[:8] + f"{int(week(number)[8:10]) + 1:02}{NIGHT}"


def test_labels_are_overdue_once_the_last_delivery_that_may_bring_them_is(tmp_path: Path) -> None:
    workspace = labelled(tmp_path)
    follow(workspace, 4, labels=True)
    assert watch_overdue(workspace, night(4)) == [], "those of week 4 come with week 5"
    follow(workspace, 5, labels=False)
    (finding,) = watch_overdue(workspace, night(5))
    assert (finding.about, finding.since) == ("labels", week(4))
    assert finding.message == f"labels are overdue: partition {week(4)} is without any, 1 ticks after their own"
    deliver(workspace, week(5), labels_by_key(ROWS[week(4)]))
    take_labels(workspace, week(5))
    assert find_overdue(workspace.state(), workspace.loop, night(5)) == []


def test_labels_under_keys_that_nobody_has_are_labels_that_have_not_come(tmp_path: Path) -> None:
    workspace = labelled(tmp_path)
    follow(workspace, 4, labels=True)
    deliver(workspace, week(5), {f"x{key}": label for key, label in labels_by_key(ROWS[week(4)]).items()})
    take_labels(workspace, week(5))
    follow(workspace, 5, labels=False)
    (finding,) = watch_overdue(workspace, night(5))
    assert "120 labels came of keys that no partition has" in finding.message


def test_labels_that_come_with_the_rows_are_overdue_where_the_watch_found_none(tmp_path: Path) -> None:
    history = served(0, 1, 2, 3)
    history.add("predictions_published", 3, champion="1", snapshot="d3")
    declared = loop(performance={"metric": "mae"})
    history.add("performance_judged", 3, verdict="insufficient data", metric="mae", rows=0, champion="1")
    assert about(find_overdue(state(history), declared, "2013-01-28T02:00:00")) == {"labels": week(3)}
    history.add("performance_judged", 3, verdict="no alarm", metric="mae", rows=100, champion="1")
    assert find_overdue(state(history), declared, "2013-01-28T02:00:00") == []


def checks(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Return check, night and verdict of what was recorded about overdue things."""
    records = [record for record in list(workspace.ledger.records()) if isinstance(record.details, OverdueJudged)]
    return [(str(record.details.check), str(record.partition), str(record.details.verdict)) for record in records]


def test_a_finding_is_recorded_and_told_once_and_once_more_when_it_is_over(tmp_path: Path) -> None:
    workspace = labelled(tmp_path)
    follow(workspace, 4, labels=True)
    late = ["2013-02-12T02:00:00", "2013-02-13T02:00:00", "2013-02-19T02:00:00"]
    assert [len(watch_overdue(workspace, key)) for key in (*late, late[0], late[2])] == [2, 0, 0, 0, 0]
    assert checks(workspace) == [("absence", late[0], "alarm")], "week 5 and the labels of week 4, one record"
    for number in (5, 6):
        follow(workspace, number, labels=True)
    assert watch_overdue(workspace, "2013-02-19T14:00:00") == []
    assert checks(workspace)[1:] == [("absence", "2013-02-19T14:00:00", "no alarm")]
    assert workspace.state().checks_of("2013-02-19T14:00:00")["absence"].message == "nothing is overdue any more"
    assert about(watch_overdue(workspace, "2013-02-26T02:00:00"))["partition"] == week(7)


def test_what_comes_on_top_of_a_known_finding_is_told_alone(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, max_age=1)
    for number in (4, 5):
        follow(workspace, number, labels=True)
    assert about(watch_overdue(workspace, night(5))) == {"champion": "1"}
    assert about(watch_overdue(workspace, night(6))) == {"partition": week(6), "labels": week(5)}
    assert [check for check, *_ in checks(workspace)] == ["staleness", "absence"]


def test_a_night_of_an_old_tick_says_nothing_of_today(tmp_path: Path) -> None:
    workspace = labelled(tmp_path)
    for number in (4, 6):
        follow(workspace, number, labels=False)
    before = list(workspace.ledger.records())
    assert watch_overdue(workspace, night(5)) == []
    assert list(workspace.ledger.records()) == before


def test_a_clock_that_jumped_ahead_and_back_leaves_tonight_as_it_was(tmp_path: Path) -> None:
    workspace = labelled(tmp_path)
    follow(workspace, 4, labels=True)
    assert watch_overdue(workspace, "2044-01-01T02:00:00")
    assert watch_overdue(workspace, night(4)) == []
    assert about(watch_overdue(workspace, night(5))) == {"partition": week(5), "labels": week(4)}
    assert watch_overdue(workspace, night(5)) == []


def test_a_night_with_a_zone_is_refused_and_without_a_declaration_nothing_is_asked(tmp_path: Path) -> None:
    workspace = labelled(tmp_path)
    with pytest.raises(DataError, match="carries a time zone"):
        watch_overdue(workspace, "2013-02-12T02:00:00+01:00")
    assert watch_overdue(with_champion(tmp_path / "quiet", ROWS), "2044-01-01T02:00:00") == []
