"""What replicas of a gateway saw, added up: counts unit by unit, latencies bin by bin, samples thinned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, Floats, Telemetry, UnitSums, VersionTelemetry
from airflow_mlops.core.rollout.sticky_share import BUCKETS

SAMPLE = 5_000
"""Predictions, and pairs of them, that are kept of all replicas together."""


def telemetry_of(said: Sequence[Mapping[str, Any]]) -> Telemetry:
    """Return the telemetry of replicas that serve the same traffic, from what each says of itself."""
    return Telemetry(
        order=int(said[0]["order"]),
        seconds=min(float(one["seconds"]) for one in said),
        champion=version_of([one["champion"] for one in said]),
        challenger=version_of([one["challenger"] for one in said]),
        paired=sampled([np.asarray(one["paired"], np.float64).reshape(-1, 2) for one in said]),
        tripped=next((str(one["tripped"]) for one in said if one["tripped"]), None),
    )


def version_of(said: Sequence[Mapping[str, Any]]) -> VersionTelemetry:
    """Return what replicas saw of one version."""
    requests, errors = np.zeros(BUCKETS), np.zeros(BUCKETS)
    latency = np.zeros(len(LATENCY_EDGES) + 1, np.int64)
    for one in said:
        units = np.asarray(one["units"], np.int64)
        requests[units] += one["unit_requests"]
        errors[units] += one["unit_errors"]
        latency += np.asarray(one["latency"], np.int64)
    seen = np.flatnonzero(requests)
    predictions = sampled([np.asarray(one["predictions"], np.float64)[:, None] for one in said])
    return VersionTelemetry(
        requests=sum(int(one["requests"]) for one in said),
        errors=sum(int(one["errors"]) for one in said),
        errors_by_unit=UnitSums(errors[seen], requests[seen]),
        latency=latency,
        predictions=predictions[:, 0],
    )


def sampled(samples: Sequence[Floats]) -> Floats:
    """Return samples one after another, shape (at most SAMPLE, n); of more, evenly many from all along."""
    whole: Floats = np.concatenate(samples)
    if len(whole) <= SAMPLE:
        return whole
    evenly: Floats = whole[np.linspace(0, len(whole) - 1, SAMPLE).round().astype(int)]
    return evenly
