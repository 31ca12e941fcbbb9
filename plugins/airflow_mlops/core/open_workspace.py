"""Open a workspace on its embedded or declared stores: Delta on disk, a SQL ledger, MLflow."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.lake import Lake, LakeFiles
from airflow_mlops.core.ledger.evidence_files import EvidenceFiles
from airflow_mlops.core.ports.connections import Connections, NoConnections
from airflow_mlops.core.workspace import Ports, StoreAddresses, Workspace

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.protocols import Ledger
    from airflow_mlops.core.ports.experiments import Experiments
    from airflow_mlops.core.ports.partitions import PartitionedTable, Source
    from airflow_mlops.core.ports.registry import ModelRegistry
    from airflow_mlops.core.ports.rollout_target import RolloutTarget
    from airflow_mlops.core.ports.signing_keys import SigningKeys


EMBEDDED_LEDGER = "ledger.db"
"""Name of the file of the embedded ledger."""


@dataclass(frozen=True)
class Stores:
    """Where everything is kept.

    Parameters
    ----------
    lake : Lake
        Folder of snapshots, predictions, quarantine, evidence and model files.
    ledger_url : str
        SQLAlchemy URL of the ledger's database, with its driver.
    tracking_uri : str
        Of MLflow.
    artifact_location : str, optional
        Where MLflow keeps artefacts, if there is no server to decide that.
    scratch : Path, optional
        Folder of this machine for files on their way; the lake itself where that is one.
    secret : str, optional
        What masks personal columns.
    connections : Connections
        What knows the connections of sources by their ids; by default there are none.
    keys : SigningKeys, optional
        What signs versions; by default the folder ``keys`` of this machine, beside the scratch folder.
    artefact_prefixes : tuple of str, optional
        Below which addresses versions may have their files; below the model's own in MLflow by default.
    """

    lake: Lake
    ledger_url: str
    tracking_uri: str
    artifact_location: str | None = None
    scratch: Path | None = None
    secret: str | None = field(default=None, repr=False)
    connections: Connections = field(default_factory=NoConnections)
    keys: SigningKeys | None = None
    artefact_prefixes: tuple[str, ...] = ()

    @classmethod
    def embedded(cls, home: Path) -> Stores:
        """Return the defaults of one machine: everything below ``home``."""
        home.mkdir(parents=True, exist_ok=True)
        return cls(
            Lake.on_disk(home / "lake"),
            f"sqlite:///{home / EMBEDDED_LEDGER}",
            f"sqlite:///{home / 'mlflow.db'}",
            (home / "mlartifacts").as_uri(),
            scratch=home / "scratch",
        )


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
    scratch = folder.path if folder.is_local else scratch_of(stores) / loop.model

    def source() -> Source:
        from airflow_mlops.core.data.row_times import DeclaredTimes
        from airflow_mlops.core.sources.source_factory import open_source

        times = DeclaredTimes(loop.data, root)
        return open_source(loop, stores.connections, root=root, times=times, scratch=scratch)

    def table(name: str) -> PartitionedTable:
        from airflow_mlops.core.data.delta_snapshots import DeltaPartitions

        return DeltaPartitions(folder / name)

    def ledger() -> Ledger:
        from airflow_mlops.core.ledger.sql_ledger import SqlLedger

        return SqlLedger(stores.ledger_url, loop.model)

    def registry() -> ModelRegistry:
        from airflow_mlops.core.registry.mlflow_registry import MlflowRegistry

        return MlflowRegistry(
            stores.tracking_uri,
            loop.model,
            artifact_location=stores.artifact_location,
            artefact_prefixes=stores.artefact_prefixes,
        )

    def experiments() -> Experiments:
        from airflow_mlops.core.registry.mlflow_experiments import MlflowExperiments
        from airflow_mlops.core.registry.mlflow_server import MlflowServer

        server = MlflowServer(stores.tracking_uri, loop.model, artifact_location=stores.artifact_location)
        return MlflowExperiments(server, (folder / "snapshots").uri)

    def keys() -> SigningKeys:
        from airflow_mlops.core.ports.signing_keys import KeyFolder

        beside = stores.lake.path if stores.scratch is None and folder.is_local else scratch_of(stores)
        return stores.keys or KeyFolder(beside.parent / "keys")

    shared = None if folder.is_local else LakeFiles(folder / "shared")
    ports = Ports(
        source,
        table,
        ledger,
        lambda: EvidenceFiles(folder / "evidence"),
        registry,
        keys,
        lambda: shared,
        target=default_target,
        connections=lambda: stores.connections,
        experiments=experiments,
        addresses=StoreAddresses(folder.uri, stores.tracking_uri),
    )
    return Workspace(loop, root, scratch, ports, actor[:250], stores.secret)


def default_target(workspace: Workspace) -> RolloutTarget:
    """Return the rollout target that needs no connection: the batch of each partition.

    Raises
    ------
    DeclarationError
        If the loop declares another target.
    """
    from airflow_mlops.core.rollout.targets.batch.batch_target import BatchTarget

    declared = workspace.loop.rollout.target
    if declared != "batch":
        raise DeclarationError(f"is {declared!r}, and nothing here reaches it", key="rollout.target")
    return BatchTarget(workspace)


def scratch_of(stores: Stores) -> Path:
    """Return the local folder beside a lake that is not on this machine.

    Raises
    ------
    DeclarationError
        If the stores name none.
    """
    if stores.scratch is None:
        raise DeclarationError(f"the lake is at {stores.lake.uri}; say which local folder is for files on their way")
    return stores.scratch
