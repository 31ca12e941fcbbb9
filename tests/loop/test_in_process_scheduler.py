"""The in-process scheduler runs chains of partitioned Dags as a real Airflow does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

CHAIN = '''
"""Dags: ingest -> score -> watch -> (when the key says so) retrain -> train."""
from datetime import datetime, timezone

from airflow.sdk import DAG, Asset, AssetAlias, CronPartitionTimetable, PartitionedAssetTimetable, task

start = {"start_date": datetime(2013, 1, 1, tzinfo=timezone.utc), "catchup": False}
snapshot, predictions = Asset("x://flights/snapshot"), Asset("x://flights/predictions")
retrain = Asset("x://flights/retrain")
asked = AssetAlias("flights_retrain")

with DAG("flights_ingest", schedule=CronPartitionTimetable("0 0 * * 0", timezone="UTC"), **start):

    @task(outlets=[snapshot])
    def ingest(dag_run):
        return dag_run.partition_key

    ingest()

with DAG("flights_score", schedule=PartitionedAssetTimetable(assets=snapshot), **start):

    @task
    def shards():
        return [1, 2, 3]

    @task
    def score(shard):
        return shard * 10

    @task(outlets=[predictions])
    def total(parts):
        return sum(parts)

    total(score.expand(shard=shards()))

with DAG("flights_watch", schedule=PartitionedAssetTimetable(assets=predictions), **start):

    @task(outlets=[asked])
    def watch(dag_run, outlet_events):
        if dag_run.partition_key.endswith("-10T00:00:00"):
            outlet_events[asked].add(retrain, extra={"because": "drift"})

    watch()

with DAG("flights_train", schedule=PartitionedAssetTimetable(assets=retrain), **start):

    @task
    def train(dag_run, triggering_asset_events):
        causes = [e.extra["because"] for e in triggering_asset_events[retrain]]
        return {"key": dag_run.partition_key, "causes": causes}

    train()
'''

FATES = '''
"""A Dag whose tasks end in every way a task can end."""
from datetime import timedelta

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

with DAG("fates", schedule=None):

    @task(retries=2, retry_delay=timedelta(0))
    def second_time_lucky(ti):
        if ti.try_number < 2:
            raise OSError("the first attempt fails")
        return ti.try_number

    @task
    def skipped():
        raise AirflowSkipException("not there yet")

    @task(retries=3, retry_delay=timedelta(0))
    def refused():
        raise AirflowFailException("the partition is refused")

    @task
    def never_reached(value):
        return value

    second_time_lucky()
    skipped()
    never_reached(refused())
'''

DELTA = '''
"""A Dag that writes and reads a Delta table in its tasks."""
from airflow.sdk import DAG, task

with DAG("lake", schedule=None, params={"uri": "unset"}):

    @task
    def write(params):
        import pyarrow as pa
        from deltalake import write_deltalake

        write_deltalake(params["uri"], pa.table({"x": [1, 2, 3]}))

    @task
    def read(params):
        from deltalake import DeltaTable

        return DeltaTable(params["uri"]).to_pyarrow_table().num_rows

    write() >> read()
'''


def dags(folder: Path, source: str) -> Path:
    """Write one Dag file and return its folder."""
    (folder / "airflow_dag_file.py").write_text(source, encoding="utf-8")
    return folder


def test_a_partition_goes_from_ingest_to_train_when_the_watch_asks_for_it(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    scheduler = start_scheduler(dags(tmp_path, CHAIN))
    scheduler.trigger("flights_ingest", partition_key="2013-03-10T00:00:00")
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert [(run.dag_id, run.state, run.partition_key) for run in scheduler.dag_runs()] == [
        (f"flights_{stage}", "success", "2013-03-10T00:00:00") for stage in ("ingest", "score", "watch", "train")
    ]
    assert scheduler.xcom("flights_score", "total") == 60
    assert scheduler.xcom("flights_train", "train") == {"key": "2013-03-10T00:00:00", "causes": ["drift"]}


def test_a_partition_stops_at_the_watch_when_nothing_is_asked_for(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    scheduler = start_scheduler(dags(tmp_path, CHAIN))
    scheduler.trigger("flights_ingest", partition_key="2013-03-17T00:00:00")
    scheduler.run_until_idle()
    assert [run.dag_id for run in scheduler.dag_runs()] == [
        "flights_ingest",
        "flights_score",
        "flights_watch",
    ]


def test_a_burst_of_partitions_loses_none_of_them(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    scheduler = start_scheduler(dags(tmp_path, CHAIN))
    keys = [f"2013-{month:02}-10T00:00:00" for month in range(1, 9)]
    for key in keys:
        scheduler.trigger("flights_ingest", partition_key=key)
    scheduler.run_until_idle()
    for stage in ("ingest", "score", "watch", "train"):
        runs = scheduler.dag_runs(f"flights_{stage}")
        assert sorted(run.partition_key or "" for run in runs) == keys
        assert {run.state for run in runs} == {"success"}


def test_tasks_retry_skip_and_fail_as_they_do_in_a_worker(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    scheduler = start_scheduler(dags(tmp_path, FATES))
    scheduler.trigger("fates")
    scheduler.run_until_idle()
    assert {(record.task_id, record.state, record.try_number) for record in scheduler.task_instances()} == {
        ("second_time_lucky", "success", 2),
        ("skipped", "skipped", 1),
        ("refused", "failed", 1),
        ("never_reached", "upstream_failed", 0),
    }
    explained = {record.task_id: text for record, text in scheduler.failures()}
    assert "AirflowFailException: the partition is refused" in explained["refused"]
    assert [run.state for run in scheduler.dag_runs()] == ["failed"]


def test_tasks_can_use_a_delta_table(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    lake = tmp_path / "lake"
    folder = tmp_path / "dags"
    folder.mkdir()
    scheduler = start_scheduler(dags(folder, DELTA))
    scheduler.trigger("lake", conf={"uri": str(lake)})
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert scheduler.xcom("lake", "read") == 3


def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    with pytest.raises(ImportError, match=r"airflow_dag_file\.py"):
        start_scheduler(dags(tmp_path, "from airflow.sdk import dag_that_is_not_there"))


def test_the_clock_starts_no_run(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    scheduler = start_scheduler(dags(tmp_path, CHAIN))
    scheduler.run_until_idle()
    assert scheduler.dag_runs() == []
