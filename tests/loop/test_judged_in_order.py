"""A backfill in any order: what a newer partition silenced is named, and a command judges it in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.ledger.record import verify_chain
from tests.loop.invariants import (
    assert_champion_is_the_head_and_can_be_read,
    assert_nothing_saw_what_came_later,
    assert_one_retrain_at_a_time,
)
from tests.loop.project import KEYS, Project, make_project

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

LATE, FIRST, NEXT = KEYS[2:4], KEYS[4], KEYS[5]


def run(project: Project, *words: str) -> int:
    """Run a command about the project's loop."""
    loop = project.root / "include" / "loops" / f"{project.model}.yaml"
    loop.write_text(json.dumps(project.fields))
    return main([words[0], str(loop), "--root", str(project.root), *words[1:]])


def test_partitions_that_a_newer_one_silenced_are_named_and_judged_in_the_order_of_their_keys(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = {"drift": {}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}, "checks": ["predictions"]}
    retrain = {"policy": "alarm", "alarm": {"windows": 3, "of": 4}, "cooldown": 1}
    project = make_project(tmp_path, watch=watch, retrain=retrain)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    for key in [FIRST, *reversed(LATE)]:
        project.put(key, level=6.0, shift=50.0)
        project.ingest(scheduler, key)
    assert scheduler.failures() == []

    # The newest alarms, those that came after it are silent, and the run, the command and the page name them.
    assert project.judged("performance", FIRST).verdict == "alarm"
    for key in LATE:
        assert (project.judged("performance", key).verdict, project.judged("performance", key).historical) == (
            "no alarm",
            True,
        )
    decided = scheduler.xcom(project.dag("watch"), "decide", partition_key=LATE[0])
    assert decided["out_of_order"] == LATE
    assert "nothing of it raises an alarm" in decided["reason"]
    assert run(project, "status") == 0
    printed = capsys.readouterr().out
    assert f"2 partitions raise no alarm, because a newer one was decided on first: {', '.join(LATE)}" in printed
    assert "airflow-mlops judge judges them in the order of their keys" in printed
    page = tmp_path / "page.html"
    assert run(project, "report", "--partition", LATE[0], "--into", str(page)) == 0
    assert "airflow-mlops judge" in page.read_text()

    assert run(project, "judge", "--partition", FIRST) != 0
    assert f"partition {FIRST} has no check that was silenced by a newer one" in capsys.readouterr().err
    before = len(project.records)
    assert run(project, "judge") == 0
    printed = capsys.readouterr().out
    for check in ("drift", "performance", "predictions"):
        assert [line[:19] for line in printed.splitlines() if f"{check}: alarm" in line] == LATE
    for key in LATE:
        judged = [record.details for record in project.of_kind("window_judged") if record.partition == key]
        assert {details.check for details in judged if not details.historical} == {
            "drift",
            "performance",
            "predictions",
        }
        assert project.workspace.state().performance[key].verdict == "alarm"
    assert len(project.records) == before + 6

    # A second time there is nothing left to judge.
    assert run(project, "judge") == 0
    assert capsys.readouterr().out == "no partition came out of order\n"
    assert len(project.records) == before + 6

    # The next decision counts what was found.
    project.put(NEXT, level=6.0, shift=50.0)
    project.ingest(scheduler, NEXT)
    (decision,) = [record.details for record in project.of_kind("retrain_decided") if record.partition == NEXT]
    assert decision.retrain
    assert sorted(decision.numbers["alarms"]) == [*LATE, FIRST, NEXT]
    records = project.records
    assert verify_chain(records) == len(records)
    assert len({record.operation for record in records}) == len(records)
    assert_nothing_saw_what_came_later(records)
    assert_one_retrain_at_a_time(project.workspace, records)
    assert_champion_is_the_head_and_can_be_read(project.workspace, records)
    # Of one content a check has at most one judgement in its place and one in order.
    judged = [(record.partition, record.details) for record in project.of_kind("window_judged")]
    names = [(key, each.check, each.snapshot, each.historical) for key, each in judged]
    assert len(set(names)) == len(names)


def test_a_corrected_partition_is_historical_and_not_out_of_order(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    for key in KEYS[2:4]:
        project.put(key)
        project.ingest(scheduler, key)
    project.put(KEYS[2], level=6.0)
    project.ingest(scheduler, KEYS[2])
    assert project.workspace.state().performance[KEYS[2]].historical
    assert run(project, "status") == 0
    assert "out of order" not in capsys.readouterr().out
