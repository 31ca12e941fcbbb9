"""Change the traffic of an endpoint, in steps that a retry finds done."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.fault_point import write
from airflow_mlops.core.ports.rollout_target import TargetError, Traffic
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import (
    RETAIN_INSTANCES,
    Endpoint,
    exists_already,
    require_config,
    weights_of,
)
from airflow_mlops.core.rollout.targets.sagemaker.model import model_prefix, require_model, variant_name
from airflow_mlops.core.rollout.targets.sagemaker.traffic_tags import AppliedTraffic, TrafficTags
from airflow_mlops.core.rollout.targets.sagemaker.variants import (
    build_config,
    has_variants,
    observed_traffic,
    target_weights,
    variants_of,
    versions_needed,
    weights_differ,
)

if TYPE_CHECKING:
    from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import EndpointSettings


class TrafficChange:
    """A change of an endpoint to ``traffic``; each step returns the description of the endpoint after it.

    :param model: name of the loop's model
    :param settings: instances of a version that is new on the endpoint
    :param model_name: returns the name of the SageMaker model of a version
    """

    def __init__(
        self,
        endpoint: Endpoint,
        traffic: Traffic,
        *,
        model: str,
        settings: EndpointSettings,
        model_name: Callable[[str], str],
    ) -> None:
        self.endpoint, self.traffic, self.model, self.settings = endpoint, traffic, model, settings
        self.model_name = model_name

    def claim_endpoint(self) -> dict[str, Any]:
        """Record the traffic on the endpoint, which is created if it is missing, and wait until it has settled.

        :raises OlderTrafficError: if the endpoint has newer traffic
        """
        description = self.endpoint.describe()
        if description is None:
            self._create()
            description = self.endpoint.wait_until_settled()
            if description is None:
                raise TargetError(f"endpoint {self.endpoint.name} was created and does not exist any more")
        tags = self.tags(description)
        tags.claim(self.traffic)
        description = self.endpoint.wait_until_settled() or description
        tags.require_newest(self.traffic)
        return description

    def ensure_variants(self, description: dict[str, Any], *, exactly: bool = False) -> dict[str, Any]:
        """Deploy the variants that the traffic needs, unless they are there.

        :param exactly: whether the endpoint must have no others
        :raises TargetError: if SageMaker has rolled the config back, or a version was not prepared
        """
        if has_variants(description, self.traffic, exactly=exactly):
            return description
        config = self._config(description)
        self.tags(description).require_newest(self.traffic)
        return self.endpoint.update(config, **RETAIN_INSTANCES)

    def ensure_capacity(self, description: dict[str, Any]) -> dict[str, Any]:
        """Scale each variant up to its share of the instances of the largest one; never scale down."""
        counts = {
            variant["VariantName"]: int(variant.get("CurrentInstanceCount", 1))
            for variant in description["ProductionVariants"]
        }
        peak = max(counts.values())
        short = {
            name: {"DesiredInstanceCount": math.ceil(peak * weight)}
            for name, weight in target_weights(description, self.traffic).items()
            if counts[name] < math.ceil(peak * weight)
        }
        if not short:
            return description
        self.tags(description).require_newest(self.traffic)
        return self.endpoint.update_variants(short)

    def set_weights(self, description: dict[str, Any]) -> dict[str, Any]:
        """Set the weights of the traffic, unless they are set."""
        weights = target_weights(description, self.traffic)
        if not weights_differ(weights_of(description), weights):
            return description
        self.tags(description).require_newest(self.traffic)
        return self.endpoint.update_variants({name: {"DesiredWeight": weight} for name, weight in weights.items()})

    def confirm(self) -> None:
        """Check that the endpoint serves the traffic, and record since when.

        :raises OlderTrafficError: if newer traffic has arrived meanwhile; its weights are then set again
        :raises TargetError: if the endpoint serves other traffic
        """
        description = self.endpoint.wait_until_settled()
        newest = None if description is None else self.tags(description).newest()
        if description is not None and newest is not None and newest.traffic.order > self.traffic.order:
            self._put_back(description, newest.traffic)
            self.tags(description).require_newest(self.traffic)
        served = observed_traffic(description, newest)
        if description is None or not served.serves_like(self.traffic):
            raise TargetError(f"endpoint {self.endpoint.name} was to serve {self.traffic} and serves {served}")
        self.tags(description).mark_served(self.traffic, now=description["LastModifiedTime"].timestamp())

    def tags(self, description: Mapping[str, Any]) -> TrafficTags:
        """Return the traffic tags of the endpoint."""
        return TrafficTags(self.endpoint.client, description["EndpointArn"])

    def _put_back(self, description: dict[str, Any], newer: Traffic) -> None:
        """Set the weights of newer traffic again, which a call of this change may have overwritten."""
        if has_variants(description, newer, exactly=False):
            TrafficChange(
                self.endpoint, newer, model=self.model, settings=self.settings, model_name=self.model_name
            ).set_weights(description)

    def _create(self) -> None:
        config, client = self._config(None), self.endpoint.client
        try:
            write(
                "sagemaker",
                client,
                "create_endpoint",
                EndpointName=self.endpoint.name,
                EndpointConfigName=config,
                Tags=[AppliedTraffic(self.traffic).tag()],
            )
        except client.exceptions.ClientError as error:
            if not exists_already(
                error
            ):  # otherwise another worker was faster, and its endpoint is changed like any other
                raise
            return
        require_config(self.endpoint.wait_until_settled(), config)

    def _config(self, description: Mapping[str, Any] | None) -> str:
        """Create or adopt the config for the traffic, and return its name. Variants that serve stay unchanged."""
        live = None if description is None else self.endpoint.config(description["EndpointConfigName"])
        present = {variant["VariantName"]: variant for variant in variants_of(live or {})}
        variants = {
            number: present.get(variant_name(number)) or self._variant(number)
            for number in versions_needed(self.traffic, present)
        }
        config = build_config(self.model, variants, self.traffic, self.settings)
        self.endpoint.adopt_config(config)
        return str(config["EndpointConfigName"])

    def _variant(self, number: str) -> dict[str, Any]:
        """Return the variant of a version that is new on the endpoint.

        :raises TargetError: if it was not prepared
        """
        model = self.model_name(number)
        require_model(self.endpoint.client, model, number)
        return {
            "VariantName": variant_name(number),
            "ModelName": model,
            "InstanceType": self.settings.instance_type,
            "InitialInstanceCount": self.settings.instances,
        }


def remove_unneeded(endpoint: Endpoint, model: str, description: Mapping[str, Any], traffic: Traffic) -> None:
    """Delete the configs and models of an endpoint that neither it nor ``traffic`` needs; archives in S3 stay.

    :param description: description of the endpoint
    """
    client, prefix, live = endpoint.client, f"{endpoint.name}-", str(description["EndpointConfigName"])
    for name in list_names(client, "list_endpoint_configs", "EndpointConfig", prefix):
        if name != live:
            write("sagemaker", client, "delete_endpoint_config", EndpointConfigName=name)
    variants = variants_of(endpoint.config(live) or {})
    served = {variant["ModelName"] for variant in variants}
    versions = versions_needed(traffic, [variant["VariantName"] for variant in variants])
    needed = tuple(model_prefix(model, number) for number in versions)
    for name in list_names(client, "list_models", "Model", f"{prefix}v"):
        if name not in served and not name.startswith(needed):
            write("sagemaker", client, "delete_model", ModelName=name)


def list_names(client: Any, call: str, kind: str, prefix: str) -> list[str]:
    """Return the names of all configs or models that begin with a prefix."""
    pages = client.get_paginator(call).paginate(NameContains=prefix)
    names = [str(item[f"{kind}Name"]) for page in pages for item in page[f"{kind}s"]]
    # NameContains also finds the prefix inside a name.
    return [name for name in names if name.startswith(prefix)]
