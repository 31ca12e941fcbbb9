"""The trigger that waits until a training job of SageMaker has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops.core.fault_point import external_write
from airflow_mlops.hooks.sagemaker_training import IN_PROGRESS


class TrainingJobTrigger(BaseTrigger):
    """Resume a task when a training job has ended, whatever its result.

    A person who marks the deferred task, or clears it, stops the job, as a task that is killed in its worker does.

    :param job_name: name of the job
    :param poll_seconds: longest pause between two requests about the job; the first pauses are shorter
    :param aws_conn_id: Airflow connection of type aws
    """

    def __init__(self, *, job_name: str, poll_seconds: float, aws_conn_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_name = job_name
        self.poll_seconds = poll_seconds
        self.aws_conn_id = aws_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of this trigger."""
        names = ("job_name", "poll_seconds", "aws_conn_id")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the ``status`` of the job once it has ended."""
        pause, last_status = min(1.0, self.poll_seconds), ""
        async with await self._hook().get_async_conn() as client:
            while True:
                job = await client.describe_training_job(TrainingJobName=self.job_name)
                status = f"{job['TrainingJobStatus']}, {job.get('SecondaryStatus', '')}"
                if status != last_status:
                    self.log.info("SageMaker job %s: %s", self.job_name, status)
                    last_status = status
                if job["TrainingJobStatus"] not in IN_PROGRESS:
                    yield TriggerEvent({"status": status})
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, self.poll_seconds)

    async def on_kill(self) -> None:
        """Stop the job."""
        async with await self._hook().get_async_conn() as client:
            with external_write("sagemaker.stop_training_job"):
                await client.stop_training_job(TrainingJobName=self.job_name)

    def _hook(self) -> Any:
        from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook

        return SageMakerHook(aws_conn_id=self.aws_conn_id)
