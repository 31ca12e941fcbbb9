"""Deployments of one endpoint as the operators ask for them: a shadow beside what serves, and guardrails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import KEPT, UNDER_WAY, Endpoint, require_usable

Strategy = Literal["blue_green", "canary", "linear", "rolling"]
ROUTING = {"blue_green": "ALL_AT_ONCE", "canary": "CANARY", "linear": "LINEAR"}
SIZE = {"canary": "CanarySize", "linear": "LinearStepSize"}
CARRIED = (
    "DataCaptureConfig", "KmsKeyId", "ExplainerConfig", "ExecutionRoleArn", "VpcConfig", "EnableNetworkIsolation",
    "MetricsConfig",
)  # fmt: skip
"""What a configuration that is made of another one takes over beside the variants."""


def deploy(endpoint: Endpoint, config: str, **more: Any) -> bool:
    """Let an endpoint begin to serve a configuration; return whether there is anything to wait for.

    A deployment of the same configuration that is under way, as one of a try before, is adopted.

    :raises TargetError: if another change is under way
    """
    found = endpoint.described()
    if found is None:
        raise RolloutError(f"there is no endpoint {endpoint.name}")
    if found["EndpointStatus"] in UNDER_WAY:
        pending = found.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        if pending == config:
            return True
        raise TargetError(
            f"endpoint {endpoint.name} is {found['EndpointStatus']} ({pending}); it takes no other change"
        )
    require_usable(found)
    if found["EndpointConfigName"] == config:
        return False
    endpoint.client.update_endpoint(EndpointName=endpoint.name, EndpointConfigName=config, **more)
    return True


def change_shadow(endpoint: Endpoint, shadow: Mapping[str, Any] | None, share: float) -> str:
    """Let an endpoint begin to have this shadow, or none; return the name of the configuration that says so.

    :param shadow: the variant without its weight; an instance type of None is that of the variant beside it
    :param share: percent of the requests that it sees
    """
    found = endpoint.described()
    live = None if found is None else endpoint.config(found["EndpointConfigName"])
    if live is None:
        raise RolloutError(f"there is no endpoint {endpoint.name}, or no configuration of it any more")
    if shadow is None and not live.get("ShadowProductionVariants") and found and found["EndpointStatus"] == "InService":
        return str(live["EndpointConfigName"])
    if shadow is None:
        described = config_without_shadow(live, endpoint.name)
    else:
        described = config_with_shadow(live, endpoint.name, shadow, share)
    endpoint.adopt_config(described)
    deploy(endpoint, described["EndpointConfigName"], **KEPT)
    return str(described["EndpointConfigName"])


def change_variants(endpoint: Endpoint, weights: Mapping[str, float], counts: Mapping[str, int]) -> None:
    """Let variants of an endpoint begin to have other weights and instance counts, unless they are asked for already.

    :raises RolloutError: if there is no such endpoint or variant, or nothing is asked for
    """
    found = endpoint.described()
    if found is None:
        raise RolloutError(f"there is no endpoint {endpoint.name}")
    require_usable(found)
    has = {one["VariantName"]: one for one in found["ProductionVariants"]}
    strange = sorted((weights.keys() | counts.keys()) - has.keys())
    if strange or not (weights or counts):
        raise RolloutError(f"endpoint {endpoint.name} has the variants {', '.join(has)}; asked for {strange or 'none'}")
    asked = {name: {"DesiredWeight": weight} for name, weight in weights.items()}
    changes = {name: {**asked.get(name, {}), **count_of(counts, name)} for name in {**asked, **counts}}
    if all(has[name].get(key) == value for name, change in changes.items() for key, value in change.items()):
        return
    endpoint.client.update_endpoint_weights_and_capacities(
        EndpointName=endpoint.name,
        DesiredWeightsAndCapacities=[{"VariantName": name, **change} for name, change in changes.items()],
    )


def count_of(counts: Mapping[str, int], name: str) -> dict[str, int]:
    """Return the change of a variant's instance count, where one is asked for."""
    return {"DesiredInstanceCount": counts[name]} if name in counts else {}


def config_with_shadow(
    live: Mapping[str, Any], endpoint: str, shadow: Mapping[str, Any], share: float
) -> dict[str, Any]:
    """Return the configuration that is ``live`` with a shadow beside its variant, under the name of its digest.

    :param shadow: the variant, without its weight
    :param share: percent of the requests that it sees
    :raises RolloutError: if SageMaker lets nobody stand in the shadow of several variants
    """
    production = live["ProductionVariants"]
    if len(production) != 1:
        names = ", ".join(one["VariantName"] for one in production)
        raise RolloutError(f"endpoint {endpoint} has the variants {names}; a shadow stands beside one alone")
    variant = {**shadow, "InstanceType": shadow["InstanceType"] or production[0].get("InstanceType")}
    weight = production[0].get("InitialVariantWeight", 1.0) * share / 100
    return named(
        endpoint, {**_carried(live), "ShadowProductionVariants": [{**variant, "InitialVariantWeight": weight}]}
    )


def config_without_shadow(live: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """Return the configuration that is ``live`` without its shadow, under the name of its digest."""
    return named(endpoint, _carried(live))


def named(endpoint: str, held: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration under a name that says which endpoint it is of and what it holds."""
    digest = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:16]
    return {"EndpointConfigName": f"{endpoint[:46].rstrip('-')}-{digest}", **held}


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
    :param limit: seconds that all of it may take
    :raises RolloutError: if there is no such strategy, or no alarm that could stop it
    """
    if strategy not in (*ROUTING, "rolling"):
        raise RolloutError(f"no such strategy {strategy!r}; there are blue_green, canary, linear and rolling")
    if not alarms:
        raise RolloutError(f"{strategy} needs alarms: SageMaker rolls back when one of them goes off, and else never")
    units = {"percent": "CAPACITY_PERCENT", "instances": "INSTANCE_COUNT"}
    if step_unit not in units:
        raise RolloutError(f"step_unit is {step_unit!r}; it must be percent or instances")
    size, ends = (
        {"Type": units[step_unit], "Value": step},
        {} if limit is None else {"MaximumExecutionTimeoutInSeconds": limit},
    )
    watched = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in alarms]}}
    if strategy == "rolling":
        return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": bake, **ends}, **watched}
    routing: dict[str, Any] = {"Type": ROUTING[strategy], "WaitIntervalInSeconds": bake}
    if strategy in SIZE:
        routing[SIZE[strategy]] = size
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": terminate, **ends}
    return {"BlueGreenUpdatePolicy": policy, **watched}


def _carried(live: Mapping[str, Any]) -> dict[str, Any]:
    names = ("ProductionVariants", *CARRIED)
    return {name: live[name] for name in names if live.get(name)}
