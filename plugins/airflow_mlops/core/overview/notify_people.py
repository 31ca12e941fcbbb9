"""Send each notifier what it has not been sent yet, as the ledger says: once, and again only after a crash.

Of all tasks that end at the same time one sends, under a lease. It records what was sent when the receiver has taken
it, so a process that dies in between sends the same message a second time, and none is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from time import monotonic
from typing import Any
from uuid import uuid4

from airflow_mlops.core.declaration.notify import Channel
from airflow_mlops.core.errors import StaleLedgerError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ledger.data_details import PartitionRefused
from airflow_mlops.core.ledger.notice_details import Notified
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState, notified_key
from airflow_mlops.core.overview.messages import KINDS, kind_of
from airflow_mlops.core.workspace import Workspace

LOG = logging.getLogger(__name__)
LEASE_SECONDS = 300.0
"""How long a process that was killed while it sent keeps the others from sending."""
BATCH = 20
"""Messages that are sent under one lease."""
LOOKED_THROUGH = 200
"""Records of which nothing has to be sent that are read again before a record notes that they were looked through."""
Send = Callable[[Channel, Record[Any]], None]


@dataclass(frozen=True)
class Unsent:
    """The records that a notifier has to be sent, oldest first; ``last`` is the last record that was looked through."""

    records: tuple[Record[Any], ...]
    first: int
    last: int
    looked_through: int


def begin_channels(workspace: Workspace, channels: list[Channel]) -> None:
    """Note for each notifier and kind that is new where it begins: nothing from before is sent."""
    while True:
        state = workspace.state()
        sent = dict(state.notified.items())
        new = [(channel, _kinds_missing(channel, sent)) for channel in channels]
        channel, kinds = next(((channel, kinds) for channel, kinds in new if kinds), (None, ()))
        if channel is None:
            return
        last = state.sequence
        details = Notified(notifier=channel.name, kinds=kinds, first=last, last=last)
        draft = workspace.draft(details, f"notified:{channel.name}:{last}:new", None)
        try:
            # Compare-and-append: a record of another task must not fall before the beginning.
            workspace.ledger.append(draft, read=last)
        except StaleLedgerError:
            continue


def _kinds_missing(channel: Channel, sent: dict[str, int]) -> tuple[str, ...]:
    """Return the kinds of decision of which the ledger has no beginning."""
    return tuple(kind for kind in channel.kinds if notified_key(channel.name, kind) not in sent)


def notify_people(workspace: Workspace, channels: list[Channel], send: Send) -> list[str]:
    """Send every notifier what is unsent, and return why some could not be sent, a sentence each.

    Parameters
    ----------
    send : callable
        Sends a record to a notifier, and raises where the receiver has not taken it: it stays unsent, and so do those
        after it.
    """
    failures = (_send_channel(workspace, channel, send) for channel in channels)
    return [failure for failure in failures if failure is not None]


def unsent_of(workspace: Workspace, channel: Channel) -> Unsent:
    """Return the records that a notifier has to be sent."""
    state = workspace.state()
    notified = dict(state.notified.items())
    sent = {kind: notified.get(notified_key(channel.name, kind), 0) for kind in channel.kinds}
    first = last = min(sent.values())
    records, looked_through = [], 0
    types = dict.fromkeys(cls for kind in channel.kinds for cls in KINDS[kind])
    for record in workspace.ledger.records(*types, after=first):
        last, looked_through = record.sequence, looked_through + 1
        kind = kind_of(record)
        if kind is None or kind not in sent or record.sequence <= sent[kind] or _is_historical(state, record):
            continue
        records.append(record)
        if len(records) == BATCH:
            break
    return Unsent(tuple(records), first, last, looked_through)


def _send_channel(workspace: Workspace, channel: Channel, send: Send) -> str | None:
    """Send a notifier everything that is unsent; return why that failed, or None."""
    while True:
        unsent = unsent_of(workspace, channel)
        if not unsent.records and unsent.looked_through < LOOKED_THROUGH:
            return None
        holder = uuid4().hex
        if not workspace.ledger.take_lease(channel.name, holder, seconds=LEASE_SECONDS):
            # Whoever sends looks again afterwards, and finds what this task has recorded.
            return None
        try:
            failure = _send_unsent(workspace, channel, unsent_of(workspace, channel), send)
        finally:
            workspace.ledger.end_lease(channel.name, holder)
        if failure is not None:
            return failure


def _send_unsent(workspace: Workspace, channel: Channel, unsent: Unsent, send: Send) -> str | None:
    """Send records and note how far that went; return why it did not go to the end, or None."""
    failure, last, messages, started = None, unsent.first, 0, monotonic()
    for record in unsent.records:
        if monotonic() - started > LEASE_SECONDS / 2:
            break  # the rest is sent under a lease of its own
        try:
            with external_write("notice.send"):
                send(channel, record)
        except Exception as error:  # whatever a receiver answers, or a user's notifier raises
            LOG.debug("record %s was not sent to %s", record.sequence, channel.name, exc_info=True)
            failure = f"{channel.name} was not sent record {record.sequence} ({record.kind}): {error}"
            break
        last, messages = record.sequence, messages + 1
    else:
        last = max(last, unsent.last)
    if last > unsent.first:
        details = Notified(
            notifier=channel.name, kinds=channel.kinds, first=unsent.first + 1, last=last, messages=messages
        )
        operation = f"notified:{channel.name}:{unsent.first + 1}-{last}"
        workspace.record_fact(workspace.draft(details, operation, None))
    return failure


def _is_historical(state: LoopState, record: Record[Any]) -> bool:
    """Return whether a partition was refused in a backfill: a newer one had been decided on before."""
    if not isinstance(record.details, PartitionRefused):
        return False
    newer = takewhile(lambda item: item[0] > str(record.partition), state.decided.newest_first())
    return any(sequence < record.sequence for _, sequence in newer)
