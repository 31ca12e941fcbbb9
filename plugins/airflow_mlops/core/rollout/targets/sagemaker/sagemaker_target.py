"""A SageMaker endpoint that serves a model; a :class:`~airflow_mlops.core.ports.rollout_target.RolloutTarget`.

    prepare    archive in S3, SageMaker model                     no endpoint is touched
    apply      config with a variant for each version, if it is not there yet    minutes
               then the weights of the variants                                  seconds
    rollback   the weights alone if the champion is on the endpoint              seconds
    finalize   config without the unneeded versions; their models and configs are deleted

A version is a variant of that name. In every config the champion has all the weight, and only a change of weights sends
requests to the challenger: a config that SageMaker restores, for whatever reason, exposes nobody to the challenger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import TargetError, Telemetry, Traffic, VersionTelemetry
from airflow_mlops.core.rollout.targets.sagemaker.change import TrafficChange, remove_unneeded
from airflow_mlops.core.rollout.targets.sagemaker.cloudwatch_metrics import (
    active_alarms,
    response_time,
    variant_telemetry,
)
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import Endpoint, require_usable, translate_errors
from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import EndpointSettings
from airflow_mlops.core.rollout.targets.sagemaker.model import (
    endpoint_name,
    ensure_model,
    model_prefix,
    sagemaker_model_name,
    variant_name,
)
from airflow_mlops.core.rollout.targets.sagemaker.traffic_tags import AppliedTraffic, TrafficTags
from airflow_mlops.core.rollout.targets.sagemaker.variants import has_variants, observed_traffic

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class AwsClients:
    """Factories of boto3's clients of the services that an endpoint needs."""

    sagemaker: Callable[[], Any]
    s3: Callable[[], Any]
    cloudwatch: Callable[[], Any]


