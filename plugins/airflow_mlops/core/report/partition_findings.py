"""Collect the records and the evidence about a partition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.data_details import PredictionsPublished, SnapshotPublished
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.ledger.watch_details import DriftJudged, PerformanceJudged, RegretMeasured, WindowJudged
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class PartitionFindings:
    """The records and the evidence about a partition; each part is None or empty where there is none.

    Parameters
    ----------
    published, scored, drift, performance, regret
        The details of those records.
    checks : mapping of str to WindowJudged
        Each further check, by its name.
    decisions : tuple of RetrainDecided
        The decisions to retrain or not, oldest first.
    reports : dict
        Evidence by its subject: ``drift``, ``performance``, ``validation``, ``check predictions``.
    digests : dict
        The digests of all evidence, also of evidence that could not be read.
    lost : dict
        The reason why a piece of evidence could not be read.
    """

    published: SnapshotPublished | None
    scored: PredictionsPublished | None
    drift: DriftJudged | None
    performance: PerformanceJudged | None
    regret: RegretMeasured | None
    checks: Mapping[str, WindowJudged]
    decisions: tuple[RetrainDecided, ...] = ()
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_ledger(cls, workspace: Workspace, partition: str) -> PartitionFindings:
        """Return the records about a partition, without evidence."""
        state = workspace.state()
        decisions = workspace.ledger.records(RetrainDecided, partition=partition)
        return cls(
            state.published.get(partition),
            state.scored.get(partition),
            state.drift.get(partition),
            state.performance.get(partition),
            state.regret.get(partition),
            state.checks_of(partition),
            tuple(record.details for record in decisions),
        )

    @classmethod
    def read(cls, workspace: Workspace, partition: str) -> PartitionFindings:
        """Return the records about a partition with their evidence; evidence that is gone or damaged is in ``lost``."""
        findings = cls.from_ledger(workspace, partition)
        for name, digest in findings.evidence().items():
            findings.digests[name] = digest
            try:
                findings.reports[name] = workspace.evidence.get(digest)
            except LedgerError as error:
                findings.lost[name] = str(error)
        return findings

    def evidence(self) -> dict[str, str]:
        """Return the digests of the evidence that the records name, by subject."""
        judged: dict[str, WindowJudged | None] = {"drift": self.drift, "performance": self.performance}
        judged |= {f"check {name}": check for name, check in self.checks.items()}
        digests = {name: part.report for name, part in judged.items() if part is not None}
        digests["validation"] = None if self.published is None else self.published.report
        return {name: digest for name, digest in digests.items() if digest}

    @property
    def judged(self) -> dict[str, WindowJudged]:
        """The records of all checks by name, without regret."""
        parts = {"drift": self.drift, "performance": self.performance, **self.checks}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def alarms(self) -> list[str]:
        """Names of the checks that alarm."""
        return [name for name, part in self.judged.items() if part.alarms]
