"""A SageMaker endpoint that serves a model; a :class:`~airflow_mlops.core.ports.rollout_target.RolloutTarget`.

    prepare    archive in S3, SageMaker model                     no endpoint is touched
    apply      config with a variant for each version, if it is not there yet    minutes
               then the weights of the variants                                  seconds
    rollback   the weights alone, where the champion is on the endpoint          seconds
    finalize   config without the versions that nothing needs; their models and configs go

A version is a variant of that name. In every config the champion has all the weight, and only a change of weights lets
the challenger answer: so a config that SageMaker puts in place again, for whatever reason, exposes nobody to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import TargetError, Telemetry, Traffic, VersionTelemetry
from airflow_mlops.core.rollout.targets.sagemaker.change import TrafficChange
from airflow_mlops.core.rollout.targets.sagemaker.cloudwatch_metrics import alarms_in_words, clock_of, seen_of_variants
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import Endpoint, answered, require_usable
from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import ServingPlace
from airflow_mlops.core.rollout.targets.sagemaker.leftovers import remove_unneeded
from airflow_mlops.core.rollout.targets.sagemaker.model import (
    adopt_model,
    endpoint_name,
    models_of,
    sagemaker_model_name,
    variant_name,
)
from airflow_mlops.core.rollout.targets.sagemaker.traffic_tags import Told, ToldTags
from airflow_mlops.core.rollout.targets.sagemaker.variants import holds, observed

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class AwsClients:
    """How to open boto3's clients of the services that an endpoint needs, each on first use."""

    sagemaker: Callable[[], Any]
    s3: Callable[[], Any]
    cloudwatch: Callable[[], Any]


class SageMakerTarget:
    """Serves the versions of a loop as variants of one endpoint.

    :param workspace: the loop, and where its versions are
    :param place: image, role, storage and instances
    :param clients: how to reach AWS
    """

    name = "sagemaker"

    def __init__(self, workspace: Workspace, place: ServingPlace, clients: AwsClients) -> None:
        self.workspace, self.place, self.model = workspace, place, workspace.loop.model
        self.sagemaker, self.files, self.clients = clients.sagemaker(), clients.s3(), clients
        self.endpoint = Endpoint(
            self.sagemaker, endpoint_name(self.model), wait_seconds=60 * place.wait_minutes,
            poll_seconds=place.poll_seconds,
        )  # fmt: skip
        self._prepared: dict[str, str] = {}

    @cached_property
    def metrics(self) -> Any:
        """boto3's client of CloudWatch."""
        return self.clients.cloudwatch()

    def prepare(self, version: Version) -> None:
        """Make the SageMaker model of a version, or adopt it; see the port.

        It gets its instances, and is warm, when ``apply`` first names it, before it has any weight.
        """
        variant_name(version.number)
        with answered(f"preparing version {version.number} for SageMaker"):
            name = adopt_model(self.workspace, version, self.place, self.sagemaker, self.files)
        self._prepared[version.number] = name

    def apply(self, traffic: Traffic) -> None:
        """Serve ``traffic``, and return once the endpoint says that it does; see the port."""
        change = self._change(traffic)
        with answered(f"endpoint {self.endpoint.name}"):
            change.weighted(change.with_capacity(change.holding(change.claimed())))
            change.done()

    def observe(self) -> Traffic:
        """Return what the endpoint says that it serves, with order and salt of what it last came to serve.

        :raises TargetError: if it has failed
        """
        with answered(f"endpoint {self.endpoint.name}"):
            found, told = self._found()
        if found is not None:
            require_usable(found)
        return observed(found, told)

    def telemetry(self) -> Telemetry:
        """Return what CloudWatch saw of both versions since the traffic was applied, by AWS's clock."""
        nothing = VersionTelemetry()
        with answered(f"CloudWatch about endpoint {self.endpoint.name}"):
            found, told = self._found()
            if found is None or told is None or told.since is None:
                return Telemetry(0, 0.0, nothing, nothing)
            traffic, now, since = told.traffic, clock_of(found), told.since
            asked = {number: variant_name(number) for number in (traffic.champion, traffic.challenger) if number}
            seen = seen_of_variants(
                self.metrics, self.endpoint.name, list(asked.values()), since=since, until=now
            )  # fmt: skip
            by_number = {number: seen[variant] for number, variant in asked.items()}
            tripped = self._tripped(found, told)
        return Telemetry(
            traffic.order, max(0.0, now - since), by_number.get(traffic.champion or "", nothing),
            by_number.get(traffic.challenger or "", nothing), tripped=tripped,
        )  # fmt: skip

    def rollback(self, traffic: Traffic) -> None:
        """Serve ``traffic``: by weights alone where its champion is on the endpoint; see the port.

        Capacity that the champion may lack is added after the challenger has lost its requests.

        :raises RolloutError: if it has a challenger
        """
        if traffic.challenger is not None:
            raise RolloutError(f"a rollback has no challenger; this one has version {traffic.challenger}")
        change = self._change(traffic)
        with answered(f"endpoint {self.endpoint.name}"):
            change.with_capacity(change.weighted(change.holding(change.claimed())))
            change.done()

    def finalize(self, traffic: Traffic) -> None:
        """Take variants off the endpoint that ``traffic`` does not need, and remove their configs and models.

        :raises TargetError: if ``traffic`` is not what the endpoint serves
        """
        change = self._change(traffic)
        with answered(f"endpoint {self.endpoint.name}"):
            found = self.endpoint.settled()
            if found is None:
                return
            tags = change.tags(found)
            tags.require_newest(traffic)
            if not observed(found, tags.applied()).serves_like(traffic):
                raise TargetError(f"endpoint {self.endpoint.name} does not serve record {traffic.order} yet")
            found = change.weighted(change.holding(found, exactly=True))
            tags.require_newest(traffic)
            remove_unneeded(self.endpoint, self.model, found, traffic)

    def _found(self) -> tuple[dict[str, Any] | None, Told | None]:
        """Return the description of the endpoint, and what it was told last and has come to serve."""
        found = self.endpoint.described()
        return found, None if found is None else ToldTags(self.sagemaker, found["EndpointArn"]).applied()

    def _change(self, traffic: Traffic) -> TrafficChange:
        """Return a change to ``traffic``.

        :raises RolloutError: if no endpoint can serve that
        """
        if traffic.kind == "rolling":
            raise RolloutError(
                "a rolling stage cannot stand still at a share on SageMaker, whose rolling update goes on to its end; "
                "use canary"
            )
        if traffic.champion is None:
            raise RolloutError(f"endpoint {self.endpoint.name} cannot serve nobody; delete it to serve nothing")
        return TrafficChange(self.endpoint, traffic, model=self.model, place=self.place, model_name=self._model_name)

    def _model_name(self, number: str) -> str:
        """Return the name of the SageMaker model that ``prepare`` has made of a version, here or in another try."""
        if number in self._prepared:
            return self._prepared[number]
        version = self.workspace.state().versions.get(number)
        return (
            models_of(self.model, number) if version is None else sagemaker_model_name(self.model, version, self.place)
        )

    def _tripped(self, found: Mapping[str, Any], told: Told) -> str | None:
        """Return in words why the challenger is, or must be, taken out; None if nothing says so."""
        challenger = told.traffic.challenger
        if challenger is None:
            return None
        if not holds(found, told.traffic, exactly=False):
            return (
                f"endpoint {self.endpoint.name} serves config {found['EndpointConfigName']}, which has no version "
                f"{challenger} as {told.traffic.kind}: it was rolled back outside of this rollout"
            )
        return alarms_in_words(self.metrics, self.place.alarms)
