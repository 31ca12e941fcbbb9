"""Open the declared source of labels, and compute the ticks that a delivery may label."""

from __future__ import annotations

from airflow_mlops.core.data.row_times import DeclaredTimes
from airflow_mlops.core.declaration.data import HttpSource, Labels
from airflow_mlops.core.declaration.key_columns import key_columns
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


def open_labels(workspace: Workspace) -> Source:
    """Open the source of labels; nothing is read yet.

    Raises
    ------
    DeclarationError
        If a connection is missing or is of another kind.
    """
    data, labels = workspace.loop.data, declared_labels(workspace.loop)
    if isinstance(labels.source, HttpSource):
        return _open_http(workspace, labels, labels.source)
    rows = data.model_copy(update={"source": labels.source, "time": labels.time or data.time, "contract": None})
    try:
        label_loop = workspace.loop.model_copy(update={"data": rows})
        times = DeclaredTimes(rows, workspace.root)
        return open_source(label_loop, workspace.connections, root=workspace.root, times=times)
    except DeclarationError as error:
        raise DeclarationError(str(error).replace("data.source", "data.labels.source")) from None


def _open_http(workspace: Workspace, labels: Labels, source: HttpSource) -> Source:
    from airflow_mlops.core.sources.http_source import HttpAnswers

    data = workspace.loop.data
    columns = (*key_columns(labels.key or data.key), labels.label or data.label)
    return HttpAnswers(
        workspace.connections.http(source.conn_id),
        source.path,
        name=source.conn_id,
        form=source.format,
        records=source.records,
        pages=source.pages,
        attempts=source.attempts,
        timeout=source.timeout,
        columns=columns,
        required=frozenset(columns[:-1]),
        limits=data.limits,
        schedule=data.schedule,
    )


def earliest_labelled_partition(loop: Loop, tick: str) -> str:
    """Return the oldest partition that a delivery may label: ``delay`` ticks before its own."""
    return ([tick, *loop.data.schedule.before(tick, declared_labels(loop).delay)])[-1]
