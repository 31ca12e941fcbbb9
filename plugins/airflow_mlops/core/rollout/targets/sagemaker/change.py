"""One change of an endpoint, to one traffic, in steps that a second try finds done."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.ports.rollout_target import TargetError, Traffic
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import (
    KEPT,
    Endpoint,
    exists_already,
    require_config,
    weights_of,
)
from airflow_mlops.core.rollout.targets.sagemaker.model import require_model, variant_name
from airflow_mlops.core.rollout.targets.sagemaker.traffic_tags import Told, ToldTags
from airflow_mlops.core.rollout.targets.sagemaker.variants import (
    asked_weights,
    config_holding,
    holds,
    needed,
    observed,
    strayed,
    variants_of,
)

if TYPE_CHECKING:
    from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import ServingPlace


class TrafficChange:
    """What has to be done so that an endpoint serves ``traffic``; each step returns the endpoint as described then.

    :param model: name of the loop's model
    :param place: what a version that is new on the endpoint gets
    :param model_name: returns the name of the SageMaker model of a version
    """

    def __init__(
        self,
        endpoint: Endpoint,
        traffic: Traffic,
        *,
        model: str,
        place: ServingPlace,
        model_name: Callable[[str], str],
    ) -> None:
        self.endpoint, self.traffic, self.model, self.place = endpoint, traffic, model, place
        self.model_name = model_name

    def claimed(self) -> dict[str, Any]:
        """Return the settled endpoint, which has been told the traffic and nothing newer; it is made if it is missing.

        :raises OlderTrafficError: if it was told something newer
        """
        found = self.endpoint.described()
        if found is None:
            self._create()
            found = self.endpoint.settled()
            if found is None:
                raise TargetError(f"endpoint {self.endpoint.name} was created and is not there any more")
        tags = self.tags(found)
        tags.claim(self.traffic)
        found = self.endpoint.settled() or found
        tags.require_newest(self.traffic)
        return found

    def holding(self, found: dict[str, Any], *, exactly: bool = False) -> dict[str, Any]:
        """Let the endpoint have the variants that the traffic needs.

        :param exactly: whether it may have no others
        :raises TargetError: if SageMaker has rolled the config back, or a version was not prepared
        """
        if holds(found, self.traffic, exactly=exactly):
            return found
        config = self._config(found)
        self.tags(found).require_newest(self.traffic)
        return self.endpoint.update(config, **KEPT)

    def with_capacity(self, found: dict[str, Any]) -> dict[str, Any]:
        """Let each variant have its share of the instances that the largest one has; none loses any."""
        counts = {one["VariantName"]: int(one.get("CurrentInstanceCount", 1)) for one in found["ProductionVariants"]}
        peak = max(counts.values())
        short = {
            name: {"DesiredInstanceCount": math.ceil(peak * weight)}
            for name, weight in asked_weights(found, self.traffic).items()
            if counts[name] < math.ceil(peak * weight)
        }
        if not short:
            return found
        self.tags(found).require_newest(self.traffic)
        return self.endpoint.update_variants(short)

    def weighted(self, found: dict[str, Any]) -> dict[str, Any]:
        """Let the variants have the weights of the traffic."""
        asked = asked_weights(found, self.traffic)
        if not strayed(weights_of(found), asked):
            return found
        self.tags(found).require_newest(self.traffic)
        return self.endpoint.update_variants({name: {"DesiredWeight": weight} for name, weight in asked.items()})

    def done(self) -> None:
        """Make sure that the endpoint serves the traffic, and note since when.

        :raises OlderTrafficError: if it was told something newer meanwhile, which then serves again
        :raises TargetError: if it serves something else
        """
        found = self.endpoint.settled()
        newest = None if found is None else self.tags(found).newest()
        if found is not None and newest is not None and newest.traffic.order > self.traffic.order:
            self._put_back(found, newest.traffic)
            self.tags(found).require_newest(self.traffic)
        served = observed(found, newest)
        if found is None or not served.serves_like(self.traffic):
            raise TargetError(f"endpoint {self.endpoint.name} was told {self.traffic} and serves {served}")
        self.tags(found).served(self.traffic, now=found["LastModifiedTime"].timestamp())

    def tags(self, found: Mapping[str, Any]) -> ToldTags:
        """Return the tags of the endpoint."""
        return ToldTags(self.endpoint.client, found["EndpointArn"])

    def _put_back(self, found: dict[str, Any], newer: Traffic) -> None:
        """Give a newer order its weights again, that a call of this one may have overtaken."""
        if holds(found, newer, exactly=False):
            TrafficChange(
                self.endpoint, newer, model=self.model, place=self.place, model_name=self.model_name
            ).weighted(found)

    def _create(self) -> None:
        config, client = self._config(None), self.endpoint.client
        try:
            client.create_endpoint(
                EndpointName=self.endpoint.name, EndpointConfigName=config, Tags=[Told(self.traffic).tag()]
            )
        except client.exceptions.ClientError as error:
            if not exists_already(error):  # else somebody else was quicker: the endpoint is told as any other is
                raise
            return
        require_config(self.endpoint.settled(), config)

    def _config(self, found: Mapping[str, Any] | None) -> str:
        """Return the name of the config for the traffic, made or adopted. Variants that serve stay what they are."""
        live = None if found is None else self.endpoint.config(found["EndpointConfigName"])
        kept = {one["VariantName"]: one for one in variants_of(live or {})}
        variants = {
            number: kept.get(variant_name(number)) or self._variant(number) for number in needed(self.traffic, kept)
        }
        described = config_holding(self.model, variants, self.traffic, self.place)
        self.endpoint.adopt_config(described)
        return str(described["EndpointConfigName"])

    def _variant(self, number: str) -> dict[str, Any]:
        """Return the variant of a version that is new on the endpoint.

        :raises TargetError: if it was not prepared
        """
        model = self.model_name(number)
        require_model(self.endpoint.client, model, number)
        return {
            "VariantName": variant_name(number), "ModelName": model, "InstanceType": self.place.instance_type,
            "InitialInstanceCount": self.place.instances,
        }  # fmt: skip
