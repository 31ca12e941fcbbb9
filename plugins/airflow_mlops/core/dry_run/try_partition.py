"""Take one partition through ingest, checks, features and, if asked for, a fit; keep nothing of it.

The stages are those of the loop itself, on stores in a temporary folder that is removed at the end. The lake, the
ledger and the registry of the loop are not opened. Checks against the history of the loop have none here, and say
nothing.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.quarantined_rows import rule_name
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.dry_run.fit_trial import CandidateTrial, try_fit
from airflow_mlops.core.dry_run.newest_partition import newest_partition
from airflow_mlops.core.errors import DeclarationError, MlopsError
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.ports.connections import Connections
from airflow_mlops.core.ports.experiments import NoExperiments
from airflow_mlops.core.ports.partitions import Arrival, Source
from airflow_mlops.core.rollout.plan_of_rollout import waits_of_rollout
from airflow_mlops.core.training.window import fit_schema, pin_published, read_rows
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.judge_in_database import take_judged_snapshot
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace

SHOWN_ROWS = 5


@dataclass
class PartitionTrial:
    """The outcome of one partition.

    Parameters
    ----------
    partition : str
        Its key.
    rows_in : int
        Rows that arrived, the bad ones included.
    published, quarantined : int
        Rows that the loop would publish, and put into quarantine; none is published of a refused partition.
    refused : str or None
        The reason why the partition is refused as a whole.
    reasons : dict of str to int
        Rows in quarantine by the rule that they break; a row that breaks several counts for each.
    warnings : list of str
        Warnings about the partition, and the gates that a candidate did not pass.
    waits : list of str
        Stages of the rollout that partitions of this size keep waiting, and what would do.
    features : dict of str to str
        Columns that a model gets, and their dtypes.
    fit : dict of str to CandidateTrial
        The candidates, by name, if a fit was asked for.
    bad_rows : list of str
        The first rows in quarantine, with their reasons.
    feature_rows : DataFrame, optional
        The features of the first rows, as a model gets them.
    """

    partition: str
    rows_in: int = 0
    published: int = 0
    quarantined: int = 0
    refused: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    features: dict[str, str] = field(default_factory=dict)
    fit: dict[str, CandidateTrial] = field(default_factory=dict)
    bad_rows: list[str] = field(default_factory=list)
    feature_rows: pd.DataFrame | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        names = (
            "partition",
            "rows_in",
            "published",
            "quarantined",
            "refused",
            "reasons",
            "warnings",
            "waits",
            "features",
        )
        fit = {
            name: {part: value for part, value in asdict(trial).items() if part != "gates"}
            for name, trial in self.fit.items()
        }
        return {**{name: getattr(self, name) for name in names}, "fit": fit}


def try_partition(
    loop: Loop,
    *,
    root: Path,
    connections: Connections,
    secret: str | None,
    now: str,
    partition: str | None = None,
    fit: bool = False,
    progress: Callable[[str], None] = lambda _text: None,
) -> PartitionTrial:
    """Take one partition through the loop in a temporary folder, and return what became of it.

    Parameters
    ----------
    loop : Loop
        The declaration.
    root : Path
        Project folder that relative paths of the declaration start from.
    connections : Connections
        Connections of the source by their ids.
    secret : str, optional
        Secret of the masks; needed if the contract masks a column.
    now : str
        The present time as an ISO time in UTC, from which the newest partition is looked for.
    partition : str, optional
        Key of the partition; the newest one by default. One that is no tick is refused with those that may be meant.
    fit : bool
        Whether to fit, save and judge the candidates, too.
    progress : callable
        Called with the name of each step.

    Raises
    ------
    DeclarationError
        If the declaration, or a file that it names, is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-try-") as folder:
        workspace, counted = _scratch_workspace(
            loop, root, replace(Stores.embedded(Path(folder)), connections=connections, secret=secret)
        )
        trial = PartitionTrial(partition or "")
        with _refusals(trial):
            progress("find the partition")
            named = loop.data.schedule.require_tick(partition) if partition else None
            trial.partition = named or newest_partition(loop, counted.source, now)
            counted.rows = 0
            _ingest(workspace, trial, progress)
            _make_features(workspace, trial, progress)
        trial.rows_in = counted.rows
        _list_quarantine(workspace, trial)
        if fit and trial.refused is None:
            _fit(workspace, trial, progress)
        return trial


