"""The trigger that waits until batch transform jobs of SageMaker have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops.core.fault_point import external_write
from airflow_mlops.hooks.sagemaker_training import IN_PROGRESS


class TransformJobsTrigger(BaseTrigger):
    """Resume a task when all of its batch transform jobs have ended, whatever their results.

    A person who marks the deferred task, or clears it, stops the jobs, as a task that is killed in its worker does.

    :param job_names: names of the jobs
    :param poll_seconds: longest pause between two requests about a job; the first pauses are shorter
    :param aws_conn_id: Airflow connection of type aws
    """

    def __init__(self, *, job_names: list[str], poll_seconds: float, aws_conn_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_names = job_names
        self.poll_seconds = poll_seconds
        self.aws_conn_id = aws_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of this trigger."""
        names = ("job_names", "poll_seconds", "aws_conn_id")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the ``statuses`` of the jobs, in their order, once all have ended."""
        statuses: list[str] = []
        async with await self._hook().get_async_conn() as client:
            for name in self.job_names:
                pause, status = min(1.0, self.poll_seconds), ""
                while not status or status in IN_PROGRESS:
                    job = await client.describe_transform_job(TransformJobName=name)
                    if job["TransformJobStatus"] != status:
                        status = job["TransformJobStatus"]
                        self.log.info("SageMaker job %s: %s", name, status)
                    if status in IN_PROGRESS:
                        await asyncio.sleep(pause)
                        pause = min(2 * pause, self.poll_seconds)
                statuses.append(status)
        yield TriggerEvent({"statuses": statuses})

    async def on_kill(self) -> None:
        """Stop the jobs; one that has ended stays as it is."""
        async with await self._hook().get_async_conn() as client:
            for name in self.job_names:
                job = await client.describe_transform_job(TransformJobName=name)
                if job["TransformJobStatus"] in IN_PROGRESS:
                    with external_write("sagemaker.stop_transform_job"):
                        await client.stop_transform_job(TransformJobName=name)

    def _hook(self) -> Any:
        from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook

        return SageMakerHook(aws_conn_id=self.aws_conn_id)
