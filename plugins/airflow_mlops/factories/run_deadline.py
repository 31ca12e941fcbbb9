"""The deadline by which a run of a Dag has to end, as one of Airflow's own, and what is sent of a run that is late.

Imported only by loops that declare it. The triggerer calls :func:`send_late_run`, so no worker is needed.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from airflow_mlops.core.declaration.loop import Loop

LOG = logging.getLogger(__name__)
TIMELY = ("ingest", "score", "watch", "nightly")
"""The Dags with a deadline: those that a partition passes on time. A training, a rollout or a replay may take long."""
OPEN = ("queued", "running")


def run_deadline(loop: Loop, root: str, hours: int) -> DeadlineAlert:
    """Return the deadline of a run: hours after it was queued, since the run of a partition has no logical date."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=hours),
        callback=AsyncCallback(f"{__name__}.send_late_run", kwargs={"loop": loop.to_dict(), "root": root}),
        name="late run",
    )


async def send_late_run(*, loop: dict[str, Any], root: str, context: dict[str, Any]) -> str:
    """Send the notifiers of ``overdue`` that a run is late; return the sentence, or why nothing was sent.

    :param loop: the declaration as JSON values
    :param root: project folder
    :param context: the run and its deadline, as the scheduler saw them when that had passed
    """
    # In a thread of its own: a receiver that does not answer must not block other triggers.
    return await asyncio.to_thread(_send, Loop(**loop), root, context)


def _send(loop: Loop, root: str, context: dict[str, Any]) -> str:
    from airflow_mlops.core.overview.messages import late_run_message
    from airflow_mlops.operators.notified import base_address, call_notifiers, deliver

    run = context["dag_run"]
    if run["state"] not in OPEN:
        return f"run {run['dag_run_id']} has ended ({run['state']}); a failed task was told of by itself"
    if run["run_type"] == "backfill":
        return f"run {run['dag_run_id']} waits behind others of its backfill, as it should"
    message = late_run_message(loop, run, base_url=base_address())
    LOG.warning("%s", message.sentence)
    if loop.notify_by_kind is None:
        warning = RuntimeWarning(message.text)
        call_notifiers(loop.callbacks, root, {**context, "exception": warning, "overdue": [message.sentence]})
        return message.sentence
    for notifier in loop.notify_by_kind.notifiers_of("overdue", loop.tier):
        try:
            deliver(notifier, message, root, context)
        except Exception:  # whatever says that a receiver has not taken it; the next one is still to be reached
            LOG.exception("nobody was reached by %s", notifier)
    return message.sentence
