"""A ledger that was written before the records had types: it is read, verified and folded to the state it gave then."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.ledger.data_details import LabelsArrived
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.earlier_forms import EARLIER_KINDS
from airflow_mlops.core.ledger.facts import Facts
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.kinds import KINDS
from airflow_mlops.core.ledger.record import Record, canonical_json, verify_chain
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.ledger.state import EXPIRING, LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout, Version
from airflow_mlops.core.ledger.training_details import CandidateRegistered
from airflow_mlops.core.ledger.watch_details import WindowJudged

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


def as_form_0(details: Details) -> dict[str, Any]:
    """Return details under the names that records of form 0 had, without empty fields."""
    values = details.to_json()
    if isinstance(details, LabelsArrived):
        values["said"] = values.pop("message")
    if isinstance(details, WindowJudged):
        values = JUDGED_AS_FORM_0.get(details.check, check_as_form_0)(values)
    if isinstance(details, CandidateRegistered):
        values["window"] = details.window.to_dict()
    return sparse(values)


def check_as_form_0(values: dict[str, Any]) -> dict[str, Any]:
    """Return a check as ``check_judged`` had it."""
    alarms = values.pop("added", [])
    added = [{"id": alarm["id"], "said": alarm["message"], "partition": alarm["partition"]} for alarm in alarms]
    names = {"message": "said", "labels": "basis"}
    renamed = {names.get(name, name): value for name, value in values.items()}
    if values["check"] in TICKED or values["check"] == "outside":
        renamed.pop("judgement", None)  # only checks of scored rows were numbered
    return {**renamed, **({"alarms": added} if added else {})}


def drift_as_form_0(values: dict[str, Any]) -> dict[str, Any]:
    """Return a judgement as ``drift_judged`` had it."""
    remarks = values.pop("remarks")
    left = {name: value for name, value in values.items() if name not in ("check", "judgement", "message")}
    return {**left, "said": values["message"], **remarks}


def performance_as_form_0(values: dict[str, Any]) -> dict[str, Any]:
    """Return a judgement as ``performance_judged`` had it."""
    left = {name: value for name, value in values.items() if name not in ("check", "judgement", "message")}
    return {**left, "said": values["message"], "look": values["judgement"] - 1}


def regret_as_form_0(values: dict[str, Any]) -> dict[str, Any]:
    """Return a judgement as ``regret_measured`` had it."""
    left = {name: value for name, value in values.items() if name not in ("check", "judgement", "message", "verdict")}
    return {**left, "reason": values["message"]}


TICKED = ("staleness", "absence", "labels")
JUDGED_AS_FORM_0 = {"drift": drift_as_form_0, "performance": performance_as_form_0, "regret": regret_as_form_0}


def state_as_json(state: LoopState) -> dict[str, Any]:
    """Return the state as plain JSON: a record as its number, a set as a sorted list, details as form 0 had them."""

    def numbers(facts: Facts[Record[Any]]) -> dict[str, int]:
        return {key: record.sequence for key, record in facts.items()}

    def version(known: Version | None) -> dict[str, Any] | None:
        if known is None:
            return None
        return {"number": known.number, "partition": known.partition, "details": as_form_0(known.details)}

    def rollout(known: OpenRollout | None) -> dict[str, Any] | None:
        if known is None:
            return None
        looks = [look.sequence for look in known.looks]
        return {**vars(known), "version": known.version.number, "looks": looks, "approved": sorted(known.approved)}

    facts = ("published", "refused", "scored", "drift", "performance", "regret", "labels")
    checks = {key: state.checks_of(key) for key in state.checked}
    decision = state.open_decision
    expired = {table: list(state.expired(table)) for table in EXPIRING}
    values = {
        "sequence": state.sequence,
        **{name: {key: as_form_0(details) for key, details in getattr(state, name).items()} for name in facts},
        "checks": {
            key: {name: as_form_0(check) for name, check in named.items()} for key, named in checks.items() if named
        },
        "escalations": numbers(state.escalations),
        "versions": {number: version(known) for number, known in state.versions.items()},
        "champion": version(state.champion),
        "promoted_at": state.promoted_at,
        "rollout": rollout(state.rollout),
        "traffic_record": state.traffic_record,
        "candidate": version(state.candidate),
        "decisions": dict(state.decided.items()),
        "retrains": sorted(record.sequence for record in state.retrains.values()),
        "open_decision": None if decision is None else decision.sequence,
        "training_started": state.training_started,
        "promotions": sorted(int(key.partition("|")[2]) for key in state.promotions),
        "promoted": {number: promoted.previous for number, promoted in state.promoted.items()},
        "rollbacks": {number: as_form_0(back) for number, back in state.rolled_back.items()},
        "last_rollback": state.machine.last_rollback,
        "quarantined": dict(state.quarantined.items()),
        "approved": numbers(state.approved),
        "reproduced": numbers(state.reproduced),
        "cards": numbers(state.cards),
        "forgotten": list(state.forgotten),
        "mask_key": state.mask_key,
        "purged": dict(state.purged.items()),
        "expired": {table: partitions for table, partitions in expired.items() if partitions},
        "high_water": state.high_water,
        "in_flight": state.in_flight,
        "champions_before": state.champions_before,
    }
    plain: dict[str, Any] = json.loads(canonical_json(values))
    return plain


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
    earlier = {name for names in EARLIER_KINDS.values() for name in names}
    assert kinds <= set(KINDS) | earlier
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
    records = list(SqlLedger(ledger_url, model).records())
    frozen = frozen_states[model][bound]
    assert set(frozen) == {record.partition for record in records} - {None}
    for partition, state in frozen.items():
        assert state_as_json(fold(records, **{bound: partition})) == state, f"{bound} {partition}"


@pytest.mark.parametrize("model", MODELS)
def test_so_does_the_fold_up_to_every_record(ledger_url: str, frozen_states: dict[str, Any], model: str) -> None:
    records = list(SqlLedger(ledger_url, model).records())
    frozen = frozen_states[model]["after"]
    assert len(frozen) == len(records)
    for count, digest in enumerate(frozen, start=1):
        assert digest_of(fold(records[:count])) == digest, f"after record {count}, {records[count - 1].kind}"


@pytest.mark.parametrize("model", MODELS)
def test_the_projection_of_the_frozen_ledger_is_the_state_that_was_frozen_now_and_as_of_every_partition(
    ledger_url: str, frozen_states: dict[str, Any], model: str
) -> None:
    ledger, frozen = SqlLedger(ledger_url, model), frozen_states[model]
    assert state_as_json(ledger.state()) == frozen["now"]
    for bound in ("as_of", "before"):
        for partition, state in frozen[bound].items():
            assert state_as_json(ledger.state(**{bound: partition})) == state, f"{bound} {partition}"
