"""Ledgers written by hand: the records of a history, chained, without any stage having run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.facts import Facts
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.kinds import read_details
from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.state import EXPIRING, LoopState
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import InMemoryLedger


def week(number: int) -> str:
    """Return the key of the week with a number, from 0."""
    return (datetime(2013, 1, 6) + timedelta(weeks=number)).isoformat()  # noqa: DTZ001


def draft_of(
    workspace: Workspace,
    kind: str,
    operation: str,
    partition: str | None,
    /,
    *,
    evidence: tuple[str, ...] = (),
    **details: Any,
) -> Draft[Details]:
    """Return a draft of a record in the name of the workspace's actor, its details given by name."""
    return workspace.draft(read_details(kind, details), operation, partition, evidence=evidence)


class History:
    """Records one fact after another and says the state they give."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger: Ledger = ledger or InMemoryLedger("toy")

    def add(self, kind: str, partition: int | None = None, /, **details: Any) -> Record[Any]:
        """Append a record, for the week with a number."""
        read = self.ledger.head().sequence
        key = None if partition is None else week(partition)
        return self.ledger.append(Draft(read_details(kind, details), f"op{read}", key, "test"), read=read)

    def publish(self, *weeks: int) -> History:
        """Publish partitions."""
        for number in weeks:
            self.add("snapshot_published", number, version=number, digest=f"d{number}", columns={})
        return self

    def decide(self, number: int, *, retrain: bool) -> Record[Any]:
        """Record a decision on a partition."""
        return self.add("retrain_decided", number, retrain=retrain, cause="clock")

    def register(self, number: int, version: str) -> History:
        """Record a yes and the candidate it gave."""
        decision = self.decide(number, retrain=True)
        self.add("training_started", number, decision=decision.sequence)
        self.add("candidate_registered", number, version=version, decision=decision.sequence, request=f"r{version}")
        return self

    def promote(self, number: int, version: str) -> History:
        """Record a candidate of a partition that went through its rollout within it."""
        self.register(number, version)
        self.add("rollout_started", number, version=version)
        self.add("promoted", number, version=version)
        return self

    def judge(self, number: int, champion: str, *, performance: str = "no alarm", drift: str = "no alarm") -> History:
        """Record that a partition was scored by a champion, and what the watch said of it."""
        self.add("predictions_published", number, champion=champion, version=1, snapshot=f"d{number}")
        self.add("drift_judged", number, verdict=drift, drifted=["x"], missing=[])
        self.add("performance_judged", number, verdict=performance, metric="mae", value=2.0, reference=1.0)
        return self

    def state(self, *, as_of: int | None = None) -> LoopState:
        """Return the state, as of the week with a number."""
        return fold(self.ledger.records(), as_of=None if as_of is None else week(as_of))


def contents(state: LoopState) -> dict[str, Any]:
    """Return everything that a state holds, so that two states compare."""
    checks = {name for names in state.checked.values() for name in names}
    tables = {name: facts for name, facts in vars(state).items() if isinstance(facts, Facts)}
    tables |= {f"judged {check}": state.judged(check) for check in sorted(checks)}
    tables |= {f"expired {table}": state.expired(table) for table in EXPIRING}
    filled = {name: dict(facts.items()) for name, facts in tables.items()}
    return {"machine": state.machine, **{name: table for name, table in filled.items() if table}}
