"""Validate a snapshot: split good rows from bad, store the bad rows with every reason, or refuse the partition.

The expectations get only the columns that they mention; the rows are copied, batch by batch, only if some are bad. Then
the partition is checked against the loop's own history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.content_digest import ContentDigest
from airflow_mlops.core.data.quarantined_rows import SCHEMA, Spool, quarantine_rows
from airflow_mlops.core.data.read_partition import refuse_too_bad
from airflow_mlops.core.data.take_snapshot import SnapshotManifest, digest_of, record_refusal
from airflow_mlops.core.declaration.arrow_types import parse_type
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.validation.finding import Finding, describe_findings
from airflow_mlops.core.validation.judge_history import judge_history
from airflow_mlops.core.validation.misplaced_delivery import misplaced_warnings
from airflow_mlops.core.validation.severities import describe_whole_failure, route_failures
from airflow_mlops.core.validation.suite import (
    Expectation,
    ExpectationResult,
    Validator,
    columns_read,
    met_expectation,
    read_suite,
)
from airflow_mlops.core.validation.typed_limits import typed_limits
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class ValidatedSnapshot:
    """A snapshot whose good rows may be published; ``rows + quarantined`` is the number of arrived rows."""

    partition: str
    version: int
    digest: str
    rows: int
    quarantined: int
    report: str
    suite: str = ""
    quarantine_version: int | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as JSON values."""
        return {**asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ValidatedSnapshot:
        """Return the snapshot that ``to_dict`` wrote."""
        return cls(**{**values, "warnings": tuple(values["warnings"])})


def validate_snapshot(workspace: Workspace, manifest: SnapshotManifest, validator: Validator) -> ValidatedSnapshot:
    """Check the declared expectations on a snapshot and put its bad rows into quarantine.

    Raises
    ------
    PartitionRefusedError
        If an expectation about the whole partition fails, more rows are bad than ``data.tolerance`` allows, or the
        partition does not fit the loop's history. The refusal is recorded, and the bad rows are in quarantine.
    """
    partition, data = manifest.partition, workspace.loop.data
    published = workspace.state(as_of=partition).published.get(partition)
    with record_refusal(workspace, partition, "validation"):
        expectations = read_suite(workspace.root / data.expectations) if data.expectations else []
        suite = rules_digest(workspace, expectations)
        if published is not None and manifest.adopted and published.suite == suite:
            return ValidatedSnapshot(
                partition,
                published.version,
                published.digest,
                published.rows,
                published.quarantined,
                str(published.report),
                published.suite,
                published.quarantine_version,
            )
        passed = manifest.passed if manifest.passed_suite == suite else ()
        results = check_expectations(workspace, manifest, validator, expectations, passed)
        findings = judge_history(workspace, manifest)
        return _SnapshotSplit(workspace, manifest, results, findings, suite).split_rows()


def rules_digest(workspace: Workspace, expectations: list[Expectation]) -> str:
    """Return a digest of all rules by which a snapshot is judged; if it changes, the snapshot is judged again."""
    data = workspace.loop.data
    return digest_of(
        [
            [expectation.model_dump(mode="json") for expectation in expectations],
            data.tolerance,
            data.checks.model_dump(mode="json"),
        ]
    )


def check_expectations(
    workspace: Workspace,
    manifest: SnapshotManifest,
    validator: Validator,
    expectations: list[Expectation],
    passed: Collection[int] = (),
) -> list[ExpectationResult]:
    """Return the result of each expectation on the snapshot, from only the columns that they need.

    Those at the positions ``passed`` were met in the database that the rows came from, and are not checked again.

    Raises
    ------
    PartitionRefusedError
        If the snapshot lacks a column that the suite needs.
    """
    if passed:
        left = [expectation for number, expectation in enumerate(expectations) if number not in passed]
        checked = iter(check_expectations(workspace, manifest, validator, left))
        return [
            _met(manifest, expectation) if number in passed else next(checked)
            for number, expectation in enumerate(expectations)
        ]
    columns = columns_read(expectations)
    if columns is not None:
        missing = sorted(set(columns) - set(manifest.columns))
        if missing:
            raise PartitionRefusedError(
                f"the suite {workspace.loop.data.expectations} could not be evaluated: the snapshot has no column "
                f"{missing[0]!r}; it has {', '.join(manifest.columns)}"
            )
        # An expectation without a column still counts rows: read the key.
        columns = columns or [workspace.loop.data.key]
    if not expectations:
        return []
    rows = workspace.snapshots.read(manifest.partition, version=manifest.version, columns=columns)
    return validator.check(rows, expectations)


def _met(manifest: SnapshotManifest, expectation: Expectation) -> ExpectationResult:
    kind = manifest.columns.get(str(expectation.kwargs.get("column")))
    return met_expectation(typed_limits(expectation, None if kind is None else parse_type(kind)))


def reasons_by_row(results: list[ExpectationResult]) -> dict[int, list[str]]:
    """Return the reasons of critical expectations against each bad row, by its position."""
    reasons: dict[int, list[str]] = {}
    for result in results:
        if result.severity == "critical":
            for row in result.rows:
                reasons.setdefault(row, []).append(result.reason)
    return reasons


class _SnapshotSplit:
    """Splits a snapshot into good and bad rows, or refuses it."""

    def __init__(
        self,
        workspace: Workspace,
        manifest: SnapshotManifest,
        results: list[ExpectationResult],
        findings: list[Finding],
        suite: str,
    ) -> None:
        self.workspace, self.manifest, self.results, self.suite = workspace, manifest, results, suite
        self.reasons = reasons_by_row(results)
        self.routed = route_failures(results)
        self.failed = [finding for finding in findings if finding.verdict == "fail"]
        self.warnings = (
            *manifest.warnings,
            *misplaced_warnings(workspace, manifest),
            *(result.summary for result in self.routed.warnings),
            *(f"{finding.check}: {finding.words}" for finding in self.failed if finding.severity == "warning"),
        )
        self.report = workspace.evidence.put(
            {
                "partition": manifest.partition,
                "arrived": manifest.content,
                "rows": manifest.rows + manifest.rejected,
                "rejected_by_contract": manifest.rejected,
                "bad_rows": len(self.reasons),
                "expectations": [result.to_dict() for result in results],
                "failed": self.routed.to_dict(),
                "history": [finding.to_dict() for finding in findings],
            }
        )

    def split_rows(self) -> ValidatedSnapshot:
        """Write the bad rows to quarantine and return the good rows as a snapshot.

        Raises
        ------
        PartitionRefusedError
            If a critical expectation or a critical check of the whole partition failed, or too many rows are bad.
        """
        manifest, workspace = self.manifest, self.workspace
        arrived, bad = manifest.rows + manifest.rejected, manifest.rejected + len(self.reasons)
        quarantine_version = manifest.rejected_version
        if self.reasons:
            quarantine_version = self._quarantine()
        for result in self.routed.critical_whole:
            raise PartitionRefusedError(describe_whole_failure(result))
        critical = [finding for finding in self.failed if finding.severity == "critical"]
        if critical:
            raise PartitionRefusedError(describe_findings(critical))
        version, content_digest = manifest.version, manifest.digest
        if self.reasons:
            digest = ContentDigest()
            reader = pa.RecordBatchReader.from_batches(self._schema(), self._good_batches(digest))
            version, content_digest = workspace.snapshots.write(manifest.partition, reader), digest.hexdigest()
        return ValidatedSnapshot(
            manifest.partition,
            version,
            content_digest,
            arrived - bad,
            bad,
            self.report,
            self.suite,
            quarantine_version,
            self.warnings,
        )

    def _quarantine(self) -> int:
        """Write the rows that break the contract or the suite to quarantine; refuse too many."""
        manifest, data = self.manifest, self.workspace.loop.data
        with Spool() as spool:
            if manifest.rejected:
                rejected = self.workspace.quarantine.batches(manifest.partition, version=manifest.rejected_version)
                for batch in rejected:
                    spool.add(pa.Table.from_batches([batch]).select(SCHEMA.names))
            for batch, start in self._batches():
                positions = [at for at in range(start, start + batch.num_rows) if at in self.reasons]
                if positions:
                    bad = batch.take(pa.array([at - start for at in positions], pa.int64()))
                    reasons = [self.reasons[at] for at in positions]
                    spool.add(quarantine_rows(bad, reasons, key=data.key, stage="expectations"))
            version = self.workspace.quarantine.write(manifest.partition, spool.reader())
            if not self.routed.critical_whole:
                refuse_too_bad(spool, manifest.rows + manifest.rejected, data.tolerance)
        return version

    def _good_batches(self, digest: ContentDigest) -> Iterator[pa.RecordBatch]:
        bad = np.array(sorted(self.reasons), np.int64)
        for batch, start in self._batches():
            bad_positions = bad[(bad >= start) & (bad < start + batch.num_rows)] - start
            mask = np.ones(batch.num_rows, bool)
            mask[bad_positions] = False
            good = batch.filter(pa.array(mask)) if len(bad_positions) else batch
            digest.update(good)
            yield good

    def _batches(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield the batches of the snapshot and the position of the first row of each."""
        start = 0
        for batch in self.workspace.snapshots.batches(self.manifest.partition, version=self.manifest.version):
            yield batch, start
            start += batch.num_rows

    def _schema(self) -> pa.Schema:
        return self.workspace.snapshots.batches(self.manifest.partition, version=self.manifest.version).schema
