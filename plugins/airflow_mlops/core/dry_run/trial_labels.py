"""Take the labels of one partition that have a source of their own, for a fit on its rows alone."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.labels.labels_of import LabelReader, pin_labels
from airflow_mlops.core.data.labels.open_labels import declared_labels
from airflow_mlops.core.data.labels.read_delivery import SCHEMA
from airflow_mlops.core.data.labels.take_labels import TABLE, take_labels
from airflow_mlops.core.errors import SourceMissingError, TrainingError
from airflow_mlops.core.workspace import Workspace


def take_all_labels(workspace: Workspace, partition: str) -> Workspace:
    """Take every delivery that may label a partition, and return a loop whose labels have all come.

    A fit as of the partition then sees the labels that a later one would see. One half is published under the tick
    before.

    Returns
    -------
    Workspace
        The workspace with a loop to which no later delivery brings labels.

    Raises
    ------
    DataError, SourceUnreachableError
        If a delivery cannot be used.
    TrainingError
        If none has come.
    """
    loop, schedule = workspace.loop, workspace.loop.data.schedule
    ticks = [partition]
    for _ in range(declared_labels(loop).delay):
        ticks.append(schedule.next(ticks[-1]))
    arrived = {}
    for tick in ticks:
        try:
            arrived[tick] = take_labels(workspace, tick)
        except SourceMissingError:
            continue
    if not arrived:
        raise TrainingError(
            f"no labels of {partition} have come from {ticks[0]} to {ticks[-1]}: correct data.labels, or name an older "
            "partition with --partition"
        )
    labels = LabelReader(workspace).of(partition, pin_labels(workspace.state().labels, partition))
    rows = pa.table({"key": labels.index.to_numpy(object), "label": labels.to_numpy()}, SCHEMA)
    for tick in (schedule.previous(partition), partition):
        details = replace(
            arrived[max(arrived)],
            delivery=1 + max(delivery.delivery for delivery in arrived.values()),
            version=workspace.ports.table(TABLE).write(tick, rows),
            digest=content_digest(rows),
            rows=rows.num_rows,
            since=tick,
            touches={tick: rows.num_rows},
        )
        workspace.record_fact(workspace.draft(details, f"labels:{tick}:all", tick))
    data = loop.data.model_copy(update={"labels": declared_labels(loop).model_copy(update={"delay": 0})})
    return replace(workspace, loop=loop.model_copy(update={"data": data}))
