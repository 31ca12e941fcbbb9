"""Add up the telemetry of the replicas of a gateway: counts by unit, latencies by bin, samples thinned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, Floats, Telemetry, UnitSums, VersionTelemetry
from airflow_mlops.core.rollout.sticky_share import BUCKETS

SAMPLE = 5_000
"""Size of the samples of predictions and pairs over all replicas."""


def distinct_replicas(urls: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return one answer of each replica: one that has several addresses is counted once.

    Parameters
    ----------
    urls : sequence of str
        Address of each answer.
    answers : sequence of mapping
        ``replica`` is the id in its state folder, ``process`` that of the running process.

    Raises
    ------
    RolloutError
        If two processes have one id.
    """
    distinct: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for url, answer in zip(urls, answers, strict=True):
        first_url, first = distinct.setdefault(str(answer.get("replica", url)), (url, answer))
        if first.get("process") != answer.get("process"):
            raise RolloutError(
                f"the gateways at {first_url} and {url} have the same id {answer['replica']!r}, so their counts are "
                "not told apart: give each a state folder of its own, and copy none"
            )
    return [answer for _url, answer in distinct.values()]


def add_telemetry(answers: Sequence[Mapping[str, Any]]) -> Telemetry:
    """Return the sum of the telemetry of replicas that serve the same traffic."""
    return Telemetry(
        order=int(answers[0]["order"]),
        seconds=min(float(answer["seconds"]) for answer in answers),
        champion=add_version([answer["champion"] for answer in answers]),
        challenger=add_version([answer["challenger"] for answer in answers]),
        paired=thin_samples([answer["paired"] for answer in answers], empty=(0, 2)),
        tripped=next((str(answer["tripped"]) for answer in answers if answer["tripped"]), None),
    )


def add_version(answers: Sequence[Mapping[str, Any]]) -> VersionTelemetry:
    """Return the sum of the telemetry of one version."""
    requests, errors = np.zeros(BUCKETS), np.zeros(BUCKETS)
    latency = np.zeros(len(LATENCY_EDGES) + 1, np.int64)
    for answer in answers:
        units = np.asarray(answer["units"], np.int64)
        requests[units] += answer["unit_requests"]
        errors[units] += answer["unit_errors"]
        latency += np.asarray(answer["latency"], np.int64)
    units_seen = np.flatnonzero(requests)
    return VersionTelemetry(
        requests=sum(int(answer["requests"]) for answer in answers),
        errors=sum(int(answer["errors"]) for answer in answers),
        errors_by_unit=UnitSums(errors[units_seen], requests[units_seen]),
        latency=latency,
        predictions=thin_samples([answer["predictions"] for answer in answers], empty=(0,)),
    )


def thin_samples(samples: Sequence[list[Any]], *, empty: tuple[int, ...]) -> Floats:
    """Return the concatenated samples, of at most SAMPLE items, thinned evenly if there are more.

    Parameters
    ----------
    empty : tuple of int
        Shape without an item.
    """
    parts = [np.asarray(sample, np.float64) for sample in samples if sample]
    joined: Floats = np.concatenate(parts) if parts else np.zeros(empty)
    if len(joined) <= SAMPLE:
        return joined
    thinned: Floats = joined[np.linspace(0, len(joined) - 1, SAMPLE).round().astype(int)]
    return thinned
