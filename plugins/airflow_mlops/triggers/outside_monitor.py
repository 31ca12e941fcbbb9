"""The trigger that polls an outside monitor over HTTP and emits an event for new alarms."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.watch_details import OutsideAlarm

LOG = logging.getLogger(__name__)


class OutsideMonitorTrigger(BaseEventTrigger):
    """Poll a monitor for alarms; for an :class:`~airflow.sdk.AssetWatcher`.

    New alarms come as one event, because Airflow makes one run of events that are close together. An alarm comes again
    after a restart of the triggerer, or when the monitor lists it again: the ledger recognises it by its id. A monitor
    that does not answer, or gives an unreadable answer, is logged, and polling goes on.

    :param conn_id: Airflow connection of type http: address, login, headers
    :param path: path of the alarms below the address
    :param poll_seconds: pause between two polls
    """

    def __init__(self, *, conn_id: str, path: str = "", poll_seconds: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.path = path
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of this trigger."""
        names = ("conn_id", "path", "poll_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event ``{"alarms": [...]}`` for each answer with new alarms; never ends by itself."""
        listed: set[str] = set()
        last_problem = ""
        while True:
            # In a thread of its own: a monitor that does not answer must not block other triggers.
            alarms, problem = await asyncio.to_thread(self._poll)
            if problem and problem != last_problem:
                LOG.warning("monitor %s: %s; it is polled every %g s", self.conn_id, problem, self.poll_seconds)
            last_problem = problem
            if alarms is not None:
                new = [asdict(alarm) for alarm in alarms if alarm.id not in listed]
                listed = {alarm.id for alarm in alarms}
                if new:
                    yield TriggerEvent({"alarms": new})
            await asyncio.sleep(self.poll_seconds)

    def _poll(self) -> tuple[list[OutsideAlarm] | None, str]:
        """Return the listed alarms, None if the monitor cannot be read, and the problem to log."""
        from airflow_mlops.core.retrain.ask_monitor import ask_monitor
        from airflow_mlops.core.retrain.outside_alarms import read_alarms
        from airflow_mlops.hooks.connections import AirflowConnections

        try:
            alarms, refused = read_alarms(ask_monitor(AirflowConnections().http(self.conn_id), self.path))
        except Exception as error:  # an exception would end this trigger silently and for good
            return None, f"{type(error).__name__}: {error}"
        return alarms, "; ".join(refused[:3])
