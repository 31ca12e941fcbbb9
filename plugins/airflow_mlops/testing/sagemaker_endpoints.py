"""A local double of SageMaker endpoints: the calls that moto lacks, with state that tests can read and change.

Imitated, from the API reference of SageMaker and the developer guide on deployment guardrails and shadow variants:

* ``UpdateEndpoint`` and ``UpdateEndpointWeightsAndCapacities`` take time, during which the endpoint is ``Updating`` and
  refuses other changes; then the desired values are the current ones, and the endpoint is ``InService``;
* a deployment that is rolled back, because an alarm of ``AutoRollbackConfiguration`` is in ALARM or a test says so,
  ends ``InService`` with the configuration from before and a ``FailureReason``;
* ``DeploymentConfig`` needs the same variant names before and after, a rolling one a single variant;
* ``ShadowProductionVariants`` are kept, at most one beside one production variant, and see copies of requests;
* names are unique, and what is not there cannot be served;
* ``InvokeEndpoint`` chooses a variant by the weights, or takes ``TargetVariant``, and each invocation is counted as
  CloudWatch counts it, by variant.

A predictor is canned: by what the name of its SageMaker model contains, a status, a latency and a body.
`airflow_mlops.testing.sagemaker_server` puts this in front of moto, in a process of its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
NAMED = {"Model": "ModelName", "EndpointConfig": "EndpointConfigName", "Endpoint": "EndpointName"}
PROPERTIES = {"DesiredInstanceCount": "InstanceCount", "DesiredWeight": "Weight"}


class RefusedCallError(Exception):
    """A call that is answered with an error: code and message."""


def validation_error(message: str) -> RefusedCallError:
    """Return a ValidationException, SageMaker's usual error."""
    return RefusedCallError("ValidationException", message)


@dataclass
class Invocation:
    """A request to a variant, with its time by the clock of the double."""

    endpoint: str
    variant: str
    at: float
    status: int
    seconds: float


