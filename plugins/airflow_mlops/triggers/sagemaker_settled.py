"""The trigger that waits until no change of a SageMaker endpoint is in progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class EndpointSettledTrigger(BaseTrigger):
    """Resume a task when a change of an endpoint has ended, with or without success, or takes too long.

    boto3's own waiter takes an endpoint that was rolled back for a success. This trigger therefore reports only that
    the endpoint has settled, and the operator compares what it serves.

    :param endpoint_name: name of the endpoint
    :param waiter_delay: seconds between two polls
    :param waiter_max_attempts: polls before the trigger gives up
    :param aws_conn_id: Airflow connection of type aws
    :param region_name: region of the endpoint, if it differs from that of the connection
    :param verify: whether to verify certificates, or a file of them
    :param botocore_config: configuration of botocore's client
    """

    def __init__(
        self,
        *,
        endpoint_name: str,
        waiter_delay: float,
        waiter_max_attempts: int,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.endpoint_name = endpoint_name
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of this trigger."""
        names = (
            "endpoint_name",
            "waiter_delay",
            "waiter_max_attempts",
            "aws_conn_id",
            "region_name",
            "verify",
            "botocore_config",
        )
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``settled``, or ``timeout`` with the last status."""
        from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook

        from airflow_mlops.core.rollout.targets.sagemaker.endpoint import IN_PROGRESS

        hook = SageMakerHook(
            aws_conn_id=self.aws_conn_id, region_name=self.region_name, verify=self.verify, config=self.botocore_config
        )
        status = ""
        async with await hook.get_async_conn() as client:
            for attempt in range(self.waiter_max_attempts):
                if attempt:
                    await asyncio.sleep(self.waiter_delay)
                status = (await client.describe_endpoint(EndpointName=self.endpoint_name))["EndpointStatus"]
                self.log.info("SageMaker endpoint %s: %s", self.endpoint_name, status)
                if status not in IN_PROGRESS:
                    yield TriggerEvent({"status": "settled"})
                    return
        yield TriggerEvent({"status": "timeout", "message": f"it is still {status}"})
