"""What CloudWatch saw of the variants of an endpoint.

It counts requests by minute, of all callers together: so there are no units, and the minute in which the traffic
changed is left out. Of the latency it counts how many were in each bin, by the statistic TC ("trimmed count").
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
"""Edges of the latency bins in microseconds, as CloudWatch has them; SageMaker gives up long before the last."""
QUERIES_PER_CALL = 500
MINUTE, DAY = 60, 86_400


def period_of(seconds: float) -> int:
    """Return the seconds of the steps in which CloudWatch is asked: it forgets short ones, and limits its answers."""
    return MINUTE if seconds <= DAY / 4 else 5 * MINUTE if seconds <= 14 * DAY else 60 * MINUTE


def clock_of(answer: Mapping[str, Any]) -> float:
    """Return the time of an answer by AWS's own clock, in seconds since 1970."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()


def seen_of_variants(
    client: Any, endpoint: str, variants: Sequence[str], *, since: float, until: float
) -> dict[str, VersionTelemetry]:
    """Return what was seen of each variant, from the first full period after ``since``.

    A request counts as an error where the container answered with 4xx or 5xx.

    :param client: boto3's client of CloudWatch
    :param since: in seconds since 1970, as ``until``
    """
    period = period_of(until - since)
    start = math.ceil(since / period) * period
    if start >= until:
        return {variant: VersionTelemetry() for variant in variants}
    queries = {
        f"v{number}_{name}": query(endpoint, variant, metric, stat, period)
        for number, variant in enumerate(variants)
        for name, (metric, stat) in asked().items()
    }
    sums = sums_of(client, queries, start, until)
    return {variant: telemetry(sums, f"v{number}_") for number, variant in enumerate(variants)}


def asked() -> dict[str, tuple[str, str]]:
    """Return metric and statistic of everything that is asked about a variant, by a name."""
    bins = {f"bin{number}": ("ModelLatency", f"TC({low}:{high})") for number, (low, high) in enumerate(pairwise(EDGES))}
    counts = {name: (metric, "Sum") for name, metric in COUNTED.items()}
    return {**counts, **bins}


def query(endpoint: str, variant: str, metric: str, stat: str, period: int) -> dict[str, Any]:
    """Return one query of ``GetMetricData``, without its id."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    asked_for = {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions}
    return {"MetricStat": {"Metric": asked_for, "Period": period, "Stat": stat}}


def sums_of(client: Any, queries: Mapping[str, Mapping[str, Any]], start: float, until: float) -> dict[str, float]:
    """Return the sum over time of what each query gives."""
    listed = [{"Id": name, **one} for name, one in queries.items()]
    sums = dict.fromkeys(queries, 0.0)
    for first in range(0, len(listed), QUERIES_PER_CALL):
        pages = client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=listed[first : first + QUERIES_PER_CALL],
            StartTime=datetime.fromtimestamp(start, UTC),
            EndTime=datetime.fromtimestamp(until, UTC),
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                sums[result["Id"]] += sum(result["Values"])
    return sums


def telemetry(sums: Mapping[str, float], prefix: str) -> VersionTelemetry:
    """Return what the sums with a prefix say of a version."""
    latency = np.array([round(sums[f"{prefix}bin{number}"]) for number in range(len(EDGES) - 1)], np.int64)
    requests = round(sums[f"{prefix}requests"])
    errors = round(sums[f"{prefix}client"] + sums[f"{prefix}server"])
    # The three are counted apart, and the newest minute of one may be there before that of another.
    return VersionTelemetry(requests=requests, errors=min(errors, requests), latency=latency)


def alarms_in_words(client: Any, names: Sequence[str]) -> str | None:
    """Return which of these CloudWatch alarms are in ALARM, with CloudWatch's reason; None if none is."""
    if not names:
        return None
    found = client.describe_alarms(AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    said = [
        f"CloudWatch alarm {one['AlarmName']!r} is in ALARM: {one.get('StateReason', '')}"
        for one in (*found.get("MetricAlarms", []), *found.get("CompositeAlarms", []))
        if one["StateValue"] == "ALARM"
    ]
    return "; ".join(said) or None