def _scratch_workspace(loop: Loop, root: Path, stores: Stores) -> tuple[Workspace, CountedSource]:
    """Return a workspace on scratch stores, and its source, which counts the rows that it gives."""
    # In this process by whichever engine: the records are the same, and no worker sees the scratch folder.
    workspace = open_workspace(loop.model_copy(update={"engine": "local"}), stores, root=root, actor="try")
    counted = CountedSource(workspace.source)
    return replace(
        workspace, ports=replace(workspace.ports, source=lambda: counted, experiments=NoExperiments)
    ), counted


@contextmanager
def _refusals(trial: PartitionTrial) -> Iterator[None]:
    """Note the error that ends the body as the refusal of the partition; a wrong declaration is raised."""
    try:
        yield
    except DeclarationError:
        raise
    except MlopsError as error:
        trial.refused = str(error)
        trial.published = 0


def _ingest(workspace: Workspace, trial: PartitionTrial, progress: Callable[[str], None]) -> None:
    progress(f"read {trial.partition}")
    manifest = take_judged_snapshot(workspace, trial.partition)
    progress("check the rows")
    validated = validate_snapshot(workspace, manifest, GxValidator())
    publish_snapshot(workspace, manifest, validated)
    trial.published, trial.warnings = validated.rows, list(validated.warnings)
    trial.waits = waits_of_rollout(workspace.loop.rollout, validated.rows)


def _make_features(workspace: Workspace, trial: PartitionTrial, progress: Callable[[str], None]) -> None:
    progress("make the features")
    pin = pin_published(workspace.state(), trial.partition)
    pins = [replace(pin, labels=None)]
    features = read_rows(workspace, pins, schema=fit_schema(workspace, pins)).features
    trial.features = {str(name): str(kind) for name, kind in features.dtypes.items()}
    trial.feature_rows = features.head(SHOWN_ROWS)


def _list_quarantine(workspace: Workspace, trial: PartitionTrial) -> None:
    """Count the rows in quarantine by their reasons, and note the first of them."""
    if trial.partition not in workspace.quarantine.partitions():
        return
    for batch in workspace.quarantine.batches(trial.partition):
        for row in batch.to_pylist():
            trial.quarantined += 1
            reasons = json.loads(row["reasons"])
            for rule in dict.fromkeys(map(rule_name, reasons)):
                trial.reasons[rule] = trial.reasons.get(rule, 0) + 1
            if len(trial.bad_rows) < SHOWN_ROWS:
                place = row["at"] or f"key {row['key']}"
                trial.bad_rows.append(f"{place}: {'; '.join(reasons)}: {row['row']}")


def _fit(workspace: Workspace, trial: PartitionTrial, progress: Callable[[str], None]) -> None:
    try:
        trial.fit = try_fit(workspace, trial.partition, progress)
    except DeclarationError:
        raise
    except MlopsError as error:
        trial.fit = {"every candidate": CandidateTrial(False, str(error), {})}
    trial.warnings += [
        f"candidate {name} does not pass the gates: {gate}"
        for name, candidate in trial.fit.items()
        for gate in candidate.gates
        if gate.startswith("fail")
    ]


class CountedSource:
    """A source that counts the rows of its last reading, those that could not be split included.

    Parameters
    ----------
    source : Source
        The source that is read.

    Attributes
    ----------
    rows : int
        Number of rows of the last reading.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rows = 0

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        self.rows = 0
        with self.source.open(partition, known=known) as arrival:
            arrival.batches = self._count(arrival.batches)
            try:
                yield arrival
            finally:
                self.rows += len(arrival.broken)

    def _count(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.rows += batch.num_rows
            yield batch
