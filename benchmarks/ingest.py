"""Measure the cost of ingesting a partition, against a plain read and write of the same file by pyarrow.

Ours reads the file, holds every row to a contract, tells repeated keys, takes the digest and the profile
and commits the rows to Delta, all in one pass; so does a loop every week. Its first partition, which also
makes the bins of the profile, is taken in before the clock starts. Each measurement is a process of its
own, ours and the peer in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.csv import WriteOptions, read_csv, write_csv

from airflow_mlops.core.ports.connections import Connections, NoConnections
from airflow_mlops.testing.peak_memory import peak_mb
from benchmarks.row import Row

ROWS = 1_000_000
MANY = 10_000_000
ROUNDS = 5
MEMORY_ROUNDS = 3
CHUNK = 250_000
FLOATS = [f"x{number:02}" for number in range(15)]
FIRST, MEASURED = "2013-01-06T00:00:00", "2013-01-13T00:00:00"
COST_BAR, CSV_BAR, MEMORY_BAR = 2.5, 2.0, 1.2

CONTRACT = (
    "contract: bench\nkey: id\ntime: at\ncolumns:\n  id: {type: text, nullable: false}\n"
    "  at: {type: time, nullable: false}\n  place: {type: text}\n  kind: {type: text}\n  y: {type: float}\n"
    + "".join(f"  {name}: {{type: float}}\n" for name in FLOATS)
)


def ingest() -> list[Row]:
    """Return the row: CPU seconds of ingesting a million rows of 20 columns."""
    return [measure_cost("ingest", "parquet", COST_BAR, "pyarrow reads and writes the same file")]


def ingest_csv() -> list[Row]:
    """Return the row: the same from a CSV file with every text in quotes, which are held to RFC 4180."""
    return [measure_cost("ingest_csv", "csv", CSV_BAR, "pyarrow reads the same file and writes it as Parquet")]


def measure_cost(name: str, kind: str, bar: float, peer_name: str) -> Row:
    """Return the row of a kind of file."""
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
        project = write_project(Path(folder), ROWS, kind)
        ours, peer = [], []
        for number in range(ROUNDS):
            ours.append(run_measurement("ours", project)["cpu"])
            peer.append(run_measurement("peer", project)["cpu"])
            print(f"\r    round {number + 1}/{ROUNDS}", end="", flush=True)
    print()
    our_median, peer_median = median(ours), median(peer)
    return Row(
        name=name,
        ours=round(our_median, 3),
        peer=round(peer_median, 3),
        unit="CPU s",
        peer_name=peer_name,
        ratio=round(our_median / peer_median, 3),
        bar=f"ratio <= {bar:g}",
        reached=our_median <= bar * peer_median,
    )


def ingest_memory_growth() -> list[Row]:
    """Return the row: peak memory of ingesting ten million rows, against one million."""
    peaks: dict[int, list[float]] = {ROWS: [], MANY: []}
    for rows, values in peaks.items():
        with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
            project = write_project(Path(folder), rows)
            for number in range(MEMORY_ROUNDS):
                values.append(run_measurement("ours", project)["peak_mb"])
                print(f"\r    {rows:,} rows, round {number + 1}/{MEMORY_ROUNDS}   ", end="", flush=True)
    print()
    peak_of_many, peak_of_one = median(peaks[MANY]), median(peaks[ROWS])
    return [
        Row(
            name="ingest_memory_growth",
            ours=round(peak_of_many, 1),
            peer=round(peak_of_one, 1),
            unit="MB peak",
            peer_name="the same for one million rows",
            ratio=round(peak_of_many / peak_of_one, 3),
            bar=f"ratio <= {MEMORY_BAR:g}",
            reached=peak_of_many <= MEMORY_BAR * peak_of_one,
        )
    ]


def write_project(folder: Path, rows: int, kind: str = "parquet") -> Path:
    """Write a project with a contract, a small first partition and one of ``rows`` rows; return its folder."""
    (folder / "in").mkdir()
    (folder / "contract.yaml").write_text(CONTRACT)
    for key, count in ((FIRST, 1_000), (MEASURED, rows)):
        file = folder / "in" / f"{key[:10]}.parquet"
        write(file, count, key)
        if kind == "csv":
            write_csv(pq.read_table(file), file.with_suffix(".csv"), WriteOptions(quoting_style="needed"))
            file.unlink()
    return folder


def file_of(project: Path) -> Path:
    """Return the measured file of a project."""
    (file,) = (project / "in").glob(f"{MEASURED[:10]}.*")
    return file


def write(path: Path, rows: int, key: str) -> None:
    """Write a Parquet file of 20 columns: key, time, two categories and 16 numbers."""
    random = np.random.default_rng(rows)
    end = int(datetime.fromisoformat(key).replace(tzinfo=UTC).timestamp() * 1_000_000)
    schema = pa.schema(
        [("id", pa.string()), ("at", pa.timestamp("us", tz="UTC")), ("place", pa.string()), ("kind", pa.string())]
        + [(name, pa.float64()) for name in ["y", *FLOATS]]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            ids = np.char.add("order-", np.arange(start, start + count).astype(str))
            times = pa.array(end - 1 - random.integers(0, 600_000_000_000, count), pa.timestamp("us", tz="UTC"))
            words = [pa.array(np.array(list("abcdef"))[random.integers(0, 6, count)]) for _ in range(2)]
            numbers = [pa.array(random.normal(size=count)) for _ in range(16)]
            writer.write_table(pa.table([pa.array(ids), times, *words, *numbers], schema=schema))


def run_measurement(name: str, project: Path) -> dict[str, float]:
    """Run one measurement in a process of its own and return its CPU seconds and peak memory."""
    command = [sys.executable, "-m", "benchmarks.ingest", name, str(project)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{process.stderr}")
    result: dict[str, float] = json.loads(process.stdout)
    return result


def of_ours(project: Path) -> float:
    """Ingest the partition into fresh stores and return the CPU seconds."""
    return take_measured(project, time.process_time)


def take_measured(
    project: Path, clock: Callable[[], float], *, engine: str = "local", connections: Connections | None = None
) -> float:
    """Ingest the partition into fresh stores by an engine and return the seconds of a clock."""
    from airflow_mlops.core.data.take_snapshot import take_snapshot
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.open_workspace import Stores, open_workspace
    from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
    from airflow_mlops.core.validation.validate_snapshot import ValidatedSnapshot

    kind = file_of(project).suffix.removeprefix(".")
    loop = Loop(
        model="bench",
        engine=engine,
        owner="bench",
        train={"function": "none:none"},
        gates=[{"metric": "mae", "at_most": 1.0}],
        data={
            "source": {"kind": kind, "uri": f"in/{{partition}}.{kind}"},
            "contract": "contract.yaml",
            "key": "id",
            "time": "at",
            "label": "y",
        },
    )
    with tempfile.TemporaryDirectory(dir=project) as home:
        stores = replace(Stores.embedded(Path(home)), connections=connections or NoConnections())
        workspace = open_workspace(loop, stores, root=project, actor="bench")
        first = take_snapshot(workspace, FIRST)
        report = workspace.evidence.put({})
        publish_snapshot(
            workspace, first, ValidatedSnapshot(FIRST, first.version, first.digest, first.rows, first.rejected, report)
        )
        began = clock()
        manifest = take_snapshot(workspace, MEASURED)
        spent = clock() - began
        if manifest.rejected or not manifest.profile:
            raise RuntimeError(f"{manifest.rejected} rows of the benchmark were rejected")
    return spent


def of_peer(project: Path) -> float:
    """Read the file and write it again, and return the CPU seconds."""
    began = time.process_time()
    file = file_of(project)
    pq.write_table(read_csv(file) if file.suffix == ".csv" else pq.read_table(file), project / "copy.parquet")
    return time.process_time() - began


if __name__ == "__main__":
    spent = {"ours": of_ours, "peer": of_peer}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps({"cpu": spent, "peak_mb": peak_mb()}))
