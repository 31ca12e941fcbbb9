"""Measure reading twelve partitions out of one CSV file of a gigabyte, against a single pass over the same file.

Ours reads the partitions one after another, each from a source opened afresh as in a task of its own: the first makes
the copy that the others are read from. The peer reads all rows of the file once. Each is a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow.csv import CSVWriter, WriteOptions

from benchmarks.ingest import CONTRACT, write
from benchmarks.row import Row

ROWS = 3_000_000
PARTITIONS = 12
BAR = 1.5
FIRST = "2013-01-13T00:00:00"


def ingest_one_file() -> list[Row]:
    """Return the row: CPU seconds of reading twelve partitions of one file."""
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
        project = write_project(Path(folder))
        size = (project / "in" / "all.csv").stat().st_size
        ours, peer = run("ours", project), run("peer", project)
    return [
        Row(
            name="ingest_one_file",
            ours=round(ours, 3),
            peer=round(peer, 3),
            unit="CPU s",
            peer_name=f"one pass over the same {size / 1e9:.2f} GB",
            ratio=round(ours / peer, 3),
            bar=f"ratio <= {BAR:g}",
            reached=ours <= BAR * peer,
        )
    ]


def write_project(folder: Path) -> Path:
    """Write a contract and one file of twelve weeks; return the folder."""
    (folder / "in").mkdir()
    (folder / "contract.yaml").write_text(CONTRACT)
    part, writer = folder / "part.parquet", None
    for key in keys():
        write(part, ROWS // PARTITIONS, key)
        rows = pq.read_table(part)
        if writer is None:
            writer = CSVWriter(
                folder / "in" / "all.csv", rows.schema, write_options=WriteOptions(quoting_style="needed")
            )
        writer.write_table(rows)
    assert writer is not None
    writer.close()
    return folder


def keys() -> list[str]:
    """Return the keys of the partitions."""
    from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule

    ticks = [FIRST]
    while len(ticks) < PARTITIONS:
        ticks.append(PartitionSchedule("@weekly").next(ticks[-1]))
    return ticks


def run(name: str, project: Path) -> float:
    """Return the CPU seconds of one measurement, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ingest_one_file", name, str(project)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{process.stderr}")
    return float(json.loads(process.stdout))


def of_ours(project: Path) -> float:
    """Read every partition and return the CPU seconds."""
    began, rows = time.process_time(), 0
    for key in keys():
        with open_table(project).open(key) as arrival:
            rows += sum(batch.num_rows for batch in arrival.batches)
    require_all(rows)
    return time.process_time() - began


def of_peer(project: Path) -> float:
    """Read the file once and return the CPU seconds."""
    from airflow_mlops.core.sources.csv_source import CsvFiles

    began = time.process_time()
    with CsvFiles("in/all.csv", root=project).open(FIRST) as arrival:
        require_all(sum(batch.num_rows for batch in arrival.batches))
    return time.process_time() - began


def open_table(project: Path) -> Any:
    """Return the source of a loop that is declared over the file."""
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.open_workspace import Stores, open_workspace

    loop = Loop(
        model="bench",
        owner="bench",
        train={"function": "none:none"},
        gates=[{"metric": "mae", "at_most": 1.0}],
        data={
            "source": {"kind": "csv", "uri": "in/all.csv"},
            "contract": "contract.yaml",
            "key": "id",
            "time": "at",
            "label": "y",
        },
    )
    return open_workspace(loop, Stores.embedded(project / "home"), root=project, actor="bench").source


def require_all(rows: int) -> None:
    """Raise RuntimeError unless every row was read."""
    if rows != ROWS:
        raise RuntimeError(f"{rows:,} of {ROWS:,} rows were read")


if __name__ == "__main__":
    print(json.dumps({"ours": of_ours, "peer": of_peer}[sys.argv[1]](Path(sys.argv[2]))))
