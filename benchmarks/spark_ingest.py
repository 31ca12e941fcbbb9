"""Measure the wall time of ingesting a large partition on two cores of Spark, against one process.

Both write the same rows into the same kind of table and end in the same digests. The first partition, which also makes
the bins of the profile and starts Spark, is taken in before the clock starts: what the start costs is printed. Each
measurement is a process of its own, in the environment of ``make spark``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from airflow_mlops.core.ports.connections import NoConnections, SparkAddress
from airflow_mlops.testing.peak_memory import peak_mb
from benchmarks.ingest import take_measured, write_project
from benchmarks.row import Row

PYTHON = Path(__file__).resolve().parents[1] / ".venv-spark" / "bin" / "python"
ROWS = 20_000_000
ROUNDS = 3
BAR = 1.0
SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.sql.shuffle.partitions": "8",
}


class TwoCores(NoConnections):
    """The connections of a machine that is its own cluster."""

    def spark(self) -> SparkAddress:
        """Return two cores of this machine."""
        return SparkAddress("local[2]", SETTINGS)


def spark_ingest() -> list[Row]:
    """Return the row: wall seconds of ingesting twenty million rows of 20 columns."""
    seconds: dict[str, list[float]] = {"spark": [], "local": []}
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
        project = write_project(Path(folder), ROWS)
        for number in range(ROUNDS):
            for engine, values in seconds.items():
                measured = run_engine(engine, project)
                values.append(measured["wall"])
                print(f"    round {number + 1}/{ROUNDS}, {engine}: {measured}", flush=True)
    ours, peer = median(seconds["spark"]), median(seconds["local"])
    return [
        Row(
            name="spark_ingest",
            ours=round(ours, 1),
            peer=round(peer, 1),
            unit="s",
            peer_name="the same rows in one process",
            ratio=round(ours / peer, 3),
            bar=f"ratio <= {BAR:g}",
            reached=ours <= BAR * peer,
        )
    ]


def run_engine(engine: str, project: Path) -> dict[str, float]:
    """Ingest in a process of its own; return wall seconds, those before the clock started, and the driver's memory."""
    command = [str(PYTHON), "-m", "benchmarks.spark_ingest", engine, str(project)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{process.stderr}")
    result: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    began = time.perf_counter()
    wall = take_measured(Path(sys.argv[2]), time.perf_counter, engine=sys.argv[1], connections=TwoCores())
    before = time.perf_counter() - began - wall
    print(json.dumps({"wall": round(wall, 2), "before": round(before, 2), "peak_mb": round(peak_mb(), 1)}))
