"""A standalone Spark cluster on loopback: a master and its workers, real processes that are stopped by their ids."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyspark

from airflow_mlops.core.ports.connections import SparkAddress
from airflow_mlops.testing.child_processes import Child, start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from tests.spark.engines import ON_LOOPBACK

HOUSE = Path(__file__).parents[2]
SECONDS = 120
ENVIRONMENT = {
    **os.environ,
    "SPARK_LOCAL_IP": "127.0.0.1",
    "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1",
    "PYTHONPATH": f"{HOUSE / 'plugins'}{os.pathsep}{HOUSE}",
}


@dataclass
class Cluster:
    """A master and its workers."""

    port: int
    children: list[Child] = field(default_factory=list)

    def address(self, settings: Mapping[str, str] | None = None, *, wait: float = 60.0) -> SparkAddress:
        """Return the address, with further properties of Spark."""
        properties = {**ON_LOOPBACK, "spark.executor.memory": "600m", "spark.executor.cores": "1", **(settings or {})}
        return SparkAddress(f"spark://127.0.0.1:{self.port}", properties, wait=wait)

    def stop(self) -> None:
        """Stop all processes, and those that they have started."""
        stop_sessions([child.pid for child in self.children], patience_seconds=1)
        for child in self.children:
            child.process.wait()


@contextmanager
def start_cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """Start a master and workers of one core each; stop them at the end of the block."""
    cluster = Cluster(free_port())
    spark_class = str(Path(pyspark.__path__[0]) / "bin" / "spark-class")
    deploy = "org.apache.spark.deploy"
    try:
        command = [spark_class, f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(cluster.port)]
        master = start_child("master", [*command, "--webui-port", "0"], ENVIRONMENT, folder / "master.log")
        cluster.children.append(master)
        wait_until_ready(
            master, lambda: "I have been elected leader" in master.log.read_text(), timeout_seconds=SECONDS
        )
        for number in range(workers):
            command = [spark_class, f"{deploy}.worker.Worker", "-c", "1", "-m", "1g", "--host", "127.0.0.1"]
            command += ["--webui-port", "0", "-d", str(folder / f"work {number}")]
            command += [f"spark://127.0.0.1:{cluster.port}"]
            worker = start_child(f"worker {number}", command, ENVIRONMENT, folder / f"worker-{number}.log")
            cluster.children.append(worker)
        wait_until_ready(
            master, lambda: master.log.read_text().count("Registering worker") == workers, timeout_seconds=SECONDS
        )
        yield cluster
    finally:
        cluster.stop()
