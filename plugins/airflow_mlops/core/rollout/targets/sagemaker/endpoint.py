"""One SageMaker endpoint: what it is asked to serve, and whether that is what it serves once it has settled.

After a deployment that was rolled back, an endpoint is InService as if all had gone well, with the configuration from
before. So whoever has waited compares what is found with what was asked, by `require_config` and `require_weights`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_mlops.core.ports.rollout_target import TargetError

LOG = logging.getLogger(__name__)
UNDER_WAY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
WEIGHT_TOLERANCE = 1e-4
"""SageMaker keeps weights in 32 bits."""

KEPT = {
    "RetainAllVariantProperties": True,
    "ExcludeRetainedVariantProperties": [
        {"VariantPropertyType": "DesiredWeight"},
        {"VariantPropertyType": "DataCaptureConfig"},
    ],
}
"""Instances that were added to a variant stay; its weight is that of the new config."""


class DeploymentRolledBackError(TargetError):
    """SageMaker has rolled back a deployment, or a change of weights, by itself."""


class Endpoint:
    """An endpoint by its name, of which there may be none yet.

    :param client: boto3's client of SageMaker
    :param name: name of the endpoint
    :param wait_seconds: how long a change may take
    :param poll_seconds: longest pause between two looks; the first ones are shorter
    """

    def __init__(self, client: Any, name: str, *, wait_seconds: float = 3600.0, poll_seconds: float = 15.0) -> None:
        self.client, self.name = client, name
        self.wait_seconds, self.poll_seconds = wait_seconds, poll_seconds

    def described(self) -> dict[str, Any] | None:
        """Return the description of the endpoint; None if there is none."""
        return described(self.client.describe_endpoint, EndpointName=self.name)

    def config(self, name: str) -> dict[str, Any] | None:
        """Return the description of an endpoint configuration; None if there is none."""
        return described(self.client.describe_endpoint_config, EndpointConfigName=name)

    def settled(self) -> dict[str, Any] | None:
        """Return the description of the endpoint once nothing is under way; None if there is none.

        :raises TargetError: if that takes too long, or the endpoint has failed
        """
        until, pause, before = time.monotonic() + self.wait_seconds, min(0.2, self.poll_seconds), None
        while True:
            found = self.described()
            if found is None:
                return None
            status = found["EndpointStatus"]
            if status != before:
                LOG.info("SageMaker endpoint %s: %s", self.name, status)
                before = status
            if status not in UNDER_WAY:
                require_usable(found)
                return found
            if time.monotonic() > until:
                raise TargetError(
                    f"endpoint {self.name} is still {status} after {self.wait_seconds / 60:g} minutes; "
                    "it may get ready yet"
                )
            time.sleep(pause)
            pause = min(2 * pause, self.poll_seconds)

    def adopt_config(self, described: Mapping[str, Any]) -> None:
        """Make an endpoint configuration, unless there is one of that name, which says what it holds."""
        if self.config(described["EndpointConfigName"]) is None:
            try:
                self.client.create_endpoint_config(**described)
            except self.client.exceptions.ClientError as error:
                if not exists_already(error):
                    raise

    def update(self, config: str, **more: Any) -> dict[str, Any]:
        """Let the endpoint serve a configuration and return its description once it does.

        :raises DeploymentRolledBackError: if it serves another one then
        """
        self.client.update_endpoint(EndpointName=self.name, EndpointConfigName=config, **more)
        found = self.settled()
        require_config(found, config)
        return found or {}

    def update_variants(self, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Change ``DesiredWeight`` or ``DesiredInstanceCount`` of variants; return the description once it is done.

        :raises DeploymentRolledBackError: if a weight is another one then
        """
        self.client.update_endpoint_weights_and_capacities(
            EndpointName=self.name,
            DesiredWeightsAndCapacities=[{"VariantName": name, **change} for name, change in changes.items()],
        )
        found = self.settled()
        weights = {name: change["DesiredWeight"] for name, change in changes.items() if "DesiredWeight" in change}
        require_weights(found, weights)
        return found or {}


def described(call: Any, **which: str) -> dict[str, Any] | None:
    """Return what a describing call of boto3 says; None if there is nothing of that name."""
    from botocore.exceptions import ClientError

    try:
        return dict(call(**which))
    except ClientError as error:
        said = error.response["Error"]
        if said["Code"] == "ResourceNotFound" or "not find" in said["Message"] or "not found" in said["Message"]:
            return None
        raise


def exists_already(error: Any) -> bool:
    """Whether a refusal of boto3 says that something of that name is there."""
    return "already exist" in error.response["Error"]["Message"]


def require_usable(found: Mapping[str, Any]) -> None:
    """Let an endpoint go on that can be changed.

    :raises TargetError: if it has failed, with SageMaker's reason
    """
    status, name = found["EndpointStatus"], found["EndpointName"]
    if status == "Failed":
        raise TargetError(
            f"endpoint {name} has failed{reason_of(found)}; SageMaker lets nobody change it any more, only delete it"
        )
    if status == "UpdateRollbackFailed":
        raise TargetError(f"endpoint {name} serves a mix of two configurations: its rollback failed{reason_of(found)}")


def require_config(found: Mapping[str, Any] | None, asked: str) -> None:
    """Let an endpoint go on that serves the configuration that was asked for.

    :raises DeploymentRolledBackError: if it serves another one, naming both
    :raises TargetError: if it is gone, or has failed
    """
    if found is None:
        raise TargetError(f"the endpoint that was asked to serve {asked} is not there any more")
    require_usable(found)
    if found["EndpointConfigName"] != asked:
        raise DeploymentRolledBackError(
            f"endpoint {found['EndpointName']} was asked to serve config {asked} and serves "
            f"{found['EndpointConfigName']}: SageMaker has rolled the deployment back by itself{reason_of(found)}"
        )


def require_weights(found: Mapping[str, Any] | None, asked: Mapping[str, float]) -> None:
    """Let an endpoint go on whose variants have the weights that were asked for; see `require_config`."""
    if found is None:
        raise TargetError(f"the endpoint that was asked for the weights {dict(asked)} is not there any more")
    require_usable(found)
    weights = weights_of(found)
    wrong = [name for name, weight in asked.items() if abs(weights.get(name, -1.0) - weight) > WEIGHT_TOLERANCE]
    if wrong:
        seen = ", ".join(f"{name} at {weights.get(name, 'none')}" for name in wrong)
        wanted = ", ".join(f"{name} at {asked[name]:g}" for name in wrong)
        raise DeploymentRolledBackError(
            f"endpoint {found['EndpointName']} was asked for {wanted} and has {seen}: SageMaker has taken the change "
            f"back by itself{reason_of(found)}"
        )


def weights_of(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the weight that each production variant has now."""
    return {one["VariantName"]: float(one.get("CurrentWeight", 0.0)) for one in found["ProductionVariants"]}


def reason_of(found: Mapping[str, Any]) -> str:
    """Return SageMaker's reason, to stand behind a sentence."""
    return f" ({found['FailureReason']})" if found.get("FailureReason") else ""


@contextmanager
def answered(what: str) -> Iterator[None]:
    """Say of a call that AWS refused, or did not answer, what it was for.

    :raises TargetError: trying again may help
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise TargetError(f"{what}: {error}") from error
