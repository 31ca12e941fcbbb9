"""A SageMaker endpoint: change it, wait until it has settled, and check that it serves what was requested.

After SageMaker has rolled back a deployment, the endpoint is InService as after a success, with the previous
configuration. The caller therefore has to compare it with the request, by `require_config` and `require_weights`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_mlops.core.fault_point import write
from airflow_mlops.core.ports.rollout_target import TargetError

LOG = logging.getLogger(__name__)
IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
WEIGHT_TOLERANCE = 1e-4
"""SageMaker keeps weights as 32-bit floats."""

RETAIN_INSTANCES = {
    "RetainAllVariantProperties": True,
    "ExcludeRetainedVariantProperties": [
        {"VariantPropertyType": "DesiredWeight"},
        {"VariantPropertyType": "DataCaptureConfig"},
    ],
}
"""Options of an update: variants keep their added instances, and take the weights of the new config."""


class DeploymentRolledBackError(TargetError):
    """SageMaker has rolled back a deployment, or a change of weights, by itself."""


class Endpoint:
    """An endpoint by its name; it need not exist yet.

    :param client: boto3's client of SageMaker
    :param name: name of the endpoint
    :param wait_seconds: how long a change may take
    :param poll_seconds: longest pause between two requests; the first pauses are shorter
    """

    def __init__(self, client: Any, name: str, *, wait_seconds: float = 3600.0, poll_seconds: float = 15.0) -> None:
        self.client, self.name = client, name
        self.wait_seconds, self.poll_seconds = wait_seconds, poll_seconds

    def describe(self) -> dict[str, Any] | None:
        """Return the description of the endpoint; None if it does not exist."""
        return describe(self.client.describe_endpoint, EndpointName=self.name)

    def config(self, name: str) -> dict[str, Any] | None:
        """Return the description of an endpoint configuration; None if it does not exist."""
        return describe(self.client.describe_endpoint_config, EndpointConfigName=name)

    def wait_until_settled(self) -> dict[str, Any] | None:
        """Wait until no change is in progress, and return the description; None if there is no endpoint.

        :raises TargetError: if it takes too long, or the endpoint has failed
        """
        until, pause, last_status = time.monotonic() + self.wait_seconds, min(0.2, self.poll_seconds), None
        while True:
            description = self.describe()
            if description is None:
                return None
            status = description["EndpointStatus"]
            if status != last_status:
                LOG.info("SageMaker endpoint %s: %s", self.name, status)
                last_status = status
            if status not in IN_PROGRESS:
                require_usable(description)
                return description
            if time.monotonic() > until:
                raise TargetError(
                    f"endpoint {self.name} is still {status} after {self.wait_seconds / 60:g} minutes; "
                    "it may get ready yet"
                )
            time.sleep(pause)
            pause = min(2 * pause, self.poll_seconds)

    def adopt_config(self, content: Mapping[str, Any]) -> None:
        """Create an endpoint configuration; one of the same name has the same content and is adopted."""
        if self.config(content["EndpointConfigName"]) is None:
            try:
                write("sagemaker", self.client, "create_endpoint_config", **content)
            except self.client.exceptions.ClientError as error:
                if not exists_already(error):
                    raise

    def update(self, config: str, **more: Any) -> dict[str, Any]:
        """Deploy a configuration, wait, and return the description of the endpoint.

        :raises DeploymentRolledBackError: if the endpoint then serves another configuration
        """
        write("sagemaker", self.client, "update_endpoint", EndpointName=self.name, EndpointConfigName=config, **more)
        description = self.wait_until_settled()
        require_config(description, config)
        return description or {}

    def update_variants(self, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Change ``DesiredWeight`` or ``DesiredInstanceCount`` of variants, wait, and return the description.

        :raises DeploymentRolledBackError: if a weight then differs
        """
        write(
            "sagemaker",
            self.client,
            "update_endpoint_weights_and_capacities",
            EndpointName=self.name,
            DesiredWeightsAndCapacities=[{"VariantName": name, **change} for name, change in changes.items()],
        )
        description = self.wait_until_settled()
        weights = {name: change["DesiredWeight"] for name, change in changes.items() if "DesiredWeight" in change}
        require_weights(description, weights)
        return description or {}


