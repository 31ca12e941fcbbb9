"""Splits that are read one by one, each as if in a process of its own, give the records and rows of one reading.

What Spark itself does with them is tested by ``make spark``.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from airflow_mlops.core.data import spread_reading
from airflow_mlops.core.data.delta_snapshots import DataFile, DeltaPartitions
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.dry_run.try_partition import try_partition
from airflow_mlops.core.engines.spark_splits import Hashes, Work
from airflow_mlops.core.errors import EngineError, PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.ports.connections import NoConnections, SparkAddress
from tests.same_records import facts, rows_of
from tests.spark.engines import open_engine, open_engines
from tests.spark.test_ingest_on_spark import (
    CONTRACT,
    FILES,
    KEYS,
    KINDS,
    ROWS,
    compare_after_an_erasure,
    compare_engines,
    fields_of,
)
from tests.spark.whole_loop import compare_loops

SPLITS_OF_A_TASK = 2


class SplitsOneByOne:
    """The answers to work on splits, done here with what another process would get."""

    def __init__(self, _address: SparkAddress, work: Work, count: int, *, packages: Sequence[str]) -> None:
        for package in packages:
            version(package)  # raises where what reads the splits is not installed
        self._work, self._count = pickle.dumps(work), count

    def __enter__(self) -> SplitsOneByOne:
        messages: list[pa.RecordBatch] = []
        for first in range(0, self._count, SPLITS_OF_A_TASK):
            work: Work = pickle.loads(self._work)
            messages += work(iter(range(first, min(first + SPLITS_OF_A_TASK, self._count))))
        self._rows = pa.Table.from_batches(messages)
        return self

    def __exit__(self, *_: object) -> None:
        """Keep nothing."""

    def reports(self, *kinds: int) -> list[tuple[int, int, bytes]]:
        rows = self._rows.select(["kind", "split", "report"]).to_pylist()
        return [(row["kind"], row["split"], row["report"]) for row in rows if row["kind"] in kinds]

    def duplicates(self, kind: int) -> Hashes:
        return self._counts(kind)[0]

    def surplus(self, kind: int) -> int:
        return self._counts(kind)[1]

    def _counts(self, kind: int) -> tuple[Hashes, int]:
        chosen = np.array(self._rows["kind"].to_pylist()) == kind
        hashes = self._rows["hash"].filter(pa.array(chosen)).to_numpy().astype(np.int64).view(np.uint64)
        values, counts = np.unique(hashes, return_counts=True)
        return values[counts > 1], int((counts - 1).sum())


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_reading, "SparkSplits", SplitsOneByOne)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    KINDS["csv"].put(tmp_path)
    (tmp_path / "contract.yaml").write_text(json.dumps(CONTRACT))
    return tmp_path


@pytest.mark.parametrize("name", KINDS)
def test_splits_give_the_records_and_rows_of_the_whole(name: str, tmp_path: Path) -> None:
    compare_engines(KINDS[name], tmp_path)


def test_rows_of_a_forgotten_subject_are_dropped_from_splits(tmp_path: Path) -> None:
    compare_after_an_erasure(tmp_path)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"tolerance": 0}, PartitionRefusedError, "rows are bad"),
        ({"limits": {"rows": 700}}, PartitionRefusedError, "700"),
    ],
)
def test_a_refused_partition_leaves_no_file_and_the_rows_in_quarantine(
    data: dict[str, Any], error: type[Exception], message: str, project: Path
) -> None:
    local, spark = open_engines(fields_of(KINDS["csv"].source, **data), project)
    for workspace in (local, spark):
        with pytest.raises(error, match=message):
            take_snapshot(workspace, KEYS[1])
        assert list((workspace.scratch / "snapshots").rglob("*.parquet")) == []
    assert facts(spark)[0][1] == facts(local)[0][1] == "partition_refused"
    if "tolerance" in data:
        assert facts(spark) == facts(local)
        assert rows_of(spark, "quarantine") == rows_of(local, "quarantine")


def test_a_file_that_is_spoilt_is_refused_in_the_same_words(project: Path) -> None:
    (project / "in/2013-01-13/1.csv").write_bytes(b'id,at,who,x,n,kind,y\n"' + b"a" * 2_000_000)
    local, spark = open_engines(fields_of(KINDS["csv"].source), project)
    messages = []
    for workspace in (local, spark):
        with pytest.raises(SourceUnreadableError) as raised:
            take_snapshot(workspace, KEYS[1])
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert facts(spark) == facts(local)


def test_a_worker_that_does_not_see_the_files_of_the_task_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OtherMachine(SplitsOneByOne):
        def __enter__(self) -> SplitsOneByOne:
            (project / "in/2013-01-06/2.csv").unlink()
            return super().__enter__()

    monkeypatch.setattr(spread_reading, "SparkSplits", OtherMachine)
    spark = open_engine(fields_of(KINDS["csv"].source), project, "spark")
    with pytest.raises(EngineError, match=r"on a worker, and the task itself sees it; the files must be in one folder"):
        take_snapshot(spark, KEYS[0])
    assert list(spark.ledger.records()) == []


def test_files_that_another_machine_wrote_into_its_own_folder_are_not_committed(tmp_path: Path) -> None:
    table = DeltaPartitions(tmp_path / "rows")
    rows = pa.table({"x": [1, 2]})
    written = table.write_file(KEYS[0], rows.to_reader())
    assert written is not None
    elsewhere = DataFile(written.name.replace(".parquet", "0.parquet"), written.size, written.rows)
    with pytest.raises(EngineError, match="the lake must be one folder for all machines, or in S3"):
        table.commit_files(KEYS[0], rows.schema, [written, elsewhere])
    assert table.partitions() == []
    table.discard_files([written, elsewhere])
    assert list((tmp_path / "rows").rglob("*.parquet")) == []


def test_a_loop_whose_engine_changes_from_week_to_week_has_the_same_ledger(tmp_path: Path) -> None:
    compare_loops(tmp_path, ("local", "spark"))


def test_a_partition_is_tried_in_one_process_without_a_cluster(project: Path) -> None:
    loop = Loop(**fields_of(KINDS["csv"].source), engine="spark")
    trial = try_partition(loop, root=project, connections=NoConnections(), secret="s" * 40, now=KEYS[2])
    assert trial.refused is None
    assert (trial.partition, trial.rows_in) == (KEYS[2], ROWS + FILES), "each file has a broken row"
