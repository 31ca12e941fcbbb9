"""The trigger that waits for a SageMaker endpoint: until nothing is under way there, however that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class EndpointSettledTrigger(BaseTrigger):
    """Wakes a task when a change of an endpoint has ended, well or not, or takes too long.

    boto3's own waiter knows one good end, and an endpoint that was rolled back looks like it: so this one says only
    that there is something to look at, and the operator looks.

    :param endpoint_name: name of the endpoint
    :param waiter_delay: seconds between two looks
    :param waiter_max_attempts: looks before it is given up
    :param aws_conn_id: Airflow connection of type aws
    :param region_name: region of the endpoint, where it is not that of the connection
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
        """Return what makes this trigger again."""
        names = (
            "endpoint_name", "waiter_delay", "waiter_max_attempts", "aws_conn_id", "region_name", "verify",
            "botocore_config",
        )  # fmt: skip
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``settled``, or ``timeout`` with the status that the endpoint still had."""
        from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook

        from airflow_mlops.core.rollout.targets.sagemaker.endpoint import UNDER_WAY

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
                if status not in UNDER_WAY:
                    yield TriggerEvent({"status": "settled"})
                    return
        yield TriggerEvent({"status": "timeout", "message": f"it is still {status}"})
