"""The two loops of the demo, read from the same files that Airflow reads."""

from __future__ import annotations

from pathlib import Path

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.factories.build_dags import loops_in
from airflow_mlops.testing.stack import LocalStack

DAG_FILES = ("flight_air_time.py", "flight_delay.py")


def demo_loops(root: Path) -> list[Loop]:
    """Return the loops that the Dag files declare."""
    return [loop for name in DAG_FILES for loop in loops_in(root / "dags" / name)]


def open_loop(loop: Loop, stack: LocalStack, root: Path, home: Path) -> Workspace:
    """Return the workspace of a loop on the stores that the stack's tasks write to."""
    stores = Stores(Lake.on_disk(home / "mlops" / "lake"), stack.database_uri("mlops"), stack.mlflow_url)
    return open_workspace(loop, stores, root=root, actor="demo")
