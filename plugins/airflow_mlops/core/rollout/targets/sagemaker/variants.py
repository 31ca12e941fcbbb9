"""Traffic as variants of an endpoint, and variants as traffic: pure, without a call to anybody.

champion 3                       version-3 at 1
canary, version 4 at 10 %        version-3 at 0.9, version-4 at 0.1
standby, version 4               version-3 at 1, version-4 at 0
shadow, version 4 at 50 %        version-3 at 1, shadow version-4 at 0.5
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import WEIGHT_TOLERANCE, weights_of
from airflow_mlops.core.rollout.targets.sagemaker.model import config_name, endpoint_name, variant_name, version_of

if TYPE_CHECKING:
    from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import ServingPlace
    from airflow_mlops.core.rollout.targets.sagemaker.traffic_tags import Told


def needed(traffic: Traffic, present: Collection[str]) -> list[str]:
    """Return the versions that traffic needs on the endpoint, the champion first.

    A standby is kept where it is, and never fetched: nobody shall wait for it. Beside a shadow SageMaker allows one
    variant only, so it has no place there.

    :param present: names of the variants that the endpoint has
    """
    warm = traffic.standby if traffic.standby is not None and variant_name(traffic.standby) in present else None
    numbers = [traffic.champion, traffic.challenger, None if traffic.kind == "shadow" else warm]
    return list(dict.fromkeys(number for number in numbers if number is not None))


def variants_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the variants of an endpoint configuration, the shadow ones too."""
    return [*config.get("ProductionVariants", []), *config.get("ShadowProductionVariants", [])]


def config_holding(
    model: str, variants: Mapping[str, Mapping[str, Any]], traffic: Traffic, place: ServingPlace
) -> dict[str, Any]:
    """Return an endpoint configuration under the name of its digest.

    :param variants: the variant of each version, without its weight
    """
    shadow = traffic.challenger if traffic.kind == "shadow" else None
    production = [
        {**one, "InitialVariantWeight": 1.0 if number == traffic.champion else 0.0}
        for number, one in variants.items()
        if number != shadow
    ]
    held: dict[str, Any] = {"ProductionVariants": production}
    if shadow is not None:
        held["ShadowProductionVariants"] = [{**variants[shadow], "InitialVariantWeight": traffic.share / 100}]
    if place.capture:
        held["DataCaptureConfig"] = {
            "EnableCapture": True, "InitialSamplingPercentage": place.capture,
            "DestinationS3Uri": f"{place.storage.rstrip('/')}/captured/{endpoint_name(model)}",
            "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        }  # fmt: skip
    held = json.loads(json.dumps(held))
    return {"EndpointConfigName": config_name(model, held), **held}


def asked_weights(found: Mapping[str, Any], traffic: Traffic) -> dict[str, float]:
    """Return the weight that each production variant shall have, of 1 in all; the same as what the config says."""
    weights = dict.fromkeys(weights_of(found), 0.0)
    weights[variant_name(str(traffic.champion))] = 1 - traffic.exposed / 100
    if traffic.challenger is not None and traffic.kind != "shadow":
        weights[variant_name(traffic.challenger)] = traffic.exposed / 100
    return weights


def strayed(has: Mapping[str, float], asked: Mapping[str, float]) -> bool:
    """Whether a weight is another one than was asked for."""
    return any(abs(has[name] - weight) > WEIGHT_TOLERANCE for name, weight in asked.items())


def holds(found: Mapping[str, Any], traffic: Traffic, *, exactly: bool) -> bool:
    """Whether an endpoint has the variants of ``traffic``, so that weights are all that may differ.

    :param exactly: whether it has no others
    """
    has, shadowed = set(weights_of(found)), shadow_weights(found)
    wanted, shadows = wanted_variants(traffic, has)
    if {name: round(weight, 4) for name, weight in shadowed.items()} != shadows:
        return False
    return has == wanted if exactly else has >= wanted


def wanted_variants(traffic: Traffic, present: Collection[str]) -> tuple[set[str], dict[str, float]]:
    """Return the production variants of ``traffic``, and the shadow ones with their weights; see `needed`."""
    names = {variant_name(number) for number in needed(traffic, present)}
    if traffic.kind != "shadow" or traffic.challenger is None:
        return names, {}
    shadow = variant_name(traffic.challenger)
    return names - {shadow}, {shadow: round(traffic.share / 100, 4)}


def shadow_weights(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the weight of each shadow variant."""
    return {
        one["VariantName"]: float(one.get("CurrentWeight", 0.0)) for one in found.get("ShadowProductionVariants", [])
    }


def observed(found: Mapping[str, Any] | None, told: Told | None) -> Traffic:
    """Return what an endpoint serves by its variants and weights.

    Order, salt and what is kept warm come from what it was told; who answers which share does not. One that is still
    being created serves nobody.
    """
    if found is None or found["EndpointStatus"] == "Creating":
        return Traffic(0 if told is None else told.traffic.order, None)
    weights, shadows = weights_of(found), shadow_weights(found)
    total = sum(weights.values()) or 1.0
    shares = {number: 100 * weight / total for name, weight in weights.items() if (number := version_of(name))}
    said = told.traffic if told is not None else Traffic(0, None)
    champion = (
        said.champion if said.champion in shares else max(shares, key=lambda number: shares[number], default=None)
    )
    others = {
        number: share for number, share in shares.items() if number != champion and share > 100 * WEIGHT_TOLERANCE
    }
    standby = said.standby if said.standby in shares else None
    base = replace(said, champion=champion, challenger=None, kind="none", share=0.0, standby=standby)
    shadowed = {number: 100 * weight for name, weight in shadows.items() if (number := version_of(name))}
    if said.challenger is not None:
        return replace(base, challenger=said.challenger, kind=said.kind, share=share_of(said, shares, others, shadowed))
    if others:
        strange = max(others, key=lambda number: others[number])
        return replace(base, challenger=strange, kind="canary", share=others[strange])
    if shadowed:
        (strange, share), *_ = shadowed.items()
        return replace(base, challenger=strange, kind="shadow", share=share)
    return base


def share_of(
    said: Traffic, shares: Mapping[str, float], others: Mapping[str, float], shadowed: Mapping[str, float]
) -> float:
    """Return the share that the challenger has in the kind that was told; 0 where it is not there as such."""
    challenger = str(said.challenger)
    if said.kind == "shadow":
        share = shadowed.get(challenger, 0.0)
    elif said.kind == "standby":
        share = said.share if challenger in shares and not others else others.get(challenger, 0.0)
    else:
        share = others.get(challenger, 0.0)
    return said.share if abs(share - said.share) <= 100 * WEIGHT_TOLERANCE else share
