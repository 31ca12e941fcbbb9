"""The trigger by which a monitor outside wakes a loop: it asks an HTTP service for alarms, and tells of new ones."""

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
    """Asks a monitor for its alarms, again and again; for an :class:`~airflow.sdk.AssetWatcher`.

    All alarms that are new come as one event, since Airflow makes one run of events that come close together. An alarm
    is told again when the triggerer was started anew, or the monitor has listed it anew: the ledger knows it by its id.
    A monitor that does not answer, or not in a way that can be read, is logged and asked again.

    :param conn_id: Airflow connection of type http: address, login, headers
    :param path: where the alarms are, below the address
    :param poll_seconds: pause between two questions
    """

    def __init__(self, *, conn_id: str, path: str = "", poll_seconds: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.path = path
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        names = ("conn_id", "path", "poll_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each answer that holds new alarms: ``{"alarms": [...]}``; never ends by itself."""
        listed: set[str] = set()
        complaint = ""
        while True:
            # In a thread of its own: a monitor that does not answer must not hold up the triggers of others.
            alarms, said = await asyncio.to_thread(self._asked)
            if said and said != complaint:
                LOG.warning("monitor %s: %s; it is asked every %g s", self.conn_id, said, self.poll_seconds)
            complaint = said
            if alarms is not None:
                new = [asdict(alarm) for alarm in alarms if alarm.id not in listed]
                listed = {alarm.id for alarm in alarms}
                if new:
                    yield TriggerEvent({"alarms": new})
            await asyncio.sleep(self.poll_seconds)

    def _asked(self) -> tuple[list[OutsideAlarm] | None, str]:
        """Return the alarms that are listed, None where that cannot be known, and what is to complain about."""
        from airflow_mlops.core.retrain.ask_monitor import ask_monitor
        from airflow_mlops.core.retrain.outside_alarms import read_alarms
        from airflow_mlops.hooks.source_connections import AirflowConnections

        try:
            alarms, refused = read_alarms(ask_monitor(AirflowConnections().http(self.conn_id), self.path))
        except Exception as error:  # an end of this loop would be the end of the watch, for good and without a word
            return None, f"{type(error).__name__}: {error}"
        return alarms, "; ".join(refused[:3])
