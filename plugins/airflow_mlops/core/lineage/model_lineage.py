"""The lineage of the stages of a model: what it was fitted on, which version it became, and what it predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import PinnedPartition, TrainingWindow
from airflow_mlops.core.ledger.watch_details import ALARM, NO_ALARM
from airflow_mlops.core.lineage.data_lineage import partition_dataset
from airflow_mlops.core.lineage.dataset_names import candidate_dataset, lake_table, model_dataset
from airflow_mlops.core.lineage.task_lineage import Assertion, Dataset, DatasetName, Datasets, Part, PartitionVersion
from airflow_mlops.core.workspace import Workspace


def window_dataset(workspace: Workspace, pins: Iterable[PinnedPartition]) -> tuple[Dataset, ...]:
    """Return the snapshots as one dataset with every pinned partition; its version is that of the newest partition.

    Empty where nothing is pinned.
    """
    partitions = tuple(sorted(map(_version_of, pins), key=lambda pin: pin.partition))
    if not partitions:
        return ()
    columns = None
    published = workspace.state().published.get(partitions[-1].partition)
    if published is not None and published.digest == partitions[-1].digest:
        columns = published.columns
    name = lake_table(workspace, "snapshots")
    return (Dataset(name, partitions[-1].text, columns=columns, parts=tuple(pin.part for pin in partitions)),)


def window_lineage(workspace: Workspace, windows: Sequence[TrainingWindow]) -> Datasets:
    """Return the partitions that a training is pinned to; none where no training was started."""
    return Datasets(window_dataset(workspace, [pin for window in windows for pin in window.pins]))


def fit_lineage(workspace: Workspace, window: TrainingWindow, fitted: Mapping[str, Any] | None) -> Datasets:
    """Return the partitions that a candidate was fitted on, and the candidate; without one if the fit failed."""
    inputs = window_dataset(workspace, window.fitted)
    if fitted is None or "error" in fitted:
        return Datasets(inputs)
    return Datasets(inputs, (_candidate(workspace, fitted["candidate"], fitted["digest"]),))


def evaluation_lineage(workspace: Workspace, window: TrainingWindow, fits: Sequence[Mapping[str, Any]]) -> Datasets:
    """Return the holdout, the candidates that were judged on it and the champion they were compared with."""
    candidates = tuple(
        version_dataset(workspace, str(fit["recalled"]))
        if fit.get("recalled")
        else _candidate(workspace, fit["candidate"], fit["digest"])
        for fit in fits
        if "digest" in fit
    )
    champion = workspace.state().champion
    compared = () if champion is None else (version_dataset(workspace, champion.number),)
    return Datasets((*window_dataset(workspace, window.holdout), *candidates, *compared))


def registration_lineage(
    workspace: Workspace, window: TrainingWindow, evaluated: Mapping[str, Any], registered: Mapping[str, Any] | None
) -> Datasets:
    """Return the window and the candidate, and the version that it became; of a recall the holdout and that version."""
    if evaluated.get("recalled"):
        number = str(evaluated["recalled"])
        return Datasets((*window_dataset(workspace, window.holdout), version_dataset(workspace, number)), (), number)
    inputs = (
        *window_dataset(workspace, window.pins),
        _candidate(workspace, evaluated["candidate"], evaluated["digest"]),
    )
    if registered is None:
        return Datasets(inputs)
    number = str(registered["version"])
    return Datasets(inputs, (version_dataset(workspace, number),), number)


def version_lineage(workspace: Workspace, number: str) -> Datasets:
    """Return one version of the model as the input of what was done with it, such as its card."""
    return Datasets((version_dataset(workspace, number),), (), number)


def score_lineage(workspace: Workspace, partition: str) -> Datasets:
    """Return the snapshot and the versions by which a partition was predicted, and the predictions."""
    state = workspace.state()
    scored = state.scored.get(partition)
    if scored is None:
        published = state.published.get(partition)
        pins = [] if published is None else [PinnedPartition(partition, published.version, published.digest)]
        return Datasets(window_dataset(workspace, pins))
    snapshot = window_dataset(workspace, [PinnedPartition(partition, scored.snapshot_version, scored.snapshot)])
    numbers = [scored.champion, *filter(None, [scored.challenger])]
    # Champion and challenger are two versions of one dataset, and a consumer keeps one version of an input.
    parts = tuple(Part(number, {"version": number}) for number in numbers)
    model = Dataset(model_dataset(workspace), scored.champion, parts=parts)
    return Datasets((*snapshot, model), (_predictions(workspace, state, partition),), scored.champion)


def watch_lineage(workspace: Workspace, partition: str) -> Datasets:
    """Return the predictions of a partition with the verdict of each check of them."""
    state = workspace.state()
    scored = state.scored.get(partition)
    if scored is None:
        return Datasets()
    return Datasets((_predictions(workspace, state, partition, verdicts_of(state, partition)),), (), scored.champion)


def rollout_lineage(workspace: Workspace, endpoint: DatasetName, version: str) -> Datasets:
    """Return the version that is rolled out or taken back, and the endpoint with the version that serves now."""
    champion = workspace.state().champion
    outputs = () if champion is None else (Dataset(endpoint, champion.number),)
    return Datasets((version_dataset(workspace, version),), outputs, version)


def version_dataset(workspace: Workspace, number: str) -> Dataset:
    """Return one version of the registered model."""
    return Dataset(model_dataset(workspace), number)


def verdicts_of(state: LoopState, partition: str) -> tuple[Assertion, ...]:
    """Return the verdicts on a scored partition; one that could not be reached is left out."""
    judged = {"drift": state.drift.get(partition), "performance": state.performance.get(partition)}
    checks = {**judged, **state.checks_of(partition)}
    return tuple(
        Assertion(rule=name, success=check.verdict == NO_ALARM, severity="warn")
        for name, check in checks.items()
        if check is not None and check.verdict in (ALARM, NO_ALARM)
    )


def _predictions(
    workspace: Workspace, state: LoopState, partition: str, assertions: tuple[Assertion, ...] = ()
) -> Dataset:
    scored = state.scored[partition]
    pin = PartitionVersion(partition, scored.version, scored.digest)
    return partition_dataset(workspace, "predictions", pin, rows=scored.rows, assertions=assertions)


def _candidate(workspace: Workspace, name: str, digest: str) -> Dataset:
    return Dataset(candidate_dataset(workspace, name), digest)


def _version_of(pin: PinnedPartition) -> PartitionVersion:
    return PartitionVersion(pin.partition, pin.version, pin.digest)
