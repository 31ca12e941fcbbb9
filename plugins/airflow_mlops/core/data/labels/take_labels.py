"""Take labels: read a delivery, keep what is good of it, and say which published rows it is about.

A delivery is named by a tick, as a partition is, and replaces what was delivered for that tick before. Of two
deliveries that label the same row, the newer tick counts. Rows whose key stands in no published partition yet are kept
too, and counted: their own partition may still come.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.labels.open_labels import declared_labels, earliest_touched, ticks_before
from airflow_mlops.core.data.labels.read_delivery import Delivery, read_delivery
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import DataError, MlopsError, NotReadyError, SourceMissingError
from airflow_mlops.core.ledger.data_details import LabelsArrived
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, WindowJudged
from airflow_mlops.core.workspace import Workspace

TABLE = "labels"


def take_due_labels(workspace: Workspace, as_of: str) -> dict[str, LabelsArrived]:
    """Take the delivery of a tick, and those before it that never came and may still touch something.

    Returns
    -------
    dict of str to LabelsArrived
        What the ledger states of each delivery that came, by tick, oldest first.

    Raises
    ------
    NotReadyError
        If none has come.
    DataError, SourceUnreachableError
        Of the first delivery that could not be taken, after the others were.
    """
    loop, as_of = workspace.loop, partition_key(as_of)
    known, first = workspace.state(as_of=as_of).labels, loop.data.from_ or ""
    earlier = [tick for tick in ticks_before(loop.data.every, as_of, declared_labels(loop).delay) if tick >= first]
    taken: dict[str, LabelsArrived] = {}
    failed: MlopsError | None = None
    for tick in [*(tick for tick in reversed(earlier) if tick not in known), as_of]:
        try:
            taken[tick] = take_labels(workspace, tick)
        except SourceMissingError:
            continue
        except MlopsError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    if not taken:
        raise NotReadyError(f"no labels have come by {as_of}")
    return taken


def take_labels(workspace: Workspace, tick: str) -> LabelsArrived:
    """Keep the labels of a tick's delivery and return what the ledger says of them.

    The same delivery again changes nothing.

    Raises
    ------
    SourceMissingError
        If nothing has come yet.
    DataError
        If what came cannot be used; the ledger says why, as the check ``labels`` of the tick.
    """
    tick = partition_key(tick)
    state = workspace.state(as_of=tick)
    since = earliest_touched(workspace.loop, tick)
    try:
        delivery = read_delivery(workspace, state, tick)
    except SourceMissingError:
        raise
    except DataError as error:
        _record_refusal(workspace, state, tick, str(error))
        raise
    touching = _Touching(workspace, state, since, tick, delivery.rows)
    if state.forgotten and not delivery.names_subject:
        # Whose a row of an unknown key is, nobody can say; it may be somebody's who is forgotten.
        delivery.rows = delivery.rows.filter(pa.array(touching.known))
        delivery.erased += touching.unknown
        touching.unknown = 0
    return _record(workspace, state, delivery, touching)


class _Touching:
    """Which published partitions hold the keys of a delivery, and how many of them each.

    ``digests`` are of each partition's own labels, so that a correction shows which of them it corrects. ``known``
    says of each key whether a partition has it; ``ambiguous`` counts keys that several have.
    """

    def __init__(self, workspace: Workspace, state: LoopState, since: str, tick: str, rows: pa.Table) -> None:
        self.since, self.tick = since, tick
        self.partitions: dict[str, int] = {}
        self.digests: dict[str, str] = {}
        keys, times = rows["key"], np.zeros(rows.num_rows, np.int64)
        for partition, published in state.published.items(since=since, until=tick):
            held = keys_of(workspace, partition, published.version)
            here = np.asarray(pc.is_in(keys, value_set=held).to_numpy(), bool)
            if here.any():
                self.partitions[partition] = int(here.sum())
                self.digests[partition] = content_digest(rows.filter(pa.array(here)))[:16]
            times += here
        self.known = times > 0
        self.unknown = int((times == 0).sum())
        self.ambiguous = int((times > 1).sum())


def keys_of(workspace: Workspace, partition: str, version: int) -> pa.Array:
    """Return the keys of a partition's rows as text."""
    column = workspace.loop.data.key
    batches = workspace.snapshots.batches(partition, version=version, columns=[column])
    return pa.concat_arrays([pa.array([], pa.string()), *(format_column(batch.column(0)) for batch in batches)])


def _record(workspace: Workspace, state: LoopState, delivery: Delivery, touching: _Touching) -> LabelsArrived:
    """Return what the ledger states of a delivery: a new record, or what is known of the same content."""
    known, digest = state.labels.get(touching.tick), content_digest(delivery.rows)
    if known is not None and (known.digest, known.since) == (digest, touching.since):
        return known
    version = workspace.ports.table(TABLE).write(touching.tick, delivery.rows)
    fault_point("labels_written")
    number = 1 if known is None else known.delivery + 1
    details = LabelsArrived(
        delivery=number,
        version=version,
        origin=delivery.origin,
        replaces=None if known is None else known.digest,
        since=touching.since,
        digest=digest,
        rows=delivery.rows.num_rows,
        delivered=delivery.delivered,
        duplicates=delivery.duplicates,
        empty=delivery.empty,
        erased=delivery.erased,
        bad={reason: count for reason, count in sorted(delivery.bad.items()) if count},
        unknown=touching.unknown,
        ambiguous=touching.ambiguous,
        touches=touching.partitions,
        touched=touching.digests,
    )
    details = replace(details, message=summarise_delivery(details, touching.tick))
    operation = f"labels:{touching.tick}:{number}:{digest[:16]}"
    return workspace.record_fact(workspace.draft(details, operation, touching.tick)).details


def summarise_delivery(details: LabelsArrived, tick: str) -> str:
    """Return a delivery in a sentence."""
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
    """Record that a delivery could not be used. That is no alarm: it has no bearing on the model."""
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
