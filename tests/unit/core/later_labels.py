"""The toy loop with labels that come later, from files of their own: rows have no ``y``, deliveries have it by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import InMemoryTable, in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_fields, toy_loop, toy_rows, week

DELAY = 1


def labelled_fields(
    *, delay: int = DELAY, labels: Mapping[str, Any] | None = None, tolerance: float = 0.01, **changes: Any
) -> dict[str, Any]:
    """Return the fields of the toy loop whose labels come from ``labels/<day>.parquet`` of the project folder."""
    fields = toy_fields(**changes)
    fields["data"]["tolerance"] = tolerance
    source = {"kind": "parquet", "uri": "labels/{partition}.parquet"}
    fields["data"]["labels"] = {"source": source, "delay": delay, **(labels or {})}
    return fields


def labelled_workspace(folder: Path, rows: Mapping[str, pd.DataFrame], **changes: Any) -> Workspace:
    """Return a workspace in memory; ``rows`` lose their labels, deliveries are files below ``folder``."""
    fields = labelled_fields(**changes)
    without = {key: frame.drop(columns="y", errors="ignore") for key, frame in rows.items()}
    workspace = in_memory_workspace(toy_loop(**fields), without, scratch=folder)
    tables = {name: InMemoryTable() for name in ("snapshots", "quarantine", "predictions", "labels")}
    return replace(workspace, ports=replace(workspace.ports, table=tables.__getitem__))


def deliver(workspace: Workspace, tick: str, labels: pd.DataFrame | Mapping[str, float]) -> None:
    """Put the delivery of a tick where the source finds it; a mapping is of labels by key."""
    file = workspace.root / "labels" / f"{partition_slug(tick)}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    frame = labels if isinstance(labels, pd.DataFrame) else pd.DataFrame({"id": list(labels), "y": labels.values()})
    frame.to_parquet(file)


def labels_by_key(rows: pd.DataFrame, *, plus: float = 0.0) -> dict[str, float]:
    """Return the labels of rows by their keys, each with something added."""
    return dict(zip(rows["id"], rows["y"] + plus, strict=True))


def arrive(workspace: Workspace, number: int, *, rows: Mapping[str, pd.DataFrame], delay: int = DELAY) -> None:
    """Deliver a week: the labels of the week that is ``delay`` older, then the rows."""
    if week(number - delay) in rows:
        deliver(workspace, week(number), labels_by_key(rows[week(number - delay)]))
        take_labels(workspace, week(number))
    ingest(workspace, week(number))


def weeks(count: int, **made: Any) -> dict[str, pd.DataFrame]:
    """Return the rows of the first weeks, with their labels."""
    return {week(number): toy_rows(number, **made) for number in range(count)}


def with_champion(folder: Path, rows: Mapping[str, pd.DataFrame], *, until: int = 3, **changes: Any) -> Workspace:
    """Return a workspace whose champion was trained as of a week, by which all labels up to the week before came."""
    fields = {"train": {"function": "tests.unit.core.toy_loop:candidates", "window": 2, "holdout": 1}}
    fields |= {"rollout": {"stages": [{"live": 100}]}, "watch": {"performance": {"metric": "mae", "worse_by": 0.5}}}
    workspace = labelled_workspace(folder, rows, **{**fields, **changes})
    for number in range(until + 1):
        arrive(workspace, number, rows=rows, delay=changes.get("delay", DELAY))
    go_live(workspace, week(until))
    return workspace