def describe(call: Any, **name: str) -> dict[str, Any] | None:
    """Return the answer of a describing call of boto3; None if there is nothing of that name."""
    from botocore.exceptions import ClientError

    try:
        return dict(call(**name))
    except ClientError as error:
        if is_not_found(error):
            return None
        raise


def is_not_found(error: Any) -> bool:
    """Return whether boto3 refuses because there is nothing of that name.

    SageMaker has one code, ValidationException, for this and for much else: the message decides.
    """
    details = error.response["Error"]
    return details["Code"] == "ResourceNotFound" or any(
        text in details["Message"] for text in ("not find", "not found")
    )


def exists_already(error: Any) -> bool:
    """Return whether boto3 refuses because something of that name exists."""
    return "already exist" in error.response["Error"]["Message"]


def require_usable(description: Mapping[str, Any]) -> None:
    """Raise TargetError unless an endpoint can be changed.

    :raises TargetError: if it has failed, with SageMaker's reason
    """
    status, name = description["EndpointStatus"], description["EndpointName"]
    if status == "Failed":
        raise TargetError(f"endpoint {name} has failed{failure_reason(description)}; it can only be deleted")
    if status == "UpdateRollbackFailed":
        raise TargetError(
            f"endpoint {name} serves a mix of two configurations: its rollback failed{failure_reason(description)}"
        )


def require_config(description: Mapping[str, Any] | None, config: str) -> None:
    """Raise TargetError unless an endpoint serves a configuration.

    :raises DeploymentRolledBackError: if it serves another configuration; the message names both
    :raises TargetError: if it is gone, or has failed
    """
    if description is None:
        raise TargetError(f"the endpoint that was to serve {config} does not exist any more")
    require_usable(description)
    if description["EndpointConfigName"] != config:
        raise DeploymentRolledBackError(
            f"endpoint {description['EndpointName']} was to serve config {config} and serves "
            f"{description['EndpointConfigName']}: SageMaker has rolled the deployment back by itself"
            f"{failure_reason(description)}"
        )


def require_weights(description: Mapping[str, Any] | None, expected: Mapping[str, float]) -> None:
    """Raise TargetError unless the variants of an endpoint have the expected weights; see `require_config`."""
    if description is None:
        raise TargetError(f"the endpoint that was to have the weights {dict(expected)} does not exist any more")
    require_usable(description)
    weights = weights_of(description)
    differing = [name for name, weight in expected.items() if abs(weights.get(name, -1.0) - weight) > WEIGHT_TOLERANCE]
    if differing:
        actual_text = ", ".join(f"{name} at {weights.get(name, 'none')}" for name in differing)
        expected_text = ", ".join(f"{name} at {expected[name]:g}" for name in differing)
        raise DeploymentRolledBackError(
            f"endpoint {description['EndpointName']} was to have {expected_text} and has {actual_text}: SageMaker has "
            f"taken the change back by itself{failure_reason(description)}"
        )


def weights_of(description: Mapping[str, Any]) -> dict[str, float]:
    """Return the current weight of each production variant."""
    return {
        variant["VariantName"]: float(variant.get("CurrentWeight", 0.0))
        for variant in description["ProductionVariants"]
    }


def failure_reason(description: Mapping[str, Any]) -> str:
    """Return SageMaker's failure reason in brackets, or an empty text."""
    return f" ({description['FailureReason']})" if description.get("FailureReason") else ""


@contextmanager
def translate_errors(subject: str) -> Iterator[None]:
    """Translate the errors of boto3 into TargetError, with a subject for the message.

    :raises TargetError: if AWS refuses or does not answer; trying again may help
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise TargetError(f"{subject}: {error}") from error
