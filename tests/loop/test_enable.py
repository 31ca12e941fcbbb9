"""``airflow-mlops enable`` and ``disable``: all Dags of a loop, in an order in which no event is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from airflow.sdk import Asset
from sqlalchemy import text

from airflow_mlops.cli import main
from airflow_mlops.factories.build_dags import build_dags
from airflow_mlops.testing.metadata import session_scope
from tests.loop.project import KEYS, Project, make_project, week

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

STAGES = ("ingest", "score", "watch", "nightly", "train", "rollout", "control")
CONSUMERS = """
SELECT a.uri, s.dag_id FROM asset a JOIN dag_schedule_asset_reference s ON s.asset_id = a.id
"""
LOG = """
CREATE TRIGGER log_pause AFTER UPDATE OF is_paused ON dag
BEGIN INSERT INTO pause_log (dag_id, paused) VALUES (new.dag_id, new.is_paused); END
"""


def run(command: str, project: Project, *options: str) -> int:
    """Run a command about the loop of a project and return its exit code."""
    return main([command, project.model, "--root", str(project.root), *options])


def load_paused(project: Project, start_scheduler: SchedulerFactory) -> InProcessScheduler:
    """Load the Dags of a project as Airflow first reads them: paused."""
    scheduler = start_scheduler(project.dags)
    scheduler.pause(*scheduler.dag_ids)
    return scheduler


def query(statement: str) -> list[tuple[str, ...]]:
    """Return the rows that a statement gives in Airflow's metadata database."""
    with session_scope() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def feeds_of(project: Project) -> list[tuple[str, str]]:
    """Return the pairs of a Dag that emits an event and a Dag that hears it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        dags = build_dags(f"include/loops/{project.model}.yaml", root=project.root)
    tasks = [(dag.dag_id, task) for dag in dags.values() for task in dag.tasks]
    assets = [(asset, dag_id) for dag_id, task in tasks for asset in [*task.outlets, getattr(task, "emits", None)]]
    emitted = {(asset.uri, dag_id) for asset, dag_id in assets if isinstance(asset, Asset)}
    heard = query(CONSUMERS)
    return [(producer, consumer) for uri, producer in emitted for heard_uri, consumer in heard if uri == heard_uri]


def states() -> dict[str, str]:
    """Return whether each Dag is paused, by its id."""
    return {dag_id: "paused" if paused else "enabled" for dag_id, paused in query("SELECT dag_id, is_paused FROM dag")}


@pytest.fixture
def changes(airflow_home: Path) -> Iterator[None]:
    """A log of the database about each Dag that is paused or unpaused, for :func:`order_of`."""
    with session_scope() as session:
        session.execute(text("CREATE TABLE pause_log (number INTEGER PRIMARY KEY, dag_id TEXT, paused INTEGER)"))
        session.execute(text(LOG))
    yield
    with session_scope() as session:
        session.execute(text("DROP TRIGGER log_pause"))
        session.execute(text("DROP TABLE pause_log"))


def forget_changes() -> None:
    """Empty the log of the database."""
    with session_scope() as session:
        session.execute(text("DELETE FROM pause_log"))


def order_of(paused: int) -> list[str]:
    """Return the ids of the Dags in the order in which the database saw them change to a state."""
    return [dag_id for (dag_id,) in query(f"SELECT dag_id FROM pause_log WHERE paused = {paused} ORDER BY number")]


def test_every_dag_is_enabled_before_any_that_it_hears_and_paused_after_it(
    tmp_path: Path, start_scheduler: SchedulerFactory, changes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    load_paused(project, start_scheduler)
    ids = {project.dag(stage) for stage in STAGES}
    forget_changes()
    assert run("enable", project) == 0
    assert states() == dict.fromkeys(ids, "enabled")
    enabled = order_of(0)
    assert capsys.readouterr().out.splitlines() == [f"{dag_id:<32}  enabled" for dag_id in enabled]
    feeds = feeds_of(project)
    chain = [("ingest", "score"), ("score", "watch"), ("watch", "train"), ("nightly", "train"), ("train", "rollout")]
    assert set(feeds) == {
        (project.dag(producer), project.dag(consumer)) for producer, consumer in [*chain, ("watch", "rollout")]
    }
    assert [pair for pair in feeds if enabled.index(pair[1]) > enabled.index(pair[0])] == []
    assert run("disable", project) == 0
    assert states() == dict.fromkeys(ids, "paused")
    assert order_of(1) == enabled[::-1]


def test_a_second_time_changes_nothing_and_says_so(
    tmp_path: Path, start_scheduler: SchedulerFactory, changes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    load_paused(project, start_scheduler)
    assert run("enable", project) == 0
    before = query("SELECT dag_id, paused FROM pause_log")
    capsys.readouterr()
    assert run("enable", project) == 0
    assert query("SELECT dag_id, paused FROM pause_log") == before
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(STAGES)
    assert all(line.endswith("  was enabled already") for line in lines)


def test_a_dag_that_airflow_does_not_know_is_named_and_the_others_are_enabled(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    load_paused(project, start_scheduler)
    with session_scope() as session:
        session.execute(text("UPDATE dag SET is_stale = 1 WHERE dag_id = :dag_id"), {"dag_id": project.dag("watch")})
    assert run("enable", project) == 1
    error = capsys.readouterr().err
    assert f"Airflow does not know {project.dag('watch')}: the dag-processor has not read the Dag file" in error
    assert "airflow dags list-import-errors" in error
    others = {project.dag(stage) for stage in STAGES if stage != "watch"}
    assert {dag_id for dag_id, state in states().items() if state == "enabled"} == others


def test_it_waits_for_a_dag_that_airflow_has_not_read_yet(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project = make_project(tmp_path)
    load_paused(project, start_scheduler)
    dag_id = project.dag("ingest")

    def set_stale(stale: int) -> None:
        with session_scope() as session:
            session.execute(
                text("UPDATE dag SET is_stale = :stale WHERE dag_id = :dag_id"), {"stale": stale, "dag_id": dag_id}
            )

    set_stale(1)
    assert run("enable", project, "--wait", "0.1") == 1
    reader = Timer(1.0, set_stale, [0])  # stands in for the dag-processor
    reader.start()
    assert run("enable", project, "--wait", "60") == 0
    reader.join()
    assert states()[dag_id] == "enabled"


def test_without_any_dag_in_airflow_nothing_is_queued(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    assert run("enable", project, "--past") == 1
    assert f"{project.dag('control')}, {project.dag('rollout')}" in capsys.readouterr().err
    assert query("SELECT run_id FROM dag_run") == []


def test_a_run_under_way_is_named_when_its_dag_is_paused(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    scheduler = load_paused(project, start_scheduler)
    assert run("enable", project) == 0
    scheduler.trigger(project.dag("ingest"), partition_key=KEYS[0])
    with session_scope() as session:
        session.execute(text("UPDATE dag_run SET state = 'running'"))
    capsys.readouterr()
    assert run("disable", project) == 0
    first, *others = capsys.readouterr().out.splitlines()
    warning = "paused; 1 under way: its tasks go on, and what they emit is not heard before enable"
    assert first.split(maxsplit=1) == [project.dag("ingest"), warning]
    assert all(line.endswith("  paused") for line in others)


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
def test_the_partitions_that_the_source_has_are_queued_once_under_the_keys_of_the_loop(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str], timezone: str
) -> None:
    fields = make_project(tmp_path / "unused").fields["data"]
    data = {**fields, "source": {"kind": "parquet", "uri": "include/data/{partition}.parquet"}, "timezone": timezone}
    project = make_project(tmp_path / "used", data=data)
    schedule = project.workspace.loop.data.schedule
    ticks = [schedule.closing(schedule.start_of("2013-01-06"))]
    ticks += [schedule.next(ticks[0]), schedule.next(schedule.next(ticks[0]))]
    (project.root / "include" / "data").mkdir()
    for tick in ticks:
        pq.write_table(week(tick), project.root / "include" / "data" / f"{schedule.slug(tick)}.parquet")
    load_paused(project, start_scheduler)
    assert run("enable", project, "--past") == 0
    assert f"for each partition from {ticks[0]} to {ticks[-1]}, the oldest first" in capsys.readouterr().out
    queued = "SELECT partition_key FROM dag_run WHERE run_type = 'backfill' ORDER BY id"
    assert [key for (key,) in query(queued)] == ticks
    assert run("enable", project, "--past") == 1
    assert "were not queued: Another backfill is running" in capsys.readouterr().err
    assert len(query(queued)) == len(ticks)


def test_without_a_first_tick_the_past_is_refused(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = make_project(tmp_path).fields["data"]
    project = make_project(tmp_path / "open", data={name: fields[name] for name in fields if name != "from"})
    load_paused(project, start_scheduler)
    assert run("enable", project, "--past") == 1
    assert "data.from: is not declared, so the past has no beginning" in capsys.readouterr().err
