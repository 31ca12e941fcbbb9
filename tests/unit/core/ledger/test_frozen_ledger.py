"""A ledger that was written before the records had types: it is read, verified and folded to the state it gave then."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow_mlops.core.governance.fold_records import fold
from airflow_mlops.core.governance.record import KINDS, Record, canonical_json, verify_chain
from airflow_mlops.core.governance.sql_ledger import SqlLedger
from airflow_mlops.core.governance.state import LoopState, OpenRollout, Version

FROZEN = Path(__file__).parent / "frozen"
MODELS = {
    "flight_air_time": 73,
    "flight_delay": 65,
    "toy_alarms": 225,
    "toy_labels": 52,
    "toy_lake": 74,
    "toy_people": 136,
    "toy_regret": 72,
}
"""The models of the frozen ledger, and how many records each has."""


def sparse(details: dict[str, Any]) -> dict[str, Any]:
    """Return details without the fields that hold nothing: a None, a zero, an empty text or list."""
    return {name: value for name, value in details.items() if value}


def state_as_json(state: LoopState) -> dict[str, Any]:
    """Return the state as plain JSON: a record as its number, a set as a sorted list, details without empty fields."""

    def number(record: Record | None) -> int | None:
        return None if record is None else record.sequence

    def version(known: Version | None) -> dict[str, Any] | None:
        if known is None:
            return None
        return {"number": known.number, "partition": known.partition, "details": sparse(known.details)}

    def rollout(known: OpenRollout | None) -> dict[str, Any] | None:
        if known is None:
            return None
        return {
            "version": known.version.number, "record": known.record, "stage": known.stage, "entered": known.entered,
            "share": known.share, "kind": known.kind, "settled": known.settled, "failed": known.failed,
            "paused": known.paused, "looks": [look.sequence for look in known.looks],
            "approved": sorted(known.approved),
        }  # fmt: skip

    facts = ("published", "refused", "scored", "drift", "performance", "regret", "labels")
    return {
        "sequence": state.sequence,
        **{name: {key: sparse(details) for key, details in getattr(state, name).items()} for name in facts},
        "checks": {
            key: {name: sparse(check) for name, check in checks.items()} for key, checks in state.checks.items()
        },
        "escalations": {str(record.details["champion"]): record.sequence for record in state.escalations},
        "versions": {name: version(known) for name, known in state.versions.items()},
        "champion": version(state.champion),
        "promoted_at": state.promoted_at,
        "rollout": rollout(state.rollout),
        "traffic_record": state.traffic_record,
        "candidate": version(state.candidate),
        "decisions": {str(record.partition): record.sequence for record in state.decisions},
        "retrains": sorted(record.sequence for record in state.retrains),
        "open_decision": number(state.open_decision),
        "training_started": state.training_started,
        "promotions": sorted(record.sequence for record in state.promotions),
        "promoted": {str(record.details["version"]): record.details.get("previous") for record in state.promotions},
        "rollbacks": {str(record.details["version"]): sparse(record.details) for record in state.rollbacks},
        "last_rollback": max((record.sequence for record in state.rollbacks), default=0),
        "quarantined": state.quarantined,
        "approved": {name: number(record) for name, record in state.approved.items()},
        "reproduced": {name: number(record) for name, record in state.reproduced.items()},
        "cards": {name: number(record) for name, record in state.cards.items()},
        "forgotten": sorted(state.forgotten),
        "mask_key": state.mask_key,
        "purged": state.purged,
        "expired": {table: sorted(partitions) for table, partitions in state.expired.items() if partitions},
        "high_water": state.high_water,
        "in_flight": state.in_flight,
        "champions_before": state.champions_before,
    }


def digest_of(state: LoopState) -> str:
    """Return the SHA-256 of the state as canonical JSON."""
    return hashlib.sha256(canonical_json(state_as_json(state)).encode()).hexdigest()


@pytest.fixture(scope="module")
def ledger_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a copy of the frozen ledger, which nothing may write to."""
    copy = tmp_path_factory.mktemp("frozen") / "ledger.sqlite"
    shutil.copyfile(FROZEN / "ledger.sqlite", copy)
    return f"sqlite:///{copy}"


@pytest.fixture(scope="module")
def frozen_states() -> dict[str, Any]:
    """Return the states of every model: ``now``, by partition ``as_of`` and ``before`` it, and ``after`` each record.

    The last are digests, one a record: the states themselves would be many times the ledger.
    """
    states: dict[str, Any] = json.loads(gzip.decompress((FROZEN / "states.json.gz").read_bytes()))
    return states


@pytest.mark.parametrize("model", MODELS)
def test_the_chain_of_the_frozen_ledger_is_intact(ledger_url: str, model: str) -> None:
    assert verify_chain(SqlLedger(ledger_url, model).records()) == MODELS[model]


def test_every_kind_that_the_frozen_ledger_holds_is_known_and_it_holds_all_33_of_its_time(ledger_url: str) -> None:
    kinds = {record.kind for model in MODELS for record in SqlLedger(ledger_url, model).records()}
    assert kinds <= set(KINDS)
    assert len(kinds) == 33


@pytest.mark.parametrize("model", MODELS)
def test_the_fold_of_the_frozen_ledger_reaches_the_state_that_was_frozen_with_it(
    ledger_url: str, frozen_states: dict[str, Any], model: str
) -> None:
    assert state_as_json(fold(SqlLedger(ledger_url, model).records())) == frozen_states[model]["now"]


@pytest.mark.parametrize("bound", ["as_of", "before"])
@pytest.mark.parametrize("model", MODELS)
def test_so_does_the_fold_up_to_every_partition(
    ledger_url: str, frozen_states: dict[str, Any], model: str, bound: str
) -> None:
    records = SqlLedger(ledger_url, model).records()
    frozen = frozen_states[model][bound]
    assert set(frozen) == {record.partition for record in records} - {None}
    for partition, state in frozen.items():
        assert state_as_json(fold(records, **{bound: partition})) == state, f"{bound} {partition}"


@pytest.mark.parametrize("model", MODELS)
def test_so_does_the_fold_up_to_every_record(ledger_url: str, frozen_states: dict[str, Any], model: str) -> None:
    records = SqlLedger(ledger_url, model).records()
    frozen = frozen_states[model]["after"]
    assert len(frozen) == len(records)
    for count, digest in enumerate(frozen, start=1):
        assert digest_of(fold(records[:count])) == digest, f"after record {count}, {records[count - 1].kind}"
