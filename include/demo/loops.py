"""The loops of the demo, read from the same files that Airflow reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.factories.build_dags import loops_in
from airflow_mlops.testing.stack import LocalStack

MODELS = ("flight_air_time", "flight_delay", "flight_arrival")
DEFAULT = MODELS[:2]
"""The models that are replayed where none is named."""


def demo_loops(root: Path, models: Sequence[str] = DEFAULT) -> list[Loop]:
    """Return the loops of models, as their Dag files declare them."""
    return [loop for name in models for loop in loops_in(root / "dags" / f"{name}.py")]


def open_loop(loop: Loop, stack: LocalStack, root: Path, home: Path) -> Workspace:
    """Return the workspace of a loop on the stores that the stack's tasks write to."""
    stores = Stores(Lake.on_disk(home / "mlops" / "lake"), stack.database_uri("mlops"), stack.mlflow_url)
    return open_workspace(loop, stores, root=root, actor="demo")
