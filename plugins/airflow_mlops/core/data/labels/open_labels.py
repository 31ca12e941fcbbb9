"""Open the declared source of labels, and compute the ticks that a delivery may label."""

from __future__ import annotations

from airflow_mlops.core.data.row_times import DeclaredTimes
from airflow_mlops.core.declaration.data import Data, Labels
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError, NotReadyError
from airflow_mlops.core.ports.partitions import Source
from airflow_mlops.core.sources.source_factory import open_source
from airflow_mlops.core.workspace import Workspace


def declared_labels(loop: Loop) -> Labels:
    """Return the declared source of labels.

    Raises
    ------
    NotReadyError
        If no source of labels is declared.
    """
    if loop.data.labels is None:
        raise NotReadyError("the labels come with the rows: data.labels is not declared")
    return loop.data.labels


def data_of_labels(loop: Loop) -> Data:
    """Return the declaration of the deliveries as one of rows: their source and columns, without a contract.

    Raises
    ------
    NotReadyError
        If no source of labels is declared.
    """
    data, labels = loop.data, declared_labels(loop)
    columns = {
        "key": labels.key or data.key,
        "label": labels.label or data.label,
        "time": labels.time or data.time,
    }
    return data.model_copy(update={"source": labels.source, "contract": None, **columns})


def open_labels(workspace: Workspace) -> Source:
    """Open the source of labels; nothing is read yet.

    Raises
    ------
    DeclarationError
        If a connection is missing or is of another kind.
    """
    label_data = data_of_labels(workspace.loop)
    try:
        label_loop = workspace.loop.model_copy(update={"data": label_data})
        times = DeclaredTimes(label_data, workspace.root)
        return open_source(label_loop, workspace.connections, root=workspace.root, times=times)
    except DeclarationError as error:
        raise DeclarationError(str(error).replace("data.source", "data.labels.source")) from None


def earliest_labelled_partition(loop: Loop, tick: str) -> str:
    """Return the oldest partition that a delivery may label: ``delay`` ticks before its own."""
    return ([tick, *loop.data.schedule.before(tick, declared_labels(loop).delay)])[-1]
