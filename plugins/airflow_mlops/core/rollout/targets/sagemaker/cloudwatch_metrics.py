"""Telemetry of the variants of an endpoint from CloudWatch.

CloudWatch counts requests per minute over all callers: there are no units, and the minute in which the traffic changed
is left out. Latency bins come from the statistic TC ("trimmed count").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any

import numpy as np

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, VersionTelemetry

COUNTED = {"requests": "Invocations", "client": "Invocation4XXErrors", "server": "Invocation5XXErrors"}
EDGES = ("0", *(f"{edge * 1e6:.2f}".removesuffix(".00") for edge in LATENCY_EDGES), "1000000000")
"""Edges of the latency bins in microseconds, as text; SageMaker gives up long before the last."""
QUERIES_PER_CALL = 500
MINUTE, DAY = 60, 86_400


def period_of(seconds: float) -> int:
    """Return the period of the queries in seconds: CloudWatch drops short periods with age, and limits its answers."""
    return MINUTE if seconds <= DAY / 4 else 5 * MINUTE if seconds <= 14 * DAY else 60 * MINUTE


def response_time(answer: Mapping[str, Any]) -> float:
    """Return the time of an answer by AWS's own clock, in seconds since 1970."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()


def variant_telemetry(
    client: Any, endpoint: str, variants: Sequence[str], *, since: float, until: float
) -> dict[str, VersionTelemetry]:
    """Return the telemetry of each variant, from the first full period after ``since``.

    A request counts as an error if the container answers 4xx or 5xx.

    :param client: boto3's client of CloudWatch
    :param since: in seconds since 1970, as ``until``
    """
    period = period_of(until - since)
    start = math.ceil(since / period) * period
    if start >= until:
        return {variant: VersionTelemetry() for variant in variants}
    queries = {
        f"v{number}_{name}": build_query(endpoint, variant, metric, stat, period)
        for number, variant in enumerate(variants)
        for name, (metric, stat) in metric_statistics().items()
    }
    sums = fetch_sums(client, queries, start, until)
    return {variant: to_telemetry(sums, f"v{number}_") for number, variant in enumerate(variants)}


def metric_statistics() -> dict[str, tuple[str, str]]:
    """Return the metric and the statistic of each query about a variant, by the name of the query."""
    bins = {f"bin{number}": ("ModelLatency", f"TC({low}:{high})") for number, (low, high) in enumerate(pairwise(EDGES))}
    counts = {name: (metric, "Sum") for name, metric in COUNTED.items()}
    return {**counts, **bins}


def build_query(endpoint: str, variant: str, metric: str, stat: str, period: int) -> dict[str, Any]:
    """Return a query of ``GetMetricData`` without its id."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    metric_id = {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions}
    return {"MetricStat": {"Metric": metric_id, "Period": period, "Stat": stat}}


def fetch_sums(client: Any, queries: Mapping[str, Mapping[str, Any]], start: float, until: float) -> dict[str, float]:
    """Return the sum over time of each query."""
    listed_queries = [{"Id": name, **query} for name, query in queries.items()]
    sums = dict.fromkeys(queries, 0.0)
    for first in range(0, len(listed_queries), QUERIES_PER_CALL):
        pages = client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=listed_queries[first : first + QUERIES_PER_CALL],
            StartTime=datetime.fromtimestamp(start, UTC),
            EndTime=datetime.fromtimestamp(until, UTC),
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                sums[result["Id"]] += sum(result["Values"])
    return sums


def to_telemetry(sums: Mapping[str, float], prefix: str) -> VersionTelemetry:
    """Return the telemetry of a version from the sums with a prefix."""
    latency = np.array([round(sums[f"{prefix}bin{number}"]) for number in range(len(EDGES) - 1)], np.int64)
    requests = round(sums[f"{prefix}requests"])
    errors = round(sums[f"{prefix}client"] + sums[f"{prefix}server"])
    # The three metrics arrive separately: the newest minute of one may be there before that of another.
    return VersionTelemetry(requests=requests, errors=min(errors, requests), latency=latency)


def active_alarms(client: Any, names: Sequence[str]) -> str | None:
    """Return a message with the alarms that are in ALARM and their reasons; None if there are none."""
    if not names:
        return None
    answer = client.describe_alarms(AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    messages = [
        f"CloudWatch alarm {alarm['AlarmName']!r} is in ALARM: {alarm.get('StateReason', '')}"
        for alarm in (*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", []))
        if alarm["StateValue"] == "ALARM"
    ]
    return "; ".join(messages) or None
