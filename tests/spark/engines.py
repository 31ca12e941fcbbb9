"""Two workspaces of one loop on the same deliveries, that differ in the engine alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.ports.connections import NoConnections, SparkAddress
from airflow_mlops.core.workspace import Workspace
from tests.bad_input.world import World

ON_LOOPBACK = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}
"""Properties of a small session: compiling Java would take longer than the rows do."""
LOCAL = SparkAddress("local[2]", ON_LOOPBACK)


@dataclass(frozen=True)
class OneCluster(NoConnections):
    """The connections of a place with one Spark cluster, and perhaps with a catalogue of Iceberg."""

    address: SparkAddress = LOCAL
    catalogue: Mapping[str, str] = field(default_factory=dict)

    def catalog(self, conn_id: str) -> Mapping[str, str]:
        """Return the properties of the catalogue."""
        return self.catalogue

    def spark(self) -> SparkAddress:
        """Return its address."""
        return self.address


def catalogue_of(root: Path) -> dict[str, str]:
    """Return the properties of the catalogue of Iceberg of a project, which is a file."""
    return {"type": "sql", "uri": f"sqlite:///{root}/catalogue.db", "warehouse": (root / "warehouse").as_uri()}


def open_engine(
    fields: dict[str, Any], root: Path, engine: str, *, address: SparkAddress = LOCAL, home: Path | None = None
) -> Workspace:
    """Return a workspace of a loop with one of the engines, with stores in ``home``, or of its own below the root."""
    folder = root / f"home of {engine}" if home is None else home
    stores = replace(Stores.embedded(folder), connections=OneCluster(address, catalogue_of(root)), secret="s" * 40)
    return open_workspace(Loop(**{**fields, "engine": engine}), stores, root=root, actor="tests")


def open_engines(fields: dict[str, Any], root: Path) -> tuple[Workspace, Workspace]:
    """Return the workspaces of a loop with each engine, that read the same deliveries."""
    return open_engine(fields, root, "local"), open_engine(fields, root, "spark")


@dataclass
class SparkWorld(World):
    """The world of a case of bad input, with its rows on executors."""

    @property
    def fields(self) -> dict[str, Any]:
        """The declaration."""
        return {**super().fields, "engine": "spark"}

    @property
    def workspace(self) -> Workspace:
        """The loop's workspace, opened afresh as each task of a Dag does."""
        opened = super().workspace
        return replace(opened, ports=replace(opened.ports, connections=OneCluster))
