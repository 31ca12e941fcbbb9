"""Ledgers whose loops are measured, written by hand, and the samples of their page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from airflow_mlops.core.ledger.kinds import read_details
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.sql_ledger import SqlLedger

Samples = dict[tuple[str, ...], float]
FIELDS: dict[str, dict[str, Any]] = {
    "snapshot_published": {"version": 1, "digest": "d", "rows": 90, "quarantined": 10},
    "predictions_published": {"champion": "1", "snapshot": "d"},
    "candidate_registered": {"version": "1", "request": "r"},
}
"""Details that a record of a kind needs, where a test names none."""


def append(ledger: SqlLedger, kind: str, partition: str | None, /, **details: Any) -> None:
    """Append a record to a ledger and bring its state up, as the next step of a loop does."""
    read = ledger.head().sequence
    values = {**FIELDS.get(kind, {}), **details}
    ledger.append(Draft(read_details(kind, values), f"op{read}", partition, "test"), read=read)
    ledger.state()


def hours_ago(hours: float) -> str:
    """Return the key of the partition that was closed so many hours ago."""
    moment = datetime.now(UTC) - timedelta(hours=hours)
    return moment.replace(microsecond=0, tzinfo=None).isoformat()


def publish_hourly(ledger: SqlLedger, *, newest: float) -> None:
    """Publish five partitions an hour apart, of which the newest was closed so many hours ago."""
    for number in range(4, -1, -1):
        append(ledger, "snapshot_published", hours_ago(newest + number), quarantined=0)


def promote(ledger: SqlLedger, partition: str, version: str = "1") -> None:
    """Register a version that was made from a partition, and promote it."""
    window = {"fitted": [{"partition": partition, "version": 1, "digest": "d"}], "holdout": []}
    append(ledger, "candidate_registered", partition, version=version, request=f"r{version}", window=window)
    append(ledger, "rollout_started", partition, version=version)
    append(ledger, "promoted", partition, version=version)


def make_ledger(folder: Path) -> Callable[[str], SqlLedger]:
    """Return a function that opens the ledger of a model in the embedded place of an Airflow home."""
    (folder / "mlops").mkdir(parents=True, exist_ok=True)
    return lambda model: SqlLedger(f"sqlite:///{folder / 'mlops' / 'ledger.db'}", model)


def samples_of(page: str) -> Samples:
    """Return the samples of a page by name and the values of their labels."""
    families = text_string_to_metric_families(page)
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }
