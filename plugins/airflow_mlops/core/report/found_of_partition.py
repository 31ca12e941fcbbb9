"""What the ledger and its evidence hold of a partition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace

Facts = dict[str, Any]


@dataclass(frozen=True)
class FoundOfPartition:
    """What was found of a partition; each is empty where there is none.

    Parameters
    ----------
    published, scored, drift, performance, regret : dict
        The details of those records.
    checks : dict
        Details of each check, by its name.
    decisions : tuple of dict
        The decisions to retrain or not, oldest first.
    reports : dict
        Evidence by what it is of: ``drift``, ``performance``, ``validation``, ``check predictions``.
    digests : dict
        The digests of all evidence, also of what could not be read.
    lost : dict
        Why a piece of evidence could not be read.
    """

    published: Facts
    scored: Facts
    drift: Facts
    performance: Facts
    regret: Facts
    checks: dict[str, Facts]
    decisions: tuple[Facts, ...] = ()
    reports: dict[str, Facts] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    @classmethod
    def recorded(cls, state: LoopState, partition: str) -> FoundOfPartition:
        """Return what the ledger says of a partition, without any evidence."""
        return cls(
            state.published.get(partition, {}), state.scored.get(partition, {}), state.drift.get(partition, {}),
            state.performance.get(partition, {}), state.regret.get(partition, {}), state.checks.get(partition, {}),
            tuple(record.details for record in state.decisions if record.partition == partition),
        )  # fmt: skip

    @classmethod
    def of(cls, workspace: Workspace, partition: str) -> FoundOfPartition:
        """Return what is known of a partition by now; evidence that is gone or damaged stops nothing."""
        found = cls.recorded(workspace.state(), partition)
        kept = {"drift": found.drift, "performance": found.performance, "validation": found.published}
        kept |= {f"check {name}": check for name, check in found.checks.items()}
        found.digests.update({name: str(of["report"]) for name, of in kept.items() if of.get("report")})
        for name, digest in found.digests.items():
            try:
                found.reports[name] = workspace.evidence.get(digest)
            except LedgerError as error:
                found.lost[name] = str(error)
        return found

    @property
    def alarms(self) -> list[str]:
        """What alarmed, by its name."""
        judged = {"drift": self.drift, "performance": self.performance, **self.checks}
        return [name for name, of in judged.items() if of.get("verdict") == "alarm"]
