"""The two loops of the demo, read from the same files that Airflow reads."""

from __future__ import annotations

import runpy
from pathlib import Path
from unittest import mock

import airflow_mlops
from airflow_mlops.core.loop import Loop
from airflow_mlops.core.loop_file import read_loop
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.stack import LocalStack

DAG_FILES = ("flight_air_time", "flight_delay")


def demo_loops(root: Path) -> list[Loop]:
    """Return the declarations that the Dag files hand to ``build_dags``, without building any Dag."""
    found: list[Loop] = []

    def note(loop: Loop | str) -> None:
        found.append(loop if isinstance(loop, Loop) else read_loop(root / loop))

    with mock.patch.object(airflow_mlops, "build_dags", note, create=True):
        for name in DAG_FILES:
            runpy.run_path(str(root / "dags" / f"{name}.py"))
    return found


def open_loop(loop: Loop, stack: LocalStack, root: Path, home: Path) -> Workspace:
    """Return the workspace of a loop on the stores that the stack's tasks write to."""
    stores = Stores(home / "mlops" / "lake", stack.database_uri("mlops"), stack.mlflow_url)
    return open_workspace(loop, stores, root=root, actor="demo")
