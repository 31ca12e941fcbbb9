"""Work on the splits of a partition on the executors of a Spark cluster.

Each task gets some of the splits, in their order, and answers with messages: reports, and hashes that are counted by a
shuffle. A task that fails, or whose executor is lost, is tried again by Spark, so it may have written files that no
report names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_mlops.core.engines.spark_cluster import open_session, watch_cluster
from airflow_mlops.core.errors import EngineError
from airflow_mlops.core.ports.connections import SparkAddress
from airflow_mlops.release import __version__

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Hashes = npt.NDArray[np.uint64]
Work = Callable[[Iterator[int]], Iterator[pa.RecordBatch]]
"""Works on some splits, by their numbers, and yields messages; it is sent to the executors."""
MISMATCH = -1
TASKS_PER_CORE = 4
SCHEMA = pa.schema([("kind", pa.int8()), ("split", pa.int32()), ("hash", pa.int64()), ("report", pa.binary())])
SQL_SCHEMA = "kind tinyint, split int, hash bigint, report binary"


def report_message(kind: int, split: int, report: bytes) -> pa.RecordBatch:
    """Return a message with a report on a split."""
    return pa.RecordBatch.from_pylist([{"kind": kind, "split": split, "report": report}], schema=SCHEMA)


def hash_message(kind: int, split: int, hashes: Hashes) -> pa.RecordBatch:
    """Return a message with hashes of one kind, shape (n_hashes,)."""
    count = len(hashes)
    columns = [
        pa.repeat(pa.scalar(kind, pa.int8()), count),
        pa.repeat(pa.scalar(split, pa.int32()), count),
        pa.array(hashes.view(np.int64)),
        pa.nulls(count, pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class SparkSplits:
    """The answers of executors to work on splits; a context manager that lets go of them on exit.

    Parameters
    ----------
    address : SparkAddress
        The cluster.
    work : callable
        The work on some splits.
    count : int
        Number of the splits, at least 1.
    packages : sequence of str
        Packages that the work needs on each worker, in the version of this process, beside this one and PyArrow.
    """

    def __init__(self, address: SparkAddress, work: Work, count: int, *, packages: Sequence[str] = ()) -> None:
        self._address, self._work, self._count = address, work, count
        self._packages = packages
        self._session = open_session(address)
        self._answers: DataFrame | None = None
        self._repeats: DataFrame | None = None

    def __enter__(self) -> SparkSplits:
        from pyspark.serializers import CPickleSerializer

        versions = {"airflow-mlops": __version__, "pyarrow": pa.__version__}
        versions |= {package: version(package) for package in self._packages}
        packed = CPickleSerializer().dumps(self._work)
        tasks = min(self._count, TASKS_PER_CORE * self._session.sparkContext.defaultParallelism)
        with watch_cluster(self._session, self._address):
            numbers = self._session.range(0, self._count, 1, tasks)
            # Reports and hashes are asked for one after the other, and the rows are to be read once.
            self._answers = numbers.mapInArrow(_checked(packed, versions), SQL_SCHEMA).persist()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Spark would answer the same work from what it has kept; a cluster that is gone has let go of it.
        for kept in (self._repeats, self._answers):
            if kept is not None:
                with suppress(Exception):
                    kept.unpersist()

    def reports(self, *kinds: int) -> list[tuple[int, int, bytes]]:
        """Return kind, split and content of every report of some kinds, in the order of the splits.

        Raises
        ------
        EngineError
            If a worker has not the package, or another version of it.
        EngineLostError
            If the work failed, or the cluster was lost.
        """
        wanted = ", ".join(map(str, (MISMATCH, *kinds)))
        rows = self._ask(lambda answers: answers.where(f"kind IN ({wanted})").select("kind", "split", "report"))
        reports = [tuple(row.values()) for row in rows.to_pylist()]
        mismatch = next((report for kind, _, report in reports if kind == MISMATCH), None)
        if mismatch is not None:
            raise EngineError(json.loads(mismatch))
        return sorted(reports, key=lambda row: row[:2][::-1])

    def duplicates(self, kind: int) -> Hashes:
        """Return the hashes of a kind that occur more than once, in ascending order."""
        rows = self._ask(lambda answers: self._repeated(answers, kind).select("hash"))
        return np.sort(np.asarray(rows.column("hash").to_numpy(), np.int64).view(np.uint64))

    def surplus(self, kind: int) -> int:
        """Return the number of hashes of a kind that repeat an earlier one: all but the first of each."""
        rows = self._ask(lambda answers: self._repeated(answers, kind).selectExpr("sum(count - 1) AS surplus"))
        return rows.column("surplus")[0].as_py() or 0

    def _ask(self, question: Callable[[DataFrame], DataFrame]) -> pa.Table:
        assert self._answers is not None, "is asked inside the context"
        with watch_cluster(self._session, self._address):
            return question(self._answers).toArrow()

    def _repeated(self, answers: DataFrame, kind: int) -> DataFrame:
        """Return the hashes of a kind that repeat; those of all kinds go through one shuffle, at the first question."""
        if self._repeats is None:
            counts = answers.where("hash IS NOT NULL").groupBy("kind", "hash").count()
            self._repeats = counts.where("count > 1").persist()
        return self._repeats.where(f"kind = {kind}")


def _checked(packed: bytes, versions: dict[str, str]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Return work that first compares the versions of a worker with those of this process.

    Each task compares them, since no job is sure to reach every worker. The function inside is sent by value and the
    work packed, so that nothing of this package is imported before.
    """

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import json
        from importlib.metadata import PackageNotFoundError, version

        import pyarrow

        seen = {"pyarrow": pyarrow.__version__}
        try:
            from airflow_mlops.release import __version__ as installed

            seen["airflow-mlops"] = installed
        except ImportError:
            seen["airflow-mlops"] = "none"
        for name, wanted in versions.items():
            try:
                here = seen.get(name) or version(name)
            except PackageNotFoundError:
                here = "none"
            if here != wanted:
                import socket

                text = (
                    f"a worker on {socket.gethostname()} has {name} {here}, and this task has {wanted}: install "
                    "the version of the task on every worker, or name an environment with it as python in the extra "
                    "of connection mlops_spark; nothing was published"
                )
                row = {"kind": [-1], "split": [-1], "hash": [None], "report": [json.dumps(text).encode()]}
                types = {"kind": "int8", "split": "int32", "hash": "int64", "report": "binary"}
                yield pyarrow.RecordBatch.from_arrays(
                    [pyarrow.array(row[column], kind) for column, kind in types.items()], names=list(row)
                )
                return
        from pyspark.serializers import CPickleSerializer

        work = CPickleSerializer().loads(packed)
        yield from work(int(number) for batch in batches for number in batch.column(0).to_pylist())

    return run
