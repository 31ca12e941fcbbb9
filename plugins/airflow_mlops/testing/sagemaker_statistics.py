"""CloudWatch's statistics of ``AWS/SageMaker``, counted from the invocations of a double; moto has no percentiles."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from airflow_mlops.testing.sagemaker_endpoints import EndpointsDouble, Invocation


def statistic(stat: str, values: list[float]) -> float:
    """Return a statistic of CloudWatch of the values of one period.

    >>> statistic("TC(100:200)", [100.0, 150.0, 200.0, 201.0]), statistic("p50", [1.0, 2.0, 3.0])
    (2.0, 2.0)
    """
    trimmed = re.fullmatch(r"TC\(([0-9.]+):([0-9.]+)\)", stat)
    if trimmed:
        return float(sum(float(trimmed[1]) < value <= float(trimmed[2]) for value in values))
    if re.fullmatch(r"p[0-9.]+", stat):
        return float(np.percentile(values, float(stat[1:])))
    whole: dict[str, Callable[[list[float]], Any]] = {
        "Sum": sum,
        "SampleCount": len,
        "Average": np.mean,
        "Minimum": min,
        "Maximum": max,
    }
    return float(whole[stat](values))


METRICS: dict[str, Callable[[Invocation], float]] = {
    "Invocations": lambda _one: 1.0,
    "Invocation4XXErrors": lambda one: float(400 <= one.status < 500),
    "Invocation5XXErrors": lambda one: float(one.status >= 500),
    "ModelLatency": lambda one: one.seconds * 1e6,
}


def metric_data(
    invocations: list[Invocation], query: dict[str, Any], start: float, end: float
) -> tuple[list[float], list[float]]:
    """Return the start of each period that holds data, and its statistic, for one query of ``GetMetricData``."""
    asked_for = query["MetricStat"]
    where = {one["Name"]: one["Value"] for one in asked_for["Metric"]["Dimensions"]}
    value, period = METRICS[asked_for["Metric"]["MetricName"]], int(asked_for["Period"])
    held: dict[float, list[float]] = {}
    for one in invocations:
        if (one.endpoint, one.variant) == (where["EndpointName"], where["VariantName"]) and start <= one.at < end:
            held.setdefault(one.at // period * period, []).append(value(one))
    return list(held), [statistic(asked_for["Stat"], values) for values in held.values()]


def let_moto_count(double: EndpointsDouble) -> None:
    """Let moto's CloudWatch answer about ``AWS/SageMaker`` from the invocations of a double."""
    from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends

    usual = CloudWatchBackend.get_metric_data

    def get_metric_data(self: Any, queries: Any, start_time: Any, end_time: Any, **more: Any) -> Any:
        ours = [
            one for one in queries if one.get("MetricStat", {}).get("Metric", {}).get("Namespace") == "AWS/SageMaker"
        ]
        others = [one for one in queries if one not in ours]
        results = usual(self, others, start_time, end_time, **more) if others else []
        for one in ours:
            times, values = metric_data(double.invocations, one, start_time.timestamp(), end_time.timestamp())
            stamps = [datetime.fromtimestamp(at, UTC).replace(tzinfo=None) for at in times]
            results.append(
                {"id": one["Id"], "label": one["Id"], "values": values, "timestamps": stamps, "status_code": "Complete"}
            )
        return results

    setattr(CloudWatchBackend, "get_metric_data", get_metric_data)  # noqa: B010 - mypy takes no assignment here

    def ringing(names: list[str]) -> list[str]:
        backend = cloudwatch_backends["123456789012"]["us-east-1"]
        return [one.name for one in backend.alarms.values() if one.name in names and one.state_value == "ALARM"]

    double.ringing = ringing
