"""Call the notifiers and callbacks of a loop outside of a failure, and send the decisions of the ledger."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.notify import Channel, Notifier
    from airflow_mlops.core.ledger.record import Record
    from airflow_mlops.core.overview.messages import Message
    from airflow_mlops.core.workspace import Workspace

LOG = logging.getLogger(__name__)
Notify = Sequence[str | Callable[..., Any]]


def call_notifiers(notify: Notify, root: str, context: Any) -> None:
    """Call each notifier with a context; an error is logged and changes nothing, as in Airflow itself."""
    from airflow_mlops.core.declaration.user_function import load_function

    for notifier in notify:
        try:
            callback = load_function(notifier, Path(root)) if isinstance(notifier, str) else notifier
            callback(context)
        except Exception:  # whatever a user's notifier raises
            LOG.exception("notifier %s failed", notifier)


@contextmanager
def notify_decisions(workspace: Workspace, context: Any) -> Iterator[None]:
    """Send the notifiers by kind what the ledger holds after the body, however it ends; that cannot fail a task."""
    loop = workspace.loop
    channels = [] if loop.notify_by_kind is None else loop.notify_by_kind.channels(loop.tier)
    if not channels:
        yield
        return
    from airflow_mlops.core.overview.notify_people import begin_channels, notify_people

    with _log_errors():
        begin_channels(workspace, channels)
    try:
        yield
    finally:
        with _log_errors():
            for failure in notify_people(workspace, channels, _sender(workspace, context)):
                LOG.warning("%s; the next task of the loop sends it again", failure)


def deliver(notifier: Notifier, message: Message, root: str, context: Any) -> None:
    """Send a message, or call ``module:name`` with the context, in which ``decision`` is the message.

    ``exception`` in the context is a :class:`RuntimeWarning` with the text unless there is one, so that a callback
    written for failures works unchanged.

    :raises Exception: whatever says that the receiver has not taken it
    """
    from airflow.sdk.log import redact  # type: ignore[attr-defined]  # Airflow's own providers take it from there

    message = replace(message, sentence=str(redact(message.sentence)))
    if not isinstance(notifier, str):
        from airflow_mlops.hooks.send_message import send_message

        send_message(notifier, message)
        return
    from airflow_mlops.core.declaration.user_function import load_function

    callback = load_function(notifier, Path(root))
    # An Airflow notifier renders its own fields in place; the next message needs the templates.
    callback = copy.copy(callback) if hasattr(callback, "template_fields") else callback
    callback({"exception": RuntimeWarning(message.text), **context, "decision": message.to_dict()})


def _sender(workspace: Workspace, context: Any) -> Callable[[Channel, Record[Any]], None]:
    from airflow_mlops.core.overview.messages import message_of

    base_url = base_address()

    def send(channel: Channel, record: Record[Any]) -> None:
        message = message_of(record, workspace.loop, base_url=base_url)
        deliver(channel.notifier, message, str(workspace.root), context)

    return send


@contextmanager
def _log_errors() -> Iterator[None]:
    """Log an error in place of raising it: a decision does not fail because nobody could be notified of it."""
    try:
        yield
    except Exception:  # the ledger, a connection, or anything else
        LOG.exception("decisions could not be notified of; the next task of the loop tries again")


def base_address() -> str:
    """Return the configured address of the Airflow UI; empty if there is none, so that addresses are relative."""
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
