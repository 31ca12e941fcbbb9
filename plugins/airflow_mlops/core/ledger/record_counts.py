"""Counts of a ledger's records by what they decided, made in the database and continued where the last count ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, select

from airflow_mlops.core.ledger.data_details import PartitionRefused
from airflow_mlops.core.ledger.kinds import stored_kinds
from airflow_mlops.core.ledger.protocols import Head
from airflow_mlops.core.ledger.record import GENESIS
from airflow_mlops.core.ledger.rollout_details import Promoted, RolledBack
from airflow_mlops.core.ledger.sql_schema import LEDGER
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.ledger.watch_details import ALARM, DRIFT, PERFORMANCE, REGRET, WindowJudged

COUNTED = (PartitionRefused, RetrainDecided, Promoted, RolledBack, WindowJudged)
FORM_0_CHECKS = {"drift_judged": DRIFT, "performance_judged": PERFORMANCE, "regret_measured": REGRET}
"""The checks that earlier releases did not name in the record, by its kind."""


@dataclass(frozen=True)
class RecordCounts:
    """How many records decided what, up to the record ``head``.

    ``alarms`` has every check that has judged a window, also one that never alarmed.
    """

    head: Head
    retrains: int = 0
    promotions: int = 0
    rollbacks: int = 0
    refusals: int = 0
    alarms: Mapping[str, int] = field(default_factory=dict)


NO_RECORDS = RecordCounts(Head(0, GENESIS))


def count_records(
    connection: Connection, *, model: str, head: Callable[[Connection], Head], known: RecordCounts
) -> RecordCounts:
    """Return the counts of a model's records, of which only those after ``known`` are read.

    Where the record that ``known`` ends with has another hash, the ledger was replaced and is counted anew.
    """
    newest = head(connection)
    if newest == known.head:
        return known
    if known.head.sequence and _hash_at(connection, model, known.head.sequence) != known.head.hash:
        known = NO_RECORDS
    kinds, alarms = Counter[str](), Counter(known.alarms)
    rows = connection.execute(_query(model, known.head.sequence, newest.sequence)).all()
    for kind, check, verdict, retrain, count in rows:
        if kind == RetrainDecided.KIND and not retrain:
            continue
        kinds[kind] += count
        if kind in JUDGED_KINDS:
            alarms[FORM_0_CHECKS.get(kind) or check] += count if verdict == ALARM else 0
    return RecordCounts(
        newest,
        known.retrains + kinds[RetrainDecided.KIND],
        known.promotions + kinds[Promoted.KIND],
        known.rollbacks + kinds[RolledBack.KIND],
        known.refusals + kinds[PartitionRefused.KIND],
        alarms,
    )


JUDGED_KINDS = frozenset(stored_kinds((WindowJudged,)))


def _hash_at(connection: Connection, model: str, sequence: int) -> str | None:
    query = select(LEDGER.c.hash).where(LEDGER.c.model == model, LEDGER.c.sequence == sequence)
    return connection.execute(query).scalar()


def _query(model: str, after: int, until: int) -> Select[Any]:
    """Return the query of the numbers of records between two of them, found by the index of their kinds."""
    outcomes = (
        select(
            LEDGER.c.kind,
            LEDGER.c.details["check"].as_string().label("check_name"),
            LEDGER.c.details["verdict"].as_string().label("verdict"),
            LEDGER.c.details["retrain"].as_boolean().label("retrain"),
        )
        .where(
            LEDGER.c.model == model,
            LEDGER.c.kind.in_(stored_kinds(COUNTED)),
            LEDGER.c.sequence > after,
            LEDGER.c.sequence <= until,
        )
        .subquery()
    )
    columns = (outcomes.c.kind, outcomes.c.check_name, outcomes.c.verdict, outcomes.c.retrain)
    return select(*columns, func.count()).group_by(*columns)
