"""Take labels: read a delivery, store its good rows, and count the published rows that it labels.

A delivery is named by a tick, as a partition is, and replaces the earlier delivery of that tick. Of two deliveries that
label the same row, the newer tick wins. Rows whose key is in no published partition yet are stored and counted too:
their partition may still arrive.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.labels.open_labels import declared_labels, earliest_labelled_partition
from airflow_mlops.core.data.labels.read_delivery import Delivery, read_delivery
from airflow_mlops.core.data.origin import EVIDENCE, short_origin
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import DataError, MlopsError, NotReadyError, SourceMissingError
from airflow_mlops.core.ledger.data_details import LabelsArrived
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, WindowJudged
from airflow_mlops.core.workspace import Workspace

TABLE = "labels"


def take_due_labels(workspace: Workspace, as_of: str) -> dict[str, LabelsArrived]:
    """Take the delivery of a tick, and earlier ones that are missing and may still label rows.

    Between two ticks it is the delivery of the one before.

    Returns
    -------
    dict of str to LabelsArrived
        The record of each delivery that arrived, by tick, oldest first.

    Raises
    ------
    NotReadyError
        If none has arrived.
    DataError, SourceUnreachableError
        If a delivery could not be taken: the error of the first, after the others were taken.
    """
    loop, as_of = workspace.loop, workspace.loop.data.schedule.tick_by(partition_key(as_of))
    deliveries, first = workspace.state(as_of=as_of).labels, loop.data.first_moment or ""
    earlier = [tick for tick in loop.data.schedule.before(as_of, declared_labels(loop).delay) if tick >= first]
    arrived: dict[str, LabelsArrived] = {}
    first_error: MlopsError | None = None
    for tick in [*(tick for tick in reversed(earlier) if tick not in deliveries), as_of]:
        try:
            arrived[tick] = take_labels(workspace, tick)
        except SourceMissingError:
            continue
        except MlopsError as error:
            first_error = first_error or error
    if first_error is not None:
        raise first_error
    if not arrived:
        raise NotReadyError(f"no labels have come by {as_of}")
    return arrived


def take_labels(workspace: Workspace, tick: str) -> LabelsArrived:
    """Store the labels of a tick's delivery, and return their record.

    An unchanged delivery changes nothing.

    Raises
    ------
    SourceMissingError
        If nothing has arrived yet.
    DataError
        If ``tick`` is no tick of ``data.every``, or the delivery cannot be used; the reason against a delivery is
        recorded as the check ``labels`` of the tick.
    """
    tick = workspace.loop.data.schedule.require_tick(tick)
    state = workspace.state(as_of=tick)
    since = earliest_labelled_partition(workspace.loop, tick)
    try:
        delivery = read_delivery(workspace, state, tick)
    except SourceMissingError:
        raise
    except DataError as error:
        _record_refusal(workspace, state, tick, str(error))
        raise
    touched = _TouchedPartitions(workspace, state, since, tick, delivery.rows)
    if state.forgotten and not delivery.names_subject:
        # A row of an unknown key may belong to an erased subject.
        delivery.rows = delivery.rows.filter(pa.array(touched.is_known))
        delivery.erased += touched.unknown
        touched.unknown = 0
    return _record(workspace, state, delivery, touched)


class _TouchedPartitions:
    """The published partitions that hold keys of a delivery, each with its number of keys.

    ``digests`` cover the labels of each partition alone, so that a correction shows which partitions it changes.
    ``is_known`` marks the keys that some partition has; ``ambiguous`` counts the keys that several have.
    """

    def __init__(self, workspace: Workspace, state: LoopState, since: str, tick: str, rows: pa.Table) -> None:
        self.since, self.tick = since, tick
        self.partitions: dict[str, int] = {}
        self.digests: dict[str, str] = {}
        keys, times = rows["key"], np.zeros(rows.num_rows, np.int64)
        for partition, published in state.published.items(since=since, until=tick):
            partition_keys = keys_of(workspace, partition, published.version)
            is_in_partition = np.asarray(pc.is_in(keys, value_set=partition_keys).to_numpy(), bool)
            if is_in_partition.any():
                self.partitions[partition] = int(is_in_partition.sum())
                self.digests[partition] = content_digest(rows.filter(pa.array(is_in_partition)))[:16]
            times += is_in_partition
        self.is_known = times > 0
        self.unknown = int((times == 0).sum())
        self.ambiguous = int((times > 1).sum())


def keys_of(workspace: Workspace, partition: str, version: int) -> pa.Array:
    """Return the keys of a partition's rows as text."""
    column = workspace.loop.data.key
    batches = workspace.snapshots.batches(partition, version=version, columns=[column])
    return pa.concat_arrays([pa.array([], pa.string()), *(format_column(batch.column(0)) for batch in batches)])


def _record(workspace: Workspace, state: LoopState, delivery: Delivery, touched: _TouchedPartitions) -> LabelsArrived:
    """Return the record of a delivery: a new one, or the previous one if the content is the same."""
    previous, digest = state.labels.get(touched.tick), content_digest(delivery.rows)
    if previous is not None and (previous.digest, previous.since) == (digest, touched.since):
        return previous
    version = workspace.ports.table(TABLE).write(touched.tick, delivery.rows)
    number = 1 if previous is None else previous.delivery + 1
    origin = short_origin(workspace, delivery.origin)
    evidence = (str(origin[EVIDENCE]),) if EVIDENCE in origin else ()
    details = LabelsArrived(
        delivery=number,
        version=version,
        origin=origin,
        replaces=None if previous is None else previous.digest,
        since=touched.since,
        digest=digest,
        rows=delivery.rows.num_rows,
        delivered=delivery.delivered,
        duplicates=delivery.duplicates,
        empty=delivery.empty,
        erased=delivery.erased,
        bad={reason: count for reason, count in sorted(delivery.bad.items()) if count},
        unknown=touched.unknown,
        ambiguous=touched.ambiguous,
        touches=touched.partitions,
        touched=touched.digests,
    )
    details = replace(details, message=summarise_delivery(details, touched.tick))
    operation = f"labels:{touched.tick}:{number}:{digest[:16]}"
    return workspace.record_fact(workspace.draft(details, operation, touched.tick, evidence=evidence)).details


def summarise_delivery(details: LabelsArrived, tick: str) -> str:
    """Return the summary of a delivery as a sentence."""
    touched = ", ".join(f"{key[:16]} ({rows:,})" for key, rows in sorted(details.touches.items()))
    counts = (
        (details.unknown, "keys stand in no published partition"),
        (details.ambiguous, "keys stand in several partitions"),
        (details.duplicates, "rows repeat a label"),
        (details.empty, "rows without a label"),
    )
    remarks = [f"{count:,} {words}" for count, words in counts if count]
    remarks += [f"{rows:,} left out: {reason}" for reason, rows in details.bad.items()]
    return "; ".join([f"{details.rows:,} labels came with {tick}, of {touched or 'no published partition'}", *remarks])


def _record_refusal(workspace: Workspace, state: LoopState, tick: str, reason: str) -> None:
    """Record that a delivery could not be used; no alarm, because it says nothing about the model."""
    labels, published = state.labels.get(tick), state.published.get(tick)
    number = 0 if labels is None else labels.delivery
    details = WindowJudged(
        check="labels",
        verdict=INSUFFICIENT_DATA,
        message=reason,
        rows=0,
        snapshot=None if published is None else published.digest,
        champion=state.champion.number if state.champion else None,
    )
    operation = f"check:labels:{tick}:{number}:{sha256(reason.encode()).hexdigest()[:16]}"
    workspace.record_fact(workspace.draft(details, operation, tick))
