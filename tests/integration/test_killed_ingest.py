"""A kill -9 between any two writes of an ingest: the next attempt ends as if there had been no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import toy_fields, toy_rows, week

HOUSE = Path(__file__).resolve().parents[2]
POINTS = (
    "snapshots.write_file.after",
    "snapshots.commit.after",
    "quarantine.write_file.after",
    "quarantine.commit.after",
)


def opened(root: Path) -> Workspace:
    fields = toy_fields()
    fields["data"] |= {"tolerance": 0.05, "expectations": "suite.yaml"}
    return open_workspace(Loop(**fields), Stores.embedded(root / "home"), root=root, actor="test")


def ingest(root: Path, number: int) -> SnapshotPublished:
    workspace = opened(root)
    manifest = take_snapshot(workspace, week(number))
    return publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator())).details


def deliver(root: Path) -> None:
    """Put two weeks there; the second holds one row that the contract finds bad and one that the suite does."""
    (root / "toy").mkdir()
    (root / "suite.yaml").write_text(
        "expectations:\n  - {type: expect_column_values_to_be_between, kwargs: {column: x, max_value: 50}}\n"
    )
    for number in range(2):
        rows = toy_rows(number)
        if number:
            rows.loc[[3, 4], "x"] = [float("inf"), 77.0]
        rows.to_parquet(root / "toy" / f"{week(number)[:10]}.parquet")


@pytest.mark.parametrize("point", POINTS)
def test_an_ingest_killed_anywhere_is_whole_after_the_next_attempt(tmp_path: Path, point: str) -> None:
    deliver(tmp_path)
    ingest(tmp_path, 0)
    before = list(opened(tmp_path).ledger.records())
    words = f"from tests.integration.test_killed_ingest import *; ingest(Path({str(tmp_path)!r}), 1)"
    environment = {**os.environ, "AIRFLOW_MLOPS_FAULT": f"{point}:kill", "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run(
        [sys.executable, "-c", words], cwd=HOUSE, env=environment, capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    workspace = opened(tmp_path)
    assert list(workspace.ledger.records()) == before
    assert sorted(workspace.state().published) == [week(0)]

    published = ingest(tmp_path, 1)
    assert (published.rows, published.quarantined) == (118, 2)
    workspace = opened(tmp_path)
    assert workspace.snapshots.read(week(1), version=published.version).num_rows == 118  # type: ignore[arg-type]
    assert workspace.quarantine.read(week(1)).num_rows == 2
    assert workspace.snapshots.read(week(0)).num_rows == 120
    assert verify_chain(list(workspace.ledger.records())) == 2
    assert ingest(tmp_path, 1) == published
