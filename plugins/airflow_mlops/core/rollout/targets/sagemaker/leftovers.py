"""Configs and SageMaker models of an endpoint that nothing needs any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import Endpoint
from airflow_mlops.core.rollout.targets.sagemaker.model import models_of
from airflow_mlops.core.rollout.targets.sagemaker.variants import needed, variants_of


def remove_unneeded(endpoint: Endpoint, model: str, found: Mapping[str, Any], traffic: Traffic) -> None:
    """Remove configs and models of an endpoint that neither it nor ``traffic`` needs; archives in S3 stay.

    :param found: description of the endpoint
    """
    client, base, live = endpoint.client, f"{endpoint.name}-", str(found["EndpointConfigName"])
    for name in names_with(client, "list_endpoint_configs", "EndpointConfig", base):
        if name != live:
            client.delete_endpoint_config(EndpointConfigName=name)
    variants = variants_of(endpoint.config(live) or {})
    served = {one["ModelName"] for one in variants}
    kept = tuple(models_of(model, number) for number in needed(traffic, [one["VariantName"] for one in variants]))
    for name in names_with(client, "list_models", "Model", f"{base}v"):
        if name not in served and not name.startswith(kept):
            client.delete_model(ModelName=name)


def names_with(client: Any, call: str, what: str, prefix: str) -> list[str]:
    """Return the names of all configs, or models, that begin with a prefix."""
    pages = client.get_paginator(call).paginate(NameContains=prefix)
    names = [str(one[f"{what}Name"]) for page in pages for one in page[f"{what}s"]]
    return [name for name in names if name.startswith(prefix)]
