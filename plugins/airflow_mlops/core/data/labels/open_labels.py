"""Open the declared source of labels, and know which ticks a delivery of it may touch."""

from __future__ import annotations

from datetime import datetime

from airflow_mlops.core.declaration.data import HttpSource, Labels
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_key import previous_tick
from airflow_mlops.core.errors import DeclarationError, NotReadyError
from airflow_mlops.core.ports.partitions import Source
from airflow_mlops.core.sources.source_factory import open_source
from airflow_mlops.core.workspace import Workspace


def declared_labels(loop: Loop) -> Labels:
    """Return what is declared of labels from a source of their own.

    Raises
    ------
    NotReadyError
        If nothing is.
    """
    if loop.data.labels is None:
        raise NotReadyError("the labels come with the rows: data.labels is not declared")
    return loop.data.labels


def open_labels(workspace: Workspace) -> Source:
    """Return where deliveries of labels come from; nothing is read yet.

    Raises
    ------
    DeclarationError
        If a connection is not there or is of another kind.
    """
    data, labels = workspace.loop.data, declared_labels(workspace.loop)
    if isinstance(labels.source, HttpSource):
        return _answers(workspace, labels, labels.source)
    rows = data.model_copy(update={"source": labels.source, "time": labels.time or data.time, "contract": None})
    try:
        stands_in = workspace.loop.model_copy(update={"data": rows})
        return open_source(stands_in, workspace.connections, root=workspace.root)
    except DeclarationError as error:
        raise DeclarationError(str(error).replace("data.source", "data.labels.source")) from None


def _answers(workspace: Workspace, labels: Labels, source: HttpSource) -> Source:
    from airflow_mlops.core.sources.http_source import HttpAnswers

    data = workspace.loop.data
    columns = (labels.key or data.key, labels.label or data.label)
    return HttpAnswers(
        workspace.connections.http(source.conn_id), source.path, name=source.conn_id, form=source.format,
        records=source.records, pages=source.pages, attempts=source.attempts, timeout=source.timeout, columns=columns,
        required=frozenset(columns[:1]), limits=data.limits,
    )  # fmt: skip


def ticks_before(every: str, key: str, count: int) -> list[str]:
    """Return ``count`` ticks before ``key``, the newest first.

    >>> ticks_before("@weekly", "2013-01-20T00:00:00", 2)
    ['2013-01-13T00:00:00', '2013-01-06T00:00:00']
    """
    found: list[str] = []
    while len(found) < count:
        tick = previous_tick(every, found[-1] if found else key)
        if datetime.fromisoformat(tick).year < 1900:
            break  # a key of year 1 is a broken clock, and there is nothing before it
        found.append(tick)
    return found


def earliest_touched(loop: Loop, tick: str) -> str:
    """Return the oldest partition that a delivery may hold labels of: ``delay`` ticks before its own."""
    return ([tick, *ticks_before(loop.data.every, tick, declared_labels(loop).delay)])[-1]
