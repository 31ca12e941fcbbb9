"""Run the triggers of deferred tasks in this process, in place of a triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_mlops.testing.metadata import session_scope

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger, TriggerEvent


def fire_triggers(timeout_seconds: float) -> int:
    """Run the trigger of every deferred task until its first event; return the number that fired.

    :param timeout_seconds: for all of them together, since they run at once
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.sdk._shared.module_loading import import_string
    from sqlalchemy import select

    with session_scope() as session:
        trigger_ids = select(TaskInstance.trigger_id).where(TaskInstance.state == "deferred")
        rows = session.scalars(select(Trigger).where(Trigger.id.in_(trigger_ids))).all()
        triggers = {row.id: import_string(row.classpath)(**row.kwargs) for row in rows}
    events = asyncio.run(_first_events(triggers, timeout_seconds))
    with session_scope() as session:
        for number, event in events.items():
            Trigger.submit_event(number, event, session=session)
    return len(events)


async def _first_events(triggers: dict[int, BaseTrigger], timeout_seconds: float) -> dict[int, TriggerEvent]:
    async def first(number: int, trigger: BaseTrigger) -> tuple[int, Any]:
        async for event in trigger.run():
            return number, event
        raise RuntimeError(f"{trigger!r} ended without an event")

    running = [asyncio.create_task(first(number, trigger)) for number, trigger in triggers.items()]
    if not running:
        return {}
    done, pending = await asyncio.wait(running, timeout=timeout_seconds)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return dict(task.result() for task in done)