@dataclass
class EndpointsDouble:
    """Models, endpoint configurations and endpoints of one account and region.

    :param change_seconds: duration of a change of an endpoint
    :param ringing: returns those of the given CloudWatch alarms that are in ALARM
    """

    change_seconds: float = 0.0
    ringing: Callable[[list[str]], list[str]] = lambda _names: []
    things: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in NAMED})
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    invocations: list[Invocation] = field(default_factory=list)
    predictors: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ahead: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    def now(self) -> float:
        """Return the time of the double, in seconds since 1970."""
        return time.time() + self.ahead

    def answer(self, call: str, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a call of SageMaker's API; None for a call that is not imitated.

        :raises RefusedCallError: as SageMaker refuses it
        """
        with self.lock:
            for name in list(self.things["Endpoint"]):
                self._finish(name)
            verb, kind = next(
                (
                    (verb, kind)
                    for verb in ("Create", "Describe", "Delete", "List")
                    for kind in NAMED
                    if call in (f"{verb}{kind}", f"{verb}{kind}s")
                ),
                ("", ""),
            )
            handler = getattr(self, f"_{call}", None)
            if handler is None and not verb:
                return None
            self.calls.append((call, request))
            return dict(handler(request)) if handler else dict(getattr(self, f"_{verb.lower()}")(kind, request))

    # --- models, configurations, endpoints: by their names ----------------------------------------------------------

    def _create(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name = request[NAMED[kind]]
        if name in self.things[kind]:
            raise validation_error(f'Cannot create already existing {kind.lower()} "{arn(kind, name)}".')
        if kind == "EndpointConfig":
            self._require_config(request)
        resource = {**request, f"{kind}Arn": arn(kind, name), "CreationTime": self.now()}
        self.tags[arn(kind, name)] = {tag["Key"]: tag["Value"] for tag in resource.pop("Tags", [])}
        if kind == "Endpoint":
            config = self._get("EndpointConfig", request["EndpointConfigName"])
            resource |= {**summaries(config, {}), "EndpointStatus": "Creating", "LastModifiedTime": self.now()}
            resource["pending"] = {"at": self.now() + self.change_seconds}
        self.things[kind][name] = resource
        return {f"{kind}Arn": arn(kind, name)}

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        if name not in self.things[kind]:
            raise validation_error(f'Could not find {kind.lower()} "{arn(kind, name)}".')
        return self.things[kind][name]

    def _describe(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        resource = self._get(kind, request[NAMED[kind]])
        config = resource.get("pending", {}).get("change", {}).get("EndpointConfigName")
        pending = {"PendingDeploymentSummary": {"EndpointConfigName": config}} if config else {}
        return {**{name: value for name, value in resource.items() if name != "pending"}, **pending}

    def _delete(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        self._get(kind, request[NAMED[kind]])
        del self.things[kind][request[NAMED[kind]]]
        return {}

    def _list(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        part, keys = request.get("NameContains", ""), (NAMED[kind], f"{kind}Arn", "CreationTime")
        entries = [{key: resource[key] for key in keys} for name, resource in self.things[kind].items() if part in name]
        return {f"{kind}s": entries}

    def _require_config(self, request: dict[str, Any]) -> None:
        production, shadow = request["ProductionVariants"], request.get("ShadowProductionVariants", [])
        if shadow and (len(production), len(shadow)) != (1, 1):
            raise validation_error("Only one production variant and one shadow production variant can be specified.")
        for variant in (*production, *shadow):
            self._get("Model", variant["ModelName"])

    # --- tags -------------------------------------------------------------------------------------------------------

    def _AddTags(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        tags = self._tags(request)
        tags |= {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        return {"Tags": tag_list(tags)}

    def _ListTags(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"Tags": tag_list(self._tags(request))}

    def _DeleteTags(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        for key in request["TagKeys"]:
            self._tags(request).pop(key, None)
        return {}

    def _tags(self, request: dict[str, Any]) -> dict[str, str]:
        return self.tags.setdefault(request["ResourceArn"], {})

    # --- changes of an endpoint -------------------------------------------------------------------------------------

    def _UpdateEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        endpoint = self._changeable(request["EndpointName"])
        config = self._get("EndpointConfig", request["EndpointConfigName"])
        deployment = request.get("DeploymentConfig", {})
        names = {variant["VariantName"] for variant in endpoint["ProductionVariants"]}
        if deployment and names != {variant["VariantName"] for variant in config["ProductionVariants"]}:
            raise validation_error(
                "DeploymentConfig requires the same variant names in the old and the new configuration."
            )
        if "RollingUpdatePolicy" in deployment and len(names) > 1:
            raise validation_error("RollingUpdatePolicy is not supported for endpoints with multiple variants.")
        retained_properties = [
            PROPERTIES[name]
            for name in PROPERTIES
            if request.get("RetainAllVariantProperties")
            and name
            not in {variant["VariantPropertyType"] for variant in request.get("ExcludeRetainedVariantProperties", [])}
        ]
        alarms = [alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
        before = {variant["VariantName"]: variant for variant in endpoint["ProductionVariants"]}
        retained = {
            name: {
                f"Current{property_name}": variant[f"Current{property_name}"] for property_name in retained_properties
            }
            for name, variant in before.items()
        }
        change = {"EndpointConfigName": config["EndpointConfigName"], **summaries(config, retained)}
        change.setdefault("ShadowProductionVariants", None)
        self._begin(endpoint, {**change, "LastDeploymentConfig": deployment or None}, alarms)
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _UpdateEndpointWeightsAndCapacities(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        endpoint = self._changeable(request["EndpointName"])
        desired = {variant["VariantName"]: variant for variant in request["DesiredWeightsAndCapacities"]}
        unknown = desired.keys() - {variant["VariantName"] for variant in endpoint["ProductionVariants"]}
        if unknown:
            raise validation_error(
                f"The variant name(s) {sorted(unknown)} is/are not present within endpoint configuration."
            )
        variants = [
            {**variant, **desired.get(variant["VariantName"], {})} for variant in endpoint["ProductionVariants"]
        ]
        endpoint["ProductionVariants"] = variants
        applied = [
            {
                **variant,
                **{
                    f"Current{property_name}": variant[f"Desired{property_name}"]
                    for property_name in PROPERTIES.values()
                },
            }
            for variant in variants
        ]
        self._begin(endpoint, {"ProductionVariants": applied}, [])
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _changeable(self, name: str) -> dict[str, Any]:
        endpoint = self._get("Endpoint", name)
        if endpoint["EndpointStatus"] != "InService":
            raise validation_error(f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        return endpoint

    def _begin(self, endpoint: dict[str, Any], change: dict[str, Any], alarms: list[str]) -> None:
        endpoint["EndpointStatus"] = "Updating"
        endpoint["pending"] = {"at": self.now() + self.change_seconds, "change": change, "alarms": alarms}

    def _finish(self, name: str) -> None:
        """Complete a change whose time has come, or roll it back."""
        endpoint = self.things["Endpoint"][name]
        pending = endpoint.get("pending")
        if pending is None or self.now() < pending["at"]:
            return
        del endpoint["pending"]
        ringing = self.ringing(pending["alarms"]) if pending.get("alarms") else []
        reason = (
            f"Alarm(s) {ringing} went off; rolled back." if ringing else self.failures.pop(0) if self.failures else ""
        )
        if reason and "change" not in pending:
            endpoint |= {"EndpointStatus": "Failed", "FailureReason": reason}
            return
        endpoint |= {"EndpointStatus": "InService", "LastModifiedTime": self.now()}
        endpoint.pop("FailureReason", None)
        if reason:
            endpoint["FailureReason"] = reason
            for variant in endpoint["ProductionVariants"]:
                variant |= {
                    f"Desired{property_name}": variant[f"Current{property_name}"]
                    for property_name in PROPERTIES.values()
                }
            return
        endpoint |= pending.get("change", {})
        for key in [key for key, value in endpoint.items() if value is None]:
            del endpoint[key]

    # --- requests ---------------------------------------------------------------------------------------------------

    def invoke(self, name: str, target: str | None) -> tuple[int, str, str]:
        """Return status, body and variant of a request; a shadow variant gets a copy, by the ratio of the weights.

        :raises RefusedCallError: if there is no such endpoint or variant
        """
        with self.lock:
            endpoint = self._get("Endpoint", name)
            self._finish(name)
            weights = {variant["VariantName"]: variant["CurrentWeight"] for variant in endpoint["ProductionVariants"]}
            if target is not None and target not in weights:
                raise validation_error(f"Variant {target} not found for endpoint {name}.")
            chosen = target or self._random.choices([*weights], [*weights.values()])[0]
            for shadow in endpoint.get("ShadowProductionVariants", []):
                if self._random.random() < shadow["CurrentWeight"] / max(weights.values()):
                    self._predict(endpoint, shadow["VariantName"])
            status, body = self._predict(endpoint, chosen)
            return status, body, chosen

    def _predict(self, endpoint: dict[str, Any], variant: str) -> tuple[int, str]:
        config = self._get("EndpointConfig", endpoint["EndpointConfigName"])
        variants = [*config["ProductionVariants"], *config.get("ShadowProductionVariants", [])]
        model = next(
            variant_config["ModelName"] for variant_config in variants if variant_config["VariantName"] == variant
        )
        predictor: dict[str, Any] = next(
            (variant_config for variant_config in reversed(self.predictors) if variant_config["model"] in model), {}
        )
        status = int(predictor.get("status", 200)) if self._random.random() < predictor.get("share", 1.0) else 200
        invocation = Invocation(
            endpoint["EndpointName"], variant, self.now(), status, float(predictor.get("seconds", 0.005))
        )
        self.invocations.append(invocation)
        return status, str(predictor.get("body", '{"predictions": [1.0]}'))


def arn(kind: str, name: str) -> str:
    """Return the ARN of a model, configuration or endpoint."""
    return f"{ARN}:{ {'Model': 'model', 'EndpointConfig': 'endpoint-config', 'Endpoint': 'endpoint'}[kind] }/{name}"


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Return tags in the form of the API."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def summaries(config: dict[str, Any], retained: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the variants of a configuration as an endpoint describes them, with the retained properties."""
    described: dict[str, Any] = {}
    for kind in ("ProductionVariants", "ShadowProductionVariants"):
        if kind in config:
            described[kind] = []
            for variant in config[kind]:
                name, weight, count = (
                    variant["VariantName"],
                    variant.get("InitialVariantWeight", 1.0),
                    variant["InitialInstanceCount"],
                )
                current = {"CurrentWeight": weight, "CurrentInstanceCount": count, **retained.get(name, {})}
                desired = {f"Desired{key.removeprefix('Current')}": value for key, value in current.items()}
                described[kind].append({"VariantName": name, **current, **desired})
    return described
