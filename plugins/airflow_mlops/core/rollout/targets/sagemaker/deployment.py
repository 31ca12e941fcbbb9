"""Deployments of an endpoint for the operators: shadow variants, weights and guardrails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.fault_point import write
from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import (
    IN_PROGRESS,
    RETAIN_INSTANCES,
    Endpoint,
    require_usable,
)

Strategy = Literal["blue_green", "canary", "linear", "rolling"]
ROUTING = {"blue_green": "ALL_AT_ONCE", "canary": "CANARY", "linear": "LINEAR"}
SIZE = {"canary": "CanarySize", "linear": "LinearStepSize"}
CARRIED = (
    "DataCaptureConfig",
    "KmsKeyId",
    "ExplainerConfig",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
    "MetricsConfig",
)
"""Keys that a configuration takes over from the one it is derived from, besides the variants."""


def deploy(endpoint: Endpoint, config: str, **options: Any) -> bool:
    """Start to deploy a configuration; return whether there is anything to wait for.

    A deployment of the same configuration that is in progress, such as that of an earlier try, is adopted.

    :raises RolloutError: if there is no such endpoint
    :raises TargetError: if another change is in progress
    """
    description = endpoint.describe()
    if description is None:
        raise RolloutError(f"there is no endpoint {endpoint.name}")
    if description["EndpointStatus"] in IN_PROGRESS:
        pending = description.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        if pending == config:
            return True
        raise TargetError(
            f"endpoint {endpoint.name} is {description['EndpointStatus']} ({pending}); it takes no other change"
        )
    require_usable(description)
    if description["EndpointConfigName"] == config:
        return False
    write(
        "sagemaker",
        endpoint.client,
        "update_endpoint",
        EndpointName=endpoint.name,
        EndpointConfigName=config,
        **options,
    )
    return True


def change_shadow(endpoint: Endpoint, shadow: Mapping[str, Any] | None, share: float) -> str:
    """Start to deploy a shadow variant, or to remove it; return the name of the configuration.

    :param shadow: the variant without its weight; an instance type of None is that of the variant beside it
    :param share: percent of the requests that are copied to it
    :raises RolloutError: if there is no such endpoint, or it has several variants
    """
    description = endpoint.describe()
    live = None if description is None else endpoint.config(description["EndpointConfigName"])
    if live is None:
        raise RolloutError(f"there is no endpoint {endpoint.name}, or its configuration does not exist any more")
    if (
        shadow is None
        and not live.get("ShadowProductionVariants")
        and description
        and description["EndpointStatus"] == "InService"
    ):
        return str(live["EndpointConfigName"])
    if shadow is None:
        config = config_without_shadow(live, endpoint.name)
    else:
        config = config_with_shadow(live, endpoint.name, shadow, share)
    endpoint.adopt_config(config)
    deploy(endpoint, config["EndpointConfigName"], **RETAIN_INSTANCES)
    return str(config["EndpointConfigName"])


def change_variants(endpoint: Endpoint, weights: Mapping[str, float], counts: Mapping[str, int]) -> None:
    """Start to change the weights and instance counts of variants, unless they are set already.

    :raises RolloutError: if there is no such endpoint or variant, or nothing to change
    """
    description = endpoint.describe()
    if description is None:
        raise RolloutError(f"there is no endpoint {endpoint.name}")
    require_usable(description)
    present = {variant["VariantName"]: variant for variant in description["ProductionVariants"]}
    unknown = sorted((weights.keys() | counts.keys()) - present.keys())
    if unknown or not (weights or counts):
        raise RolloutError(
            f"endpoint {endpoint.name} has the variants {', '.join(present)}; asked for {unknown or 'none'}"
        )
    changes_of_weight = {name: {"DesiredWeight": weight} for name, weight in weights.items()}
    changes = {
        name: {**changes_of_weight.get(name, {}), **count_of(counts, name)} for name in {**changes_of_weight, **counts}
    }
    if all(present[name].get(key) == value for name, change in changes.items() for key, value in change.items()):
        return
    write(
        "sagemaker",
        endpoint.client,
        "update_endpoint_weights_and_capacities",
        EndpointName=endpoint.name,
        DesiredWeightsAndCapacities=[{"VariantName": name, **change} for name, change in changes.items()],
    )


def count_of(counts: Mapping[str, int], name: str) -> dict[str, int]:
    """Return the change of a variant's instance count, empty if there is none."""
    return {"DesiredInstanceCount": counts[name]} if name in counts else {}


