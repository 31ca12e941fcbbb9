"""Convert traffic to variants of an endpoint and back; pure functions without any call.

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
    from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import EndpointSettings
    from airflow_mlops.core.rollout.targets.sagemaker.traffic_tags import AppliedTraffic


def versions_needed(traffic: Traffic, present: Collection[str]) -> list[str]:
    """Return the versions that traffic needs on the endpoint, the champion first.

    A standby stays if it is there, and is never added, since nothing should wait for it. Beside a shadow SageMaker
    allows a single variant, so there is no place for a standby.

    :param present: names of the variants that the endpoint has
    """
    warm = traffic.standby if traffic.standby is not None and variant_name(traffic.standby) in present else None
    numbers = [traffic.champion, traffic.challenger, None if traffic.kind == "shadow" else warm]
    return list(dict.fromkeys(number for number in numbers if number is not None))


def variants_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the variants of an endpoint configuration, shadow variants included."""
    return [*config.get("ProductionVariants", []), *config.get("ShadowProductionVariants", [])]


def build_config(
    model: str, variants: Mapping[str, Mapping[str, Any]], traffic: Traffic, settings: EndpointSettings
) -> dict[str, Any]:
    """Return an endpoint configuration, named by its digest.

    :param variants: the variant of each version, without its weight
    """
    shadow = traffic.challenger if traffic.kind == "shadow" else None
    production = [
        {**variant, "InitialVariantWeight": 1.0 if number == traffic.champion else 0.0}
        for number, variant in variants.items()
        if number != shadow
    ]
    content: dict[str, Any] = {"ProductionVariants": production}
    if shadow is not None:
        content["ShadowProductionVariants"] = [{**variants[shadow], "InitialVariantWeight": traffic.share / 100}]
    if settings.capture:
        content["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": settings.capture,
            "DestinationS3Uri": f"{settings.storage.rstrip('/')}/captured/{endpoint_name(model)}",
            "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        }
    content = json.loads(json.dumps(content))
    return {"EndpointConfigName": config_name(model, content), **content}


def target_weights(description: Mapping[str, Any], traffic: Traffic) -> dict[str, float]:
    """Return the weight of each production variant under traffic; the weights add up to 1."""
    weights = dict.fromkeys(weights_of(description), 0.0)
    weights[variant_name(str(traffic.champion))] = 1 - traffic.exposed / 100
    if traffic.challenger is not None and traffic.kind != "shadow":
        weights[variant_name(traffic.challenger)] = traffic.exposed / 100
    return weights


def weights_differ(actual: Mapping[str, float], expected: Mapping[str, float]) -> bool:
    """Return whether a weight differs from the expected one."""
    return any(abs(actual[name] - weight) > WEIGHT_TOLERANCE for name, weight in expected.items())


def has_variants(description: Mapping[str, Any], traffic: Traffic, *, exactly: bool) -> bool:
    """Return whether an endpoint has the variants of ``traffic``; only weights may then differ.

    :param exactly: whether it must have no others
    """
    present, shadow_weight_of = set(weights_of(description)), shadow_weights(description)
    production, expected_shadows = target_variants(traffic, present)
    if {name: round(weight, 4) for name, weight in shadow_weight_of.items()} != expected_shadows:
        return False
    return present == production if exactly else present >= production


def target_variants(traffic: Traffic, present: Collection[str]) -> tuple[set[str], dict[str, float]]:
    """Return the production variants of ``traffic``, and its shadow variants with their weights."""
    names = {variant_name(number) for number in versions_needed(traffic, present)}
    if traffic.kind != "shadow" or traffic.challenger is None:
        return names, {}
    shadow = variant_name(traffic.challenger)
    return names - {shadow}, {shadow: round(traffic.share / 100, 4)}


def shadow_weights(description: Mapping[str, Any]) -> dict[str, float]:
    """Return the weight of each shadow variant."""
    return {
        variant["VariantName"]: float(variant.get("CurrentWeight", 0.0))
        for variant in description.get("ShadowProductionVariants", [])
    }


def observed_traffic(description: Mapping[str, Any] | None, applied: AppliedTraffic | None) -> Traffic:
    """Return the traffic that an endpoint serves, by its variants and weights.

    Order, salt and standby come from the tags; versions and shares do not. An endpoint that is still being created
    serves nothing.
    """
    if description is None or description["EndpointStatus"] == "Creating":
        return Traffic(0 if applied is None else applied.traffic.order, None)
    weights, shadows = weights_of(description), shadow_weights(description)
    total = sum(weights.values()) or 1.0
    shares = {number: 100 * weight / total for name, weight in weights.items() if (number := version_of(name))}
    requested = applied.traffic if applied is not None else Traffic(0, None)
    champion = (
        requested.champion
        if requested.champion in shares
        else max(shares, key=lambda number: shares[number], default=None)
    )
    others = {
        number: share for number, share in shares.items() if number != champion and share > 100 * WEIGHT_TOLERANCE
    }
    standby = requested.standby if requested.standby in shares else None
    base = replace(requested, champion=champion, challenger=None, kind="none", share=0.0, standby=standby)
    shadow_shares = {number: 100 * weight for name, weight in shadows.items() if (number := version_of(name))}
    if requested.challenger is not None:
        return replace(
            base,
            challenger=requested.challenger,
            kind=requested.kind,
            share=observed_share(requested, shares, others, shadow_shares),
        )
    if others:
        number = max(others, key=lambda number: others[number])
        return replace(base, challenger=number, kind="canary", share=others[number])
    if shadow_shares:
        (number, share), *_ = shadow_shares.items()
        return replace(base, challenger=number, kind="shadow", share=share)
    return base


def observed_share(
    requested: Traffic, shares: Mapping[str, float], others: Mapping[str, float], shadow_shares: Mapping[str, float]
) -> float:
    """Return the share of the challenger in the requested kind of traffic; 0 if it is not there in that kind."""
    challenger = str(requested.challenger)
    if requested.kind == "shadow":
        share = shadow_shares.get(challenger, 0.0)
    elif requested.kind == "standby":
        share = requested.share if challenger in shares and not others else others.get(challenger, 0.0)
    else:
        share = others.get(challenger, 0.0)
    return requested.share if abs(share - requested.share) <= 100 * WEIGHT_TOLERANCE else share
