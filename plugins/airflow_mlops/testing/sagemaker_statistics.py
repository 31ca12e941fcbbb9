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
    functions: dict[str, Callable[[list[float]], Any]] = {
        "Sum": sum,
        "SampleCount": len,
        "Average": np.mean,
        "Minimum": min,
        "Maximum": max,
    }
    return float(functions[stat](values))


METRICS: dict[str, Callable[[Invocation], float]] = {
    "Invocations": lambda _invocation: 1.0,
    "Invocation4XXErrors": lambda invocation: float(400 <= invocation.status < 500),
    "Invocation5XXErrors": lambda invocation: float(invocation.status >= 500),
    "ModelLatency": lambda invocation: invocation.seconds * 1e6,
}


def metric_data(
    invocations: list[Invocation], query: dict[str, Any], start: float, end: float
) -> tuple[list[float], list[float]]:
    """Return the start and the statistic of each period with data, for one query of ``GetMetricData``."""
    metric_stat = query["MetricStat"]
    where = {dimension["Name"]: dimension["Value"] for dimension in metric_stat["Metric"]["Dimensions"]}
    value, period = METRICS[metric_stat["Metric"]["MetricName"]], int(metric_stat["Period"])
    by_period: dict[float, list[float]] = {}
    for invocation in invocations:
        if (invocation.endpoint, invocation.variant) == (
            where["EndpointName"],
            where["VariantName"],
        ) and start <= invocation.at < end:
            by_period.setdefault(invocation.at // period * period, []).append(value(invocation))
    return list(by_period), [statistic(metric_stat["Stat"], values) for values in by_period.values()]


def patch_moto_statistics(double: EndpointsDouble) -> None:
    """Patch moto's CloudWatch to compute statistics of ``AWS/SageMaker`` from the invocations of a double."""
    from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends

    original = CloudWatchBackend.get_metric_data

    def get_metric_data(self: Any, queries: Any, start_time: Any, end_time: Any, **more: Any) -> Any:
        counted = [
            query
            for query in queries
            if query.get("MetricStat", {}).get("Metric", {}).get("Namespace") == "AWS/SageMaker"
        ]
        others = [query for query in queries if query not in counted]
        results = original(self, others, start_time, end_time, **more) if others else []
        for query in counted:
            times, values = metric_data(double.invocations, query, start_time.timestamp(), end_time.timestamp())
            stamps = [datetime.fromtimestamp(at, UTC).replace(tzinfo=None) for at in times]
            results.append(
                {
                    "id": query["Id"],
                    "label": query["Id"],
                    "values": values,
                    "timestamps": stamps,
                    "status_code": "Complete",
                }
            )
        return results

    setattr(CloudWatchBackend, "get_metric_data", get_metric_data)  # noqa: B010 - mypy takes no assignment here

    def ringing(names: list[str]) -> list[str]:
        backend = cloudwatch_backends["123456789012"]["us-east-1"]
        return [alarm.name for alarm in backend.alarms.values() if alarm.name in names and alarm.state_value == "ALARM"]

    double.ringing = ringing