def config_with_shadow(
    live: Mapping[str, Any], endpoint: str, shadow: Mapping[str, Any], share: float
) -> dict[str, Any]:
    """Return the configuration ``live`` with a shadow variant, named by its digest.

    :param shadow: the variant, without its weight
    :param share: percent of the requests that are copied to it
    :raises RolloutError: if there are several variants, for which SageMaker allows no shadow
    """
    production = live["ProductionVariants"]
    if len(production) != 1:
        names = ", ".join(variant["VariantName"] for variant in production)
        raise RolloutError(
            f"endpoint {endpoint} has the variants {names}; a shadow needs an endpoint with a single variant"
        )
    variant = {**shadow, "InstanceType": shadow["InstanceType"] or production[0].get("InstanceType")}
    weight = production[0].get("InitialVariantWeight", 1.0) * share / 100
    return name_config(
        endpoint, {**_carry_over(live), "ShadowProductionVariants": [{**variant, "InitialVariantWeight": weight}]}
    )


def config_without_shadow(live: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """Return the configuration ``live`` without its shadow variant, named by its digest."""
    return name_config(endpoint, _carry_over(live))


def name_config(endpoint: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with a name made of the endpoint and the digest of its content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return {"EndpointConfigName": f"{endpoint[:46].rstrip('-')}-{digest}", **content}


def guardrails(
    strategy: Strategy,
    *,
    alarms: Sequence[str],
    step: int,
    step_unit: str,
    bake: int,
    terminate: int,
    limit: int | None,
) -> dict[str, Any]:
    """Return the ``DeploymentConfig`` of a strategy.

    :param step: size of the canary, of a linear step, or of a rolling batch; blue_green has none
    :param step_unit: ``percent`` of the capacity, or ``instances``
    :param bake: seconds between steps, in which the alarms are watched
    :param terminate: seconds that the old instances stay afterwards; rolling has none
    :param limit: seconds that the whole deployment may take
    :raises RolloutError: if there is no such strategy or unit, or no alarm that could stop the deployment
    """
    if strategy not in (*ROUTING, "rolling"):
        raise RolloutError(f"no such strategy {strategy!r}; there are blue_green, canary, linear and rolling")
    if not alarms:
        raise RolloutError(f"{strategy} needs alarms: SageMaker rolls back only when one of them goes off")
    units = {"percent": "CAPACITY_PERCENT", "instances": "INSTANCE_COUNT"}
    if step_unit not in units:
        raise RolloutError(f"step_unit is {step_unit!r}; it must be percent or instances")
    size, ends = (
        {"Type": units[step_unit], "Value": step},
        {} if limit is None else {"MaximumExecutionTimeoutInSeconds": limit},
    )
    rollback = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in alarms]}}
    if strategy == "rolling":
        return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": bake, **ends}, **rollback}
    routing: dict[str, Any] = {"Type": ROUTING[strategy], "WaitIntervalInSeconds": bake}
    if strategy in SIZE:
        routing[SIZE[strategy]] = size
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": terminate, **ends}
    return {"BlueGreenUpdatePolicy": policy, **rollback}


def _carry_over(live: Mapping[str, Any]) -> dict[str, Any]:
    names = ("ProductionVariants", *CARRIED)
    return {name: live[name] for name in names if live.get(name)}
