"""A year of flights, backfilled twice: the same digests, and the second time nothing at all happens."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from airflow_mlops.core.declaration.read_loop import read_loop
from airflow_mlops.core.open_workspace import open_workspace
from tests.loop.project import embedded_stores

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "include" / "data" / "flights_air_time"
PARTITIONS = 52
DAG_FILE = f'''"""Airflow Dags of the flights, declared in another folder."""
from airflow_mlops import build_dags

build_dags("include/loops/flight_air_time.yaml", root={str(ROOT)!r}, default_args={{"retries": 0}})
'''


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_a_year_of_flights_backfilled_twice_gives_the_same_digests_and_no_side_effect(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    (tmp_path / "flights_dags.py").write_text(DAG_FILE)
    loop = read_loop(ROOT / "include" / "loops" / "flight_air_time.yaml")
    workspace = open_workspace(loop, embedded_stores(), root=ROOT, actor="test")
    keys = [f"{path.stem}T00:00:00" for path in sorted(SOURCE.glob("*.parquet"))][:PARTITIONS]
    assert len(keys) == PARTITIONS
    scheduler = start_scheduler(tmp_path)

    def backfill() -> None:
        for key in keys:
            scheduler.trigger("flight_air_time_ingest", partition_key=key)
        scheduler.run_until_idle()

    backfill()
    assert scheduler.failures() == []
    first = workspace.state().published
    assert sorted(first) == keys
    # Every row that arrived is published or in quarantine.
    for key in keys:
        arrived = pq.read_metadata(SOURCE / f"{key[:10]}.parquet").num_rows
        assert first[key].rows + first[key].quarantined == arrived
    records, files = list(workspace.ledger.records()), fingerprint(workspace.scratch)

    backfill()
    assert {run.state for run in scheduler.dag_runs("flight_air_time_ingest")} == {"success"}
    again = workspace.state().published
    assert {key: of.digest for key, of in again.items()} == {key: of.digest for key, of in first.items()}
    assert list(workspace.ledger.records()) == records
    assert fingerprint(workspace.scratch) == files
