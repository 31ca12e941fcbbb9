"""Open a workspace on its embedded or declared stores: Delta on disk, a SQL ledger, MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_mlops.core.governance.evidence_files import EvidenceFiles
from airflow_mlops.core.loop import Loop
from airflow_mlops.core.workspace import Ports, Workspace


@dataclass(frozen=True)
class Stores:
    """Where everything is kept.

    Parameters
    ----------
    lake : Path
        Folder of snapshots, predictions, quarantine, evidence and model files.
    ledger_url : str
        SQLAlchemy URL of the ledger's database, with its driver.
    tracking_uri : str
        Of MLflow.
    artifact_location : str, optional
        Where MLflow keeps artefacts, if there is no server to decide that.
    """

    lake: Path
    ledger_url: str
    tracking_uri: str
    artifact_location: str | None = None

    @classmethod
    def embedded(cls, home: Path) -> Stores:
        """Return the defaults of one machine: everything below ``home``."""
        home.mkdir(parents=True, exist_ok=True)
        return cls(
            home / "lake", f"sqlite:///{home / 'ledger.db'}", f"sqlite:///{home / 'mlflow.db'}",
            (home / "mlartifacts").as_uri(),
        )  # fmt: skip


def open_workspace(loop: Loop, stores: Stores, *, root: Path, actor: str) -> Workspace:
    """Return the workspace of a loop; what it holds is opened on first use.

    Parameters
    ----------
    root : Path
        Project folder that relative paths of the declaration start from.
    actor : str
        Who acts, as the ledger shall name them; at most 250 characters.
    """
    folder = stores.lake / loop.model

    def source() -> object:
        from airflow_mlops.core.data.parquet_source import ParquetFiles

        return ParquetFiles(loop.data.source.uri, root=root)

    def table(name: str) -> object:
        from airflow_mlops.core.data.delta_snapshots import DeltaPartitions

        return DeltaPartitions(folder / name)

    def ledger() -> object:
        from airflow_mlops.core.governance.sql_ledger import SqlLedger

        return SqlLedger(stores.ledger_url, loop.model)

    def registry() -> object:
        from airflow_mlops.core.registry.mlflow_registry import MlflowRegistry

        return MlflowRegistry(stores.tracking_uri, loop.model, artifact_location=stores.artifact_location)

    ports = Ports(source, table, ledger, lambda: EvidenceFiles(folder / "evidence"), registry)  # type: ignore[arg-type]
    return Workspace(loop, root, folder, ports, actor[:250])
