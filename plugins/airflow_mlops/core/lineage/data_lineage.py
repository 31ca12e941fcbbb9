"""The lineage of the stages of data: from which source into which version of which table of the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.lineage.dataset_names import lake_table
from airflow_mlops.core.lineage.declared_sources import SourceNames, source_datasets
from airflow_mlops.core.lineage.rule_results import SEVERITIES
from airflow_mlops.core.lineage.task_lineage import Assertion, Dataset, Datasets, PartitionVersion
from airflow_mlops.core.workspace import Workspace


def snapshot_lineage(workspace: Workspace, names: SourceNames, manifest: Mapping[str, Any] | None) -> Datasets:
    """Return the source of a snapshot and the tables that it was written to; only the source if it was refused."""
    source = workspace.loop.data.source
    if manifest is None:
        return Datasets(inputs=tuple(source_datasets(source, names)))
    pin = PartitionVersion(manifest["partition"], manifest["version"], manifest["digest"])
    outputs = [partition_dataset(workspace, "snapshots", pin, rows=manifest["rows"], columns=manifest["columns"])]
    if manifest["rejected"]:
        outputs.append(_quarantined(workspace, manifest["rejected_version"], manifest["rejected"]))
    return Datasets(tuple(source_datasets(source, names, manifest["origin"])), tuple(outputs))


def validation_lineage(
    workspace: Workspace, manifest: Mapping[str, Any], validated: Mapping[str, Any] | None
) -> Datasets:
    """Return the validated snapshot with the result of each rule, and what was written where rows were bad."""
    arrived = PartitionVersion(manifest["partition"], manifest["version"], manifest["digest"])
    columns = manifest["columns"]
    report = workspace.evidence.get(validated["report"]) if validated else {}
    subject = partition_dataset(
        workspace, "snapshots", arrived, rows=manifest["rows"], columns=columns, assertions=assertions_of(report)
    )
    if validated is None or validated["version"] == arrived.version:
        return Datasets(inputs=(subject,))
    good = PartitionVersion(validated["partition"], validated["version"], validated["digest"])
    outputs = (
        partition_dataset(workspace, "snapshots", good, rows=validated["rows"], columns=columns),
        _quarantined(workspace, validated["quarantine_version"], validated["quarantined"]),
    )
    return Datasets((subject,), outputs)


def publication_lineage(workspace: Workspace, names: SourceNames, partition: str) -> Datasets:
    """Return the source of the publication of a partition, and the snapshot that is published."""
    published = workspace.state().published.get(partition)
    if published is None:
        return Datasets(inputs=tuple(source_datasets(workspace.loop.data.source, names)))
    inputs = source_datasets(workspace.loop.data.source, names, published.origin)
    return Datasets(tuple(inputs), (published_dataset(workspace, partition, published),))


def snapshot_of_partition(workspace: Workspace, partition: str) -> Datasets:
    """Return the published snapshot of a partition as an input; none where it is not published."""
    published = workspace.state().published.get(partition)
    return Datasets() if published is None else Datasets((published_dataset(workspace, partition, published),))


def label_lineage(workspace: Workspace, names: SourceNames, deliveries: Sequence[Mapping[str, Any]]) -> Datasets:
    """Return the source of labels, and the deliveries that were stored from it."""
    declared = workspace.loop.data.labels
    if declared is None:
        return Datasets()
    arrived, outputs = workspace.state().labels, []
    for delivery in deliveries:
        details = arrived[delivery["partition"]]
        pin = PartitionVersion(delivery["partition"], details.version, details.digest)
        outputs.append(partition_dataset(workspace, "labels", pin, rows=details.rows))
    return Datasets(tuple(source_datasets(declared.source, names)), tuple(outputs))


def published_dataset(workspace: Workspace, partition: str, published: SnapshotPublished) -> Dataset:
    """Return the published snapshot of a partition with its columns."""
    pin = PartitionVersion(partition, published.version, published.digest)
    return partition_dataset(workspace, "snapshots", pin, rows=published.rows, columns=published.columns)


def partition_dataset(
    workspace: Workspace,
    table: str,
    pin: PartitionVersion,
    *,
    rows: int | None = None,
    columns: Mapping[str, str] | None = None,
    assertions: tuple[Assertion, ...] = (),
) -> Dataset:
    """Return one partition of a table of the lake."""
    return Dataset(lake_table(workspace, table), pin.text, rows, columns, (pin.part,), (), assertions)


def assertions_of(report: Mapping[str, Any]) -> tuple[Assertion, ...]:
    """Return the results in a report of a validation, without the values that were observed.

    A check that had too little history has no result.
    """
    expectations = tuple(
        Assertion(
            rule=result["type"],
            success=result["success"],
            column=result["column"],
            severity=SEVERITIES.get(result["severity"], result["severity"]),
            expected=result.get("declared") or None,
            actual=f"{result['unexpected']} unexpected rows" if result["by_row"] else None,
        )
        for result in report.get("expectations", ())
    )
    history = tuple(
        Assertion(
            rule=finding["check"],
            success=finding["verdict"] == "pass",
            column=finding["column"],
            severity=SEVERITIES.get(finding["severity"], finding["severity"]),
            expected=_number(finding["limit"]),
            actual=_number(finding["value"]),
        )
        for finding in report.get("history", ())
        if finding["verdict"] in ("pass", "fail")
    )
    return expectations + history


def _quarantined(workspace: Workspace, version: int | None, rows: int) -> Dataset:
    return Dataset(lake_table(workspace, "quarantine"), None if version is None else str(version), rows)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"
