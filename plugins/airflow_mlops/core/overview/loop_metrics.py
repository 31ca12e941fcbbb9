"""Where each loop stands in numbers, for a monitoring system: names, meanings, and values from the ledger alone.

The names follow the conventions of Prometheus. A value that is not known gives no sample: a zero would be a claim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from airflow_mlops.core.ledger.data_details import LabelsArrived
from airflow_mlops.core.ledger.record_counts import RecordCounts
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.overview.model_summary import is_open_alarm, newest_judgements, waiting_version

PREFIX = "airflow_mlops"
GAUGE, COUNTER = "gauge", "counter"
DISTANCES = 20
"""Distances between the newest partitions that tell the usual one."""
LOOKED_BACK = 60
"""Partitions, or deliveries of labels, that are looked through for the newest labels."""


@dataclass(frozen=True)
class Metric:
    """A metric of the page; every one but those of the whole ledger has the label ``model`` first."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ("model",)


@dataclass(frozen=True)
class Sample:
    """A value of a metric, with the values of its labels in their order."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


CHECK = ("model", "check")
METRICS = tuple(
    Metric(f"{PREFIX}_{name}", *rest)
    for name, *rest in (
        ("up", GAUGE, "Whether the ledger could be read", ()),
        ("build_info", GAUGE, "Release of airflow-mlops that reads the ledger; always 1", ("version",)),
        ("projection_readable", GAUGE, "Whether the state of the model could be read from its ledger"),
        ("ledger_records", GAUGE, "Records in the ledger"),
        ("champion_info", GAUGE, "Version that serves; always 1", ("model", "version")),
        ("champion_age_seconds", GAUGE, "Seconds since the partition as of which the champion was promoted"),
        ("champion_trained_until_timestamp_seconds", GAUGE, "Newest partition that the champion was made from"),
        ("newest_published_timestamp_seconds", GAUGE, "Newest published partition"),
        ("newest_scored_timestamp_seconds", GAUGE, "Newest scored partition"),
        ("partition_interval_seconds", GAUGE, "Usual distance between published partitions, pauses included"),
        ("refused_partitions", GAUGE, "Partitions that are refused and were not published since"),
        ("quarantined_ratio", GAUGE, "Share of the rows of the newest published partition that are in quarantine"),
        ("label_delay_seconds", GAUGE, "Seconds from the newest partition with labels to the newest scored one"),
        ("performance_value", GAUGE, "Metric on the labels of the newest judged partition", ("model", "metric")),
        ("performance_reference", GAUGE, "Metric of the champion when it was registered", ("model", "metric")),
        ("newest_judged_timestamp_seconds", GAUGE, "Newest partition that a check judged", CHECK),
        ("alarm_open", GAUGE, "Whether a check alarms on the newest partition that it judged", CHECK),
        ("escalation_open", GAUGE, "Whether a person must look at the champion, since retraining does not help it"),
        ("approvals_open", GAUGE, "Versions that wait for their rollout, or for a person who lets it begin"),
        ("rollout_info", GAUGE, "Version that is rolled out and the kind of its step; 1", ("model", "version", "kind")),
        ("rollout_open", GAUGE, "Whether a rollout is under way"),
        ("rollout_paused", GAUGE, "Whether a person paused the rollout"),
        ("rollout_stage", GAUGE, "Step of the rollout, from 0; absent before the first"),
        ("rollout_share_ratio", GAUGE, "Share of the keys that the step gives to the challenger"),
        ("alarms_total", COUNTER, "Judgements that alarmed", CHECK),
        ("retrains_total", COUNTER, "Decisions to retrain"),
        ("promotions_total", COUNTER, "Versions that became the champion"),
        ("rollbacks_total", COUNTER, "Challengers and champions that were taken back"),
        ("refusals_total", COUNTER, "Partitions that were refused, each time counted"),
    )
)
"""Every metric, in the order of the page."""


def measure_loop(model: str, state: LoopState, counts: RecordCounts, now: float) -> Iterator[Sample]:
    """Yield the samples of a loop.

    It costs the same however long the history is: facts are asked for by their index, a few at a time.

    Parameters
    ----------
    model : str
        Name of the model.
    state : LoopState
        The state of its loop.
    counts : RecordCounts
        The counts of its records.
    now : float
        Seconds since the epoch.
    """
    values = {
        "projection_readable": 1.0,
        "ledger_records": float(counts.head.sequence),
        **_champion_values(state, now),
        **_partition_values(state),
        **_rollout_values(state),
        "retrains_total": counts.retrains,
        "promotions_total": counts.promotions,
        "rollbacks_total": counts.rollbacks,
        "refusals_total": counts.refusals,
    }
    for name, value in values.items():
        if value is not None:
            yield Sample(f"{PREFIX}_{name}", value, (model,))
    for name, labels, value in (*_named(state), *_judgements(state)):
        yield Sample(f"{PREFIX}_{name}", value, (model, *labels))
    for check, count in sorted(counts.alarms.items()):
        yield Sample(f"{PREFIX}_alarms_total", count, (model, check))


def unix_seconds(partition: str) -> float:
    """Return the instant of a partition's key in seconds since the epoch.

    >>> unix_seconds("2013-01-06T00:00:00")
    1357430400.0
    """
    return datetime.fromisoformat(partition).replace(tzinfo=UTC).timestamp()


def usual_interval(partitions: list[str]) -> float | None:
    """Return the seconds between partitions that are given in order; None for fewer than three.

    It is the second longest distance: nights and weekends without a partition are usual, and one outage is not.

    >>> usual_interval([f"2013-01-0{day}T00:00:00" for day in (1, 2, 3, 8, 9)]) / 3600
    24.0
    """
    distances = sorted(unix_seconds(later) - unix_seconds(earlier) for earlier, later in pairwise(partitions))
    return distances[-2] if len(distances) > 1 else None


def _champion_values(state: LoopState, now: float) -> dict[str, float | None]:
    champion = state.champion
    if champion is None:
        return {}
    pins = champion.details.trained_on.pins
    return {
        "champion_age_seconds": None if state.promoted_at is None else now - unix_seconds(state.promoted_at),
        "champion_trained_until_timestamp_seconds": (
            max(unix_seconds(pin.partition) for pin in pins) if pins else None
        ),
        "escalation_open": float(champion.number in state.escalations),
    }


def _partition_values(state: LoopState) -> dict[str, float | None]:
    published, scored = state.published.last(DISTANCES + 1), state.scored.newest()
    newest = state.published.get(published[-1]) if published else None
    rows = newest.rows + newest.quarantined if newest is not None else 0
    labelled = newest_labelled(state)
    return {
        "newest_published_timestamp_seconds": unix_seconds(published[-1]) if published else None,
        "newest_scored_timestamp_seconds": unix_seconds(scored) if scored else None,
        "partition_interval_seconds": usual_interval(published),
        "refused_partitions": float(len(state.refused)),
        "quarantined_ratio": newest.quarantined / rows if newest is not None and rows else None,
        "label_delay_seconds": (
            max(unix_seconds(scored) - unix_seconds(labelled), 0.0) if scored and labelled else None
        ),
    }


def newest_labelled(state: LoopState) -> str | None:
    """Return the newest partition that has labels; None where the newest records show none.

    Deliveries of labels tell it; without any, the newest partition whose performance was judged on rows with labels.
    """
    deliveries: list[LabelsArrived] = [details for _, details in state.labels.newest_first(limit=LOOKED_BACK)]
    touched = [partition for delivery in deliveries for partition in delivery.touches]
    if deliveries:
        return max(touched, default=None)
    judged = state.performance.newest_first(limit=LOOKED_BACK)
    return next((partition for partition, details in judged if details.rows), None)


def _rollout_values(state: LoopState) -> dict[str, float | None]:
    rollout = state.rollout
    values: dict[str, float | None] = {
        "approvals_open": float(waiting_version(state) is not None),
        "rollout_open": float(rollout is not None),
    }
    if rollout is not None:
        values["rollout_paused"] = float(rollout.paused is not None)
        values["rollout_stage"] = float(rollout.stage) if rollout.stage >= 0 else None
        values["rollout_share_ratio"] = rollout.share / 100
    return values


def _named(state: LoopState) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Yield name, further labels and value of what the name of a version or a metric stands on."""
    if state.champion is not None:
        yield "champion_info", (state.champion.number,), 1.0
    if state.rollout is not None:
        yield "rollout_info", (state.rollout.version.number, state.rollout.kind), 1.0
    newest = next(state.performance.newest_first(limit=1), None)
    if newest is None:
        return
    details = newest[1]
    for name, value in (("performance_value", details.value), ("performance_reference", details.reference)):
        if value is not None and details.metric:
            yield name, (details.metric,), value


def _judgements(state: LoopState) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Yield name, check and value of the newest judgement of each check."""
    for check, (partition, details) in newest_judgements(state).items():
        yield "newest_judged_timestamp_seconds", (check,), unix_seconds(partition)
        yield "alarm_open", (check,), float(is_open_alarm(state, partition, details))
