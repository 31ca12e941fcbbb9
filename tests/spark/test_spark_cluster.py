"""A cluster that is not there, or fails in the middle: nothing is half-published, and a sentence says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pytest

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.engines.spark_cluster import open_session
from airflow_mlops.core.engines.spark_splits import SparkSplits, hash_message, report_message
from airflow_mlops.core.errors import DeclarationError, EngineError, EngineLostError
from airflow_mlops.core.ports.connections import SparkAddress
from airflow_mlops.release import __version__
from airflow_mlops.testing.free_ports import free_port
from tests.spark.engines import LOCAL, ON_LOOPBACK, open_engine
from tests.spark.standalone import Cluster, start_cluster
from tests.spark.test_ingest_on_spark import CONTRACT, KEYS, KINDS, assert_equal, fields_of, ingest

Work = Callable[[Iterator[int]], Iterator[pa.RecordBatch]]


def count_splits() -> Work:
    """Return work that reports each split, with the hashes 0 to 9 of each."""

    def work(numbers: Iterator[int]) -> Iterator[pa.RecordBatch]:
        for number in numbers:
            yield report_message(0, number, str(number).encode())
            yield hash_message(1, number, np.arange(10, dtype=np.uint64))

    return work


@pytest.fixture
def project(tmp_path: Path) -> Path:
    KINDS["csv"].put(tmp_path)
    (tmp_path / "contract.yaml").write_text(json.dumps(CONTRACT))
    return tmp_path


def test_workers_of_a_cluster_give_the_records_of_one_process(project: Path, cluster: Cluster) -> None:
    fields = fields_of(KINDS["csv"].source)
    local, spark = (
        open_engine(fields, project, "local"),
        open_engine(fields, project, "spark", address=cluster.address()),
    )
    for key in KEYS[:2]:
        assert ingest(spark, key) == ingest(local, key)
    assert_equal(local, spark)


def test_an_executor_that_is_killed_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    killed = tmp_path / "killed"

    def work(numbers: Iterator[int]) -> Iterator[pa.RecordBatch]:
        for number in numbers:
            if number == 1 and not killed.exists():
                killed.touch()
                daemon = os.getppid()
                executor = int(Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()[1])
                os.kill(executor, signal.SIGKILL)
                time.sleep(60)  # it ends with its executor
            yield report_message(0, number, str(number).encode())
            yield hash_message(1, number, np.arange(10, dtype=np.uint64))

    with SparkSplits(cluster.address(), work, 3) as answers:
        assert answers.reports(0) == [(0, number, str(number).encode()) for number in range(3)]
        assert answers.duplicates(1).tolist() == list(range(10))
        assert answers.surplus(1) == 20
    assert killed.exists()


def test_a_worker_that_dies_at_every_write_publishes_nothing_and_the_next_task_does(
    project: Path, cluster: Cluster
) -> None:
    fields = fields_of(KINDS["csv"].source)
    address = cluster.address(
        {"spark.executorEnv.AIRFLOW_MLOPS_FAULT": "snapshots.write_file.after:kill", "spark.task.maxFailures": "2"}
    )
    broken = open_engine(fields, project, "spark", address=address, home=project / "broken")
    with pytest.raises(EngineLostError, match=r"the work failed.*nothing was published") as raised:
        take_snapshot(broken, KEYS[0])
    assert raised.value.retryable
    assert list(broken.ledger.records()) == []
    assert broken.snapshots.partitions() == []
    again = open_engine(fields, project, "local", home=project / "broken")
    local = open_engine(fields, project, "local")
    assert ingest(again, KEYS[0]) == ingest(local, KEYS[0])
    assert_equal(local, again)


def test_a_cluster_that_dies_in_the_middle_fails_the_task_with_a_sentence(tmp_path: Path) -> None:
    started = tmp_path / "started"

    def work(numbers: Iterator[int]) -> Iterator[pa.RecordBatch]:
        for number in numbers:
            started.touch()
            time.sleep(600)
            yield report_message(0, number, b"")

    with start_cluster(tmp_path, workers=1) as dying:

        def kill_when_started() -> None:
            while not started.exists():
                time.sleep(0.1)
            dying.stop()

        open_session(dying.address(wait=60))
        killer = Thread(target=kill_when_started)
        killer.start()
        with (
            pytest.raises(EngineLostError, match=r"no Spark master answers at .*nothing was published") as raised,
            SparkSplits(dying.address(wait=60), work, 1) as answers,
        ):
            answers.reports(0)
        killer.join()
    assert raised.value.retryable


def test_a_master_that_is_not_there_is_said_before_spark_is_started(project: Path) -> None:
    address = SparkAddress(f"spark://127.0.0.1:{free_port()}", ON_LOOPBACK)
    spark = open_engine(fields_of(KINDS["csv"].source), project, "spark", address=address)
    with pytest.raises(EngineLostError, match=r"no Spark master answers at spark://127\.0\.0\.1:\d+ .*refused"):
        take_snapshot(spark, KEYS[0])
    assert list(spark.ledger.records()) == []


def test_a_cluster_without_a_free_executor_is_said_after_the_declared_wait(cluster: Cluster) -> None:
    with pytest.raises(EngineLostError, match=r"gave no executor for 2 s.*start a worker"):
        open_session(cluster.address({"spark.executor.memory": "900g"}, wait=2.0))


def test_a_worker_with_another_version_or_none_is_refused_with_both(tmp_path: Path) -> None:
    package = tmp_path / "airflow_mlops"
    package.mkdir()
    (package / "__init__.py").touch()
    release = package / "release.py"
    release.write_text('__version__ = "0.0.9"\n')
    settings = {"spark.executorEnv.PYTHONPATH": str(tmp_path), "spark.python.worker.reuse": "false"}
    address = SparkAddress("local[1]", {**ON_LOOPBACK, **settings})
    for seen in ("0.0.9", "none"):
        message = f"has airflow-mlops {seen}, and this task has {__version__}: install"
        with pytest.raises(EngineError, match=message) as raised, SparkSplits(address, count_splits(), 2) as answers:
            answers.reports(0)
        assert not raised.value.retryable
        release.unlink(missing_ok=True)


def test_a_worker_with_another_version_of_a_package_that_reads_the_source_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, number in (("task", "2"), ("worker", "1")):
        metadata = tmp_path / place / "tablereader-0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: tablereader\nVersion: {number}\n")
    monkeypatch.syspath_prepend(tmp_path / "task")
    path = os.pathsep.join([str(tmp_path / "worker"), os.environ.get("PYTHONPATH", "")])
    settings = {"spark.executorEnv.PYTHONPATH": path, "spark.python.worker.reuse": "false"}
    address = SparkAddress("local[1]", {**ON_LOOPBACK, **settings})
    for seen in ("1", "none"):
        with (
            pytest.raises(EngineError, match=f"has tablereader {seen}, and this task has 2: install") as raised,
            SparkSplits(address, count_splits(), 2, packages=["tablereader"]) as answers,
        ):
            answers.reports(0)
        assert not raised.value.retryable
        shutil.rmtree(tmp_path / "worker", ignore_errors=True)


def test_without_java_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(DeclarationError, match=r"engine: is spark, which needs Java 17.*default-jre-headless"):
        open_session(SparkAddress("local[3]", LOCAL.settings))
