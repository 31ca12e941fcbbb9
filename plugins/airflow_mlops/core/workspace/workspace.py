"""The workspace of a loop: its declaration and its ports.

Each port is opened at its first use, so that a stage pays only for the ports that it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.user_function import put_on_path
from airflow_mlops.core.errors import DeclarationError, StaleLedgerError
from airflow_mlops.core.lake import replace_file
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.watch_details import WindowJudged
from airflow_mlops.core.ports.connections import Connections, NoConnections
from airflow_mlops.core.ports.experiments import Experiments, NoExperiments
from airflow_mlops.core.ports.partitions import PartitionedTable, Source
from airflow_mlops.core.ports.registry import ModelRegistry

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.contract import Contract
    from airflow_mlops.core.lake import LakeFiles
    from airflow_mlops.core.ports.batch_predictor import BatchPredictor
    from airflow_mlops.core.ports.rollout_target import RolloutTarget
    from airflow_mlops.core.ports.signing_keys import SigningKeys
    from airflow_mlops.core.ports.step_runner import StepRunner

D = TypeVar("D", bound=Details)


@dataclass(frozen=True)
class StoreAddresses:
    """Where the stores of a loop are, for records of lineage; empty where they are nowhere.

    ``lake`` is the folder of the loop, ``registry`` the address of MLflow.
    """

    lake: str = ""
    registry: str = field(default="", repr=False)


@dataclass(frozen=True)
class Ports:
    """Factories of the ports; tests pass in-memory ones."""

    source: Callable[[], Source]
    table: Callable[[str], PartitionedTable]
    ledger: Callable[[], Ledger]
    evidence: Callable[[], EvidenceStore]
    registry: Callable[[], ModelRegistry]
    keys: Callable[[], SigningKeys]
    shared: Callable[[], LakeFiles | None] = lambda: None
    runner: Callable[[Workspace], StepRunner] | None = None
    """Fits candidates, if something beside this machine can be reached."""
    predictor: Callable[[Workspace], BatchPredictor] | None = None
    """Predicts partitions, if something beside this machine can be reached."""
    target: Callable[[Workspace], RolloutTarget] | None = None
    """Serves the model."""
    connections: Callable[[], Connections] = NoConnections
    """Databases and HTTP services by their ids, for queried metrics of a rollout."""
    experiments: Callable[[], Experiments] = NoExperiments
    """Shows what each training tried."""
    addresses: StoreAddresses = field(default=StoreAddresses(), kw_only=True)


@dataclass(frozen=True)
class Workspace:
    """A loop and its ports.

    Parameters
    ----------
    loop : Loop
        The declaration.
    root : Path
        Project folder that relative paths of the declaration start from.
    scratch : Path
        Folder for fitted candidates and cached models of this loop.
    ports : Ports
        Factories of the ports.
    actor : str
        Name of who acts, for the ledger.
    secret : str, optional
        Secret that masks personal columns; needed if the contract masks any.
    in_order : bool
        Whether windows are judged as in the order of their keys, whatever was decided on before.
    """

    loop: Loop
    root: Path
    scratch: Path
    ports: Ports
    actor: str
    secret: str | None = field(default=None, repr=False)
    in_order: bool = False

    def __post_init__(self) -> None:
        """Make the functions of the user's own metrics importable; they are imported where they are first called."""
        if self.loop.evaluate.metrics:
            put_on_path(self.root)

    @cached_property
    def contract(self) -> Contract | None:
        """The declared contract of the data set; None if the first partition defines the columns.

        Raises
        ------
        DeclarationError
            If it cannot be read, or names another key or time than the loop.
        """
        from airflow_mlops.core.declaration.contract import load_contract

        return load_contract(self.loop.data, self.root)

    @cached_property
    def hidden(self) -> frozenset[str]:
        """The columns that no model sees: those that the contract hides, and the weight of a row."""
        weight = self.loop.train.weight
        return (self.contract.hidden if self.contract else frozenset()) | ({weight} if weight else frozenset())

    @cached_property
    def source(self) -> Source:
        """The source of rows."""
        return self.ports.source()

    @cached_property
    def snapshots(self) -> PartitionedTable:
        """Immutable, versioned partitions."""
        return self.ports.table("snapshots")

    @cached_property
    def quarantine(self) -> PartitionedTable:
        """Bad rows, with their reasons."""
        return self.ports.table("quarantine")

    @cached_property
    def predictions(self) -> PartitionedTable:
        """The predictions of each version, and the served one."""
        return self.ports.table("predictions")

    @cached_property
    def ledger(self) -> Ledger:
        """The decisions of the loop, in order."""
        return self.ports.ledger()

    @cached_property
    def evidence(self) -> EvidenceStore:
        """Reports named by their digest."""
        return self.ports.evidence()

    @cached_property
    def registry(self) -> ModelRegistry:
        """The model registry: versions and aliases."""
        return self.ports.registry()

    @cached_property
    def experiments(self) -> Experiments:
        """The store of experiments, where people compare trainings."""
        return self.ports.experiments()

    @cached_property
    def keys(self) -> SigningKeys:
        """The key that signs versions, and the trusted public keys."""
        return self.ports.keys()

    @cached_property
    def target(self) -> RolloutTarget:
        """The rollout target that serves the model.

        Raises
        ------
        DeclarationError
            If the declared target cannot be reached from here.
        """
        if self.ports.target is None:
            raise DeclarationError(
                f"is {self.loop.rollout.target!r}, and nothing here reaches it", key="rollout.target"
            )
        return self.ports.target(self)

    @cached_property
    def connections(self) -> Connections:
        """Databases and HTTP services by the ids of their connections."""
        return self.ports.connections()

    def share(self, path: Path) -> None:
        """Copy a file below ``scratch`` to the shared lake, if there is one, for other workers."""
        files = self.ports.shared()
        if files is not None:
            files.put(path.relative_to(self.scratch).as_posix(), path.read_bytes())

    def shared(self, path: Path) -> Path:
        """Return a file below ``scratch``, fetched from the shared lake if another worker wrote it."""
        files = self.ports.shared()
        if files is not None and not path.exists():
            content = files.get(path.relative_to(self.scratch).as_posix())
            with replace_file(path) as part:
                part.write_bytes(content)
        return path

    def state(self, *, as_of: str | None = None, before: str | None = None) -> LoopState:
        """Return the state of the loop, now or as of a partition."""
        return self.ledger.state(as_of=as_of, before=before)

    def is_historical(self, partition: str) -> bool:
        """Return whether a judgement as of a partition raises no alarm, as a newer one was decided on before."""
        return not self.in_order and self.state().is_historical(partition)

    def keeps(self, recorded: WindowJudged) -> bool:
        """Return whether a recorded judgement stays as it is; False if it is to be made again in its order."""
        return not (self.in_order and recorded.historical)

    def draft(self, details: D, operation: str, partition: str | None, *, evidence: tuple[str, ...] = ()) -> Draft[D]:
        """Return a draft of a record in this actor's name."""
        return Draft(details, operation, partition, self.actor, evidence)

    def record_fact(self, draft: Draft[D]) -> Record[D]:
        """Append a fact, retrying while other records come first.

        Decisions are not appended here, since each depends on the record that it was decided on.
        """
        while True:
            try:
                return self.ledger.append(draft, read=self.ledger.head().sequence)
            except StaleLedgerError:
                continue
