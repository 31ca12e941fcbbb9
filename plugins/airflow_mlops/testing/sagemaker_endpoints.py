"""SageMaker endpoints without SageMaker: what moto lacks of them, as a state that tests can look at and disturb.

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
    """A call is answered with an error: its code and its message."""


def refused(message: str) -> RefusedCallError:
    """Return the error that SageMaker answers most refusals with."""
    return RefusedCallError("ValidationException", message)


@dataclass
class Invocation:
    """A request that a variant was given, and when, by the clock of the double."""

    endpoint: str
    variant: str
    at: float
    status: int
    seconds: float


@dataclass
class EndpointsDouble:
    """Models, endpoint configurations and endpoints of one account and region.

    :param change_seconds: how long a change of an endpoint takes
    :param ringing: returns which of some CloudWatch alarms are in ALARM
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

    def answer(self, call: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a call of SageMaker's API; None if this is none that is imitated.

        :raises RefusedCallError: as SageMaker refuses it
        """
        with self.lock:
            for name in list(self.things["Endpoint"]):
                self._finish(name)
            verb, kind = next(
                ((verb, kind) for verb in ("Create", "Describe", "Delete", "List") for kind in NAMED
                 if call in (f"{verb}{kind}", f"{verb}{kind}s")),
                ("", ""),
            )  # fmt: skip
            handler = getattr(self, f"_{call}", None)
            if handler is None and not verb:
                return None
            self.calls.append((call, given))
            return dict(handler(given)) if handler else dict(getattr(self, f"_{verb.lower()}")(kind, given))

    # --- models, configurations, endpoints: by their names ----------------------------------------------------------

    def _create(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        name = given[NAMED[kind]]
        if name in self.things[kind]:
            raise refused(f'Cannot create already existing {kind.lower()} "{arn(kind, name)}".')
        if kind == "EndpointConfig":
            self._require_config(given)
        made = {**given, f"{kind}Arn": arn(kind, name), "CreationTime": self.now()}
        self.tags[arn(kind, name)] = {tag["Key"]: tag["Value"] for tag in made.pop("Tags", [])}
        if kind == "Endpoint":
            config = self._get("EndpointConfig", given["EndpointConfigName"])
            made |= {**summaries(config, {}), "EndpointStatus": "Creating", "LastModifiedTime": self.now()}
            made["pending"] = {"at": self.now() + self.change_seconds}
        self.things[kind][name] = made
        return {f"{kind}Arn": arn(kind, name)}

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        if name not in self.things[kind]:
            raise refused(f'Could not find {kind.lower()} "{arn(kind, name)}".')
        return self.things[kind][name]

    def _describe(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        found = self._get(kind, given[NAMED[kind]])
        config = found.get("pending", {}).get("change", {}).get("EndpointConfigName")
        under_way = {"PendingDeploymentSummary": {"EndpointConfigName": config}} if config else {}
        return {**{name: value for name, value in found.items() if name != "pending"}, **under_way}

    def _delete(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        self._get(kind, given[NAMED[kind]])
        del self.things[kind][given[NAMED[kind]]]
        return {}

    def _list(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        part, keys = given.get("NameContains", ""), (NAMED[kind], f"{kind}Arn", "CreationTime")
        found = [{key: one[key] for key in keys} for name, one in self.things[kind].items() if part in name]
        return {f"{kind}s": found}

    def _require_config(self, given: dict[str, Any]) -> None:
        production, shadow = given["ProductionVariants"], given.get("ShadowProductionVariants", [])
        if shadow and (len(production), len(shadow)) != (1, 1):
            raise refused("Only one production variant and one shadow production variant can be specified.")
        for variant in (*production, *shadow):
            self._get("Model", variant["ModelName"])

    # --- tags -------------------------------------------------------------------------------------------------------

    def _AddTags(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        held = self._tags(given)
        held |= {tag["Key"]: tag["Value"] for tag in given["Tags"]}
        return {"Tags": listed(held)}

    def _ListTags(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"Tags": listed(self._tags(given))}

    def _DeleteTags(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        for key in given["TagKeys"]:
            self._tags(given).pop(key, None)
        return {}

    def _tags(self, given: dict[str, Any]) -> dict[str, str]:
        return self.tags.setdefault(given["ResourceArn"], {})

    # --- changes of an endpoint -------------------------------------------------------------------------------------

    def _UpdateEndpoint(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        endpoint = self._changeable(given["EndpointName"])
        config = self._get("EndpointConfig", given["EndpointConfigName"])
        deployment = given.get("DeploymentConfig", {})
        names = {one["VariantName"] for one in endpoint["ProductionVariants"]}
        if deployment and names != {one["VariantName"] for one in config["ProductionVariants"]}:
            raise refused("DeploymentConfig requires the same variant names in the old and the new configuration.")
        if "RollingUpdatePolicy" in deployment and len(names) > 1:
            raise refused("RollingUpdatePolicy is not supported for endpoints with multiple variants.")
        kept = [PROPERTIES[name] for name in PROPERTIES if given.get("RetainAllVariantProperties") and name not in {
            one["VariantPropertyType"] for one in given.get("ExcludeRetainedVariantProperties", [])}]  # fmt: skip
        alarms = [one["AlarmName"] for one in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
        before = {one["VariantName"]: one for one in endpoint["ProductionVariants"]}
        retained = {name: {f"Current{each}": one[f"Current{each}"] for each in kept} for name, one in before.items()}
        change = {"EndpointConfigName": config["EndpointConfigName"], **summaries(config, retained)}
        change.setdefault("ShadowProductionVariants", None)
        self._begin(endpoint, {**change, "LastDeploymentConfig": deployment or None}, alarms)
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _UpdateEndpointWeightsAndCapacities(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        endpoint = self._changeable(given["EndpointName"])
        desired = {one["VariantName"]: one for one in given["DesiredWeightsAndCapacities"]}
        strange = desired.keys() - {one["VariantName"] for one in endpoint["ProductionVariants"]}
        if strange:
            raise refused(f"The variant name(s) {sorted(strange)} is/are not present within endpoint configuration.")
        changed = [{**one, **desired.get(one["VariantName"], {})} for one in endpoint["ProductionVariants"]]
        endpoint["ProductionVariants"] = changed
        done = [{**one, **{f"Current{each}": one[f"Desired{each}"] for each in PROPERTIES.values()}} for one in changed]
        self._begin(endpoint, {"ProductionVariants": done}, [])
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _changeable(self, name: str) -> dict[str, Any]:
        endpoint = self._get("Endpoint", name)
        if endpoint["EndpointStatus"] != "InService":
            raise refused(f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        return endpoint

    def _begin(self, endpoint: dict[str, Any], change: dict[str, Any], alarms: list[str]) -> None:
        endpoint["EndpointStatus"] = "Updating"
        endpoint["pending"] = {"at": self.now() + self.change_seconds, "change": change, "alarms": alarms}

    def _finish(self, name: str) -> None:
        """Let a change take effect whose time has come, or roll it back."""
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
            for one in endpoint["ProductionVariants"]:
                one |= {f"Desired{each}": one[f"Current{each}"] for each in PROPERTIES.values()}
            return
        endpoint |= pending.get("change", {})
        for gone in [key for key, value in endpoint.items() if value is None]:
            del endpoint[gone]

    # --- requests ---------------------------------------------------------------------------------------------------

    def invoke(self, name: str, target: str | None) -> tuple[int, str, str]:
        """Return status, body and variant of a request; its shadow sees a copy, by the ratio of the weights.

        :raises RefusedCallError: if there is no such endpoint or variant
        """
        with self.lock:
            endpoint = self._get("Endpoint", name)
            self._finish(name)
            weights = {one["VariantName"]: one["CurrentWeight"] for one in endpoint["ProductionVariants"]}
            if target is not None and target not in weights:
                raise refused(f"Variant {target} not found for endpoint {name}.")
            chosen = target or self._random.choices([*weights], [*weights.values()])[0]
            for shadow in endpoint.get("ShadowProductionVariants", []):
                if self._random.random() < shadow["CurrentWeight"] / max(weights.values()):
                    self._predicted(endpoint, shadow["VariantName"])
            status, body = self._predicted(endpoint, chosen)
            return status, body, chosen

    def _predicted(self, endpoint: dict[str, Any], variant: str) -> tuple[int, str]:
        config = self._get("EndpointConfig", endpoint["EndpointConfigName"])
        variants = [*config["ProductionVariants"], *config.get("ShadowProductionVariants", [])]
        model = next(one["ModelName"] for one in variants if one["VariantName"] == variant)
        canned: dict[str, Any] = next((one for one in reversed(self.predictors) if one["model"] in model), {})
        status = int(canned.get("status", 200)) if self._random.random() < canned.get("share", 1.0) else 200
        seen = Invocation(endpoint["EndpointName"], variant, self.now(), status, float(canned.get("seconds", 0.005)))
        self.invocations.append(seen)
        return status, str(canned.get("body", '{"predictions": [1.0]}'))


def arn(kind: str, name: str) -> str:
    """Return the ARN of a model, configuration or endpoint."""
    return f"{ARN}:{ {'Model': 'model', 'EndpointConfig': 'endpoint-config', 'Endpoint': 'endpoint'}[kind] }/{name}"


def listed(tags: dict[str, str]) -> list[dict[str, str]]:
    """Return tags as the API lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def summaries(config: dict[str, Any], retained: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the variants of a configuration as an endpoint describes them, with what is retained of each."""
    found: dict[str, Any] = {}
    for kind in ("ProductionVariants", "ShadowProductionVariants"):
        if kind in config:
            found[kind] = []
            for one in config[kind]:
                name, weight, count = (
                    one["VariantName"],
                    one.get("InitialVariantWeight", 1.0),
                    one["InitialInstanceCount"],
                )
                current = {"CurrentWeight": weight, "CurrentInstanceCount": count, **retained.get(name, {})}
                desired = {f"Desired{key.removeprefix('Current')}": value for key, value in current.items()}
                found[kind].append({"VariantName": name, **current, **desired})
    return found