class SageMakerTarget:
    """The versions of a loop as variants of one endpoint.

    :param workspace: the loop and its versions
    :param settings: image, role, storage and instances
    :param clients: boto3's clients
    """

    name = "sagemaker"

    def __init__(self, workspace: Workspace, settings: EndpointSettings, clients: AwsClients) -> None:
        self.workspace, self.settings, self.model = workspace, settings, workspace.loop.model
        self.sagemaker, self.files, self.clients = clients.sagemaker(), clients.s3(), clients
        self.endpoint = Endpoint(
            self.sagemaker,
            endpoint_name(self.model),
            wait_seconds=60 * settings.wait_minutes,
            poll_seconds=settings.poll_seconds,
        )
        self._prepared: dict[str, str] = {}

    @cached_property
    def metrics(self) -> Any:
        """boto3's client of CloudWatch."""
        return self.clients.cloudwatch()

    def prepare(self, version: Version) -> None:
        """Create the SageMaker model of a version, or adopt it; see the port.

        The version gets its instances, and is warm, with the first ``apply`` that has it, before it has any weight.
        """
        variant_name(version.number)
        with translate_errors(f"preparing version {version.number} for SageMaker"):
            name = ensure_model(self.workspace, version, self.settings, self.sagemaker, self.files)
        self._prepared[version.number] = name

    def apply(self, traffic: Traffic) -> None:
        """Serve ``traffic``, and return once the endpoint confirms it; see the port."""
        change = self._change(traffic)
        with translate_errors(f"endpoint {self.endpoint.name}"):
            change.set_weights(change.ensure_capacity(change.ensure_variants(change.claim_endpoint())))
            change.confirm()

    def observe(self) -> Traffic:
        """Return the traffic that the endpoint serves, with order and salt of its newest served tag.

        :raises TargetError: if the endpoint has failed
        """
        with translate_errors(f"endpoint {self.endpoint.name}"):
            description, applied = self._describe()
        if description is not None:
            require_usable(description)
        return observed_traffic(description, applied)

    def telemetry(self) -> Telemetry:
        """Return CloudWatch's telemetry of both versions since the traffic was applied, by AWS's clock."""
        nothing = VersionTelemetry()
        with translate_errors(f"CloudWatch about endpoint {self.endpoint.name}"):
            description, applied = self._describe()
            if description is None or applied is None or applied.since is None:
                return Telemetry(0, 0.0, nothing, nothing)
            traffic, now, since = applied.traffic, response_time(description), applied.since
            variants = {number: variant_name(number) for number in (traffic.champion, traffic.challenger) if number}
            by_variant = variant_telemetry(
                self.metrics, self.endpoint.name, list(variants.values()), since=since, until=now
            )
            by_number = {number: by_variant[variant] for number, variant in variants.items()}
            tripped = self._trip_reason(description, applied)
        return Telemetry(
            traffic.order,
            max(0.0, now - since),
            by_number.get(traffic.champion or "", nothing),
            by_number.get(traffic.challenger or "", nothing),
            tripped=tripped,
        )

    def rollback(self, traffic: Traffic) -> None:
        """Serve ``traffic``, by weights alone if its champion is on the endpoint; see the port.

        Capacity that the champion may lack is added after the challenger has lost its requests.

        :raises RolloutError: if the traffic has a challenger
        """
        if traffic.challenger is not None:
            raise RolloutError(f"a rollback has no challenger; this one has version {traffic.challenger}")
        change = self._change(traffic)
        with translate_errors(f"endpoint {self.endpoint.name}"):
            change.ensure_capacity(change.set_weights(change.ensure_variants(change.claim_endpoint())))
            change.confirm()

    def finalize(self, traffic: Traffic) -> None:
        """Remove the variants that ``traffic`` does not need, and their configs and models.

        :raises TargetError: if the endpoint does not serve ``traffic``
        """
        change = self._change(traffic)
        with translate_errors(f"endpoint {self.endpoint.name}"):
            description = self.endpoint.wait_until_settled()
            if description is None:
                return
            tags = change.tags(description)
            tags.require_newest(traffic)
            if not observed_traffic(description, tags.newest_served()).serves_like(traffic):
                raise TargetError(f"endpoint {self.endpoint.name} does not serve record {traffic.order} yet")
            description = change.set_weights(change.ensure_variants(description, exactly=True))
            tags.require_newest(traffic)
            remove_unneeded(self.endpoint, self.model, description, traffic)

    def _describe(self) -> tuple[dict[str, Any] | None, AppliedTraffic | None]:
        """Return the description of the endpoint, and its newest served traffic."""
        description = self.endpoint.describe()
        return description, None if description is None else TrafficTags(
            self.sagemaker, description["EndpointArn"]
        ).newest_served()

    def _change(self, traffic: Traffic) -> TrafficChange:
        """Return a change to ``traffic``.

        :raises RolloutError: if an endpoint cannot serve the traffic
        """
        if traffic.kind == "rolling":
            raise RolloutError(
                "a rolling stage cannot stop at a share on SageMaker, whose rolling update always runs to its end; "
                "use canary"
            )
        if traffic.champion is None:
            raise RolloutError(f"endpoint {self.endpoint.name!r} needs a champion; delete the endpoint to stop serving")
        return TrafficChange(
            self.endpoint, traffic, model=self.model, settings=self.settings, model_name=self._model_name
        )

    def _model_name(self, number: str) -> str:
        """Return the name of the SageMaker model that ``prepare`` has created, here or in another try."""
        if number in self._prepared:
            return self._prepared[number]
        version = self.workspace.state().versions.get(number)
        return (
            model_prefix(self.model, number)
            if version is None
            else sagemaker_model_name(self.model, version, self.settings)
        )

    def _trip_reason(self, description: Mapping[str, Any], applied: AppliedTraffic) -> str | None:
        """Return why the challenger is out or has to be taken out, None if there is no reason."""
        challenger = applied.traffic.challenger
        if challenger is None:
            return None
        if not has_variants(description, applied.traffic, exactly=False):
            return (
                f"endpoint {self.endpoint.name} serves config {description['EndpointConfigName']}, which has no "
                f"version {challenger} as {applied.traffic.kind}: it was rolled back outside of this rollout"
            )
        return active_alarms(self.metrics, self.settings.alarms)
