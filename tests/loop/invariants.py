"""Invariants of a loop, checked against the ledger, the registry and the lake.

``assert_invariants`` is called at the end of every test that moves a loop. It trusts nothing but the
records: what they claim about versions, aliases, models and evidence is looked up where it lies.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.ledger.data_details import PredictionsPublished, SnapshotPublished
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.record import Record, verify_chain
from airflow_mlops.core.ledger.watch_details import WindowJudged
from airflow_mlops.core.ports.registry import GHOST_OF, OPERATION
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.registry.verify_version import verify_version
from airflow_mlops.core.rollout.reconcile_aliases import wanted_aliases
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.workspace import Workspace
from tests.loop.project import embedded_stores


def assert_invariants(workspace: Workspace) -> None:
    """Assert that the ledger is intact and that nothing in it, or beside it, breaks a promise of the loop."""
    records = list(workspace.ledger.records())
    assert verify_chain(records) == len(records)
    assert_no_row_is_lost(workspace, records)
    assert_one_version_for_each_request(workspace, records)
    assert_champion_is_the_head_and_can_be_read(workspace, records)
    assert_nobody_was_promoted_without_passed_gates(workspace, records)
    assert_who_was_recalled_had_served_and_passed_again(workspace, records)
    assert_nothing_saw_what_came_later(records)
    assert_a_rolled_back_version_stays_away(records)
    assert_one_retrain_at_a_time(workspace, records)
    assert_a_step_is_recorded_once(records)


def assert_no_row_is_lost(workspace: Workspace, records: list[Record[Any]]) -> None:
    """Every row that arrived is published or in quarantine, and both tables hold what the ledger says."""
    for record in records:
        if isinstance(record.details, SnapshotPublished):
            arrived = record.details.snapshot_rows + record.details.rejected
            assert record.details.rows + record.details.quarantined == arrived, record
    for partition, published in fold(records).published.items():
        rows = workspace.snapshots.read(partition, version=published.version)
        assert (rows.num_rows, content_digest(rows)) == (published.rows, published.digest), partition
        if published.quarantined:
            held = workspace.quarantine.read(partition, version=published.quarantine_version)
            assert held.num_rows == published.quarantined, partition


def versions_in_registry(model: str, uri: str = "") -> dict[str, str]:
    """Return the operation of every version that MLflow knows, by its number; of the embedded one unless named."""
    from mlflow import MlflowClient

    uri = uri or embedded_stores().tracking_uri
    versions = MlflowClient(tracking_uri=uri, registry_uri=uri).search_model_versions(f"name = '{model}'")
    return {str(version.version): str(version.tags[OPERATION]) for version in versions if GHOST_OF not in version.tags}


def assert_one_version_for_each_request(workspace: Workspace, records: list[Record[Any]]) -> None:
    """One request gives at most one version, in the ledger and in the registry."""
    registered = [record.details for record in records if record.kind == "candidate_registered"]
    assert not repeated(details.request for details in registered)
    assert not repeated(details.version for details in registered)
    known = versions_in_registry(workspace.loop.model, workspace.ports.addresses.registry) if registered else {}
    assert not repeated(known.values())
    assert {details.version for details in registered} <= set(known)


def assert_champion_is_the_head_and_can_be_read(workspace: Workspace, records: list[Record[Any]]) -> None:
    """The newest promotion, or what a rollback brought back, is the champion; aliases follow; the artefact loads."""
    state = fold(records)
    promoted = [record for record in records if record.kind == "promoted"]
    assert (state.champion is None) == (not promoted)
    wanted = {alias: version for alias, version in wanted_aliases(state).items() if version is not None}
    assert workspace.registry.aliases() == wanted
    if state.champion is None:
        return
    serving: str | None = None
    for record in records:
        if record.kind == "promoted":
            assert record.details.previous == serving
            serving = str(record.details.version)
        elif record.kind == "rolled_back" and record.details.champion is not None:
            assert record.details.version == serving
            serving = str(record.details.champion)
    assert state.champion.number == serving
    assert verify_version(workspace, state.champion, in_registry=True).verified
    assert hasattr(load_version(workspace, state.champion), "predict")


def assert_nobody_was_promoted_without_passed_gates(workspace: Workspace, records: list[Record[Any]]) -> None:
    """Behind every version lies a report with numbers, on the data of its own window, in which all gates passed."""
    for record in records:
        if record.kind != "candidate_registered":
            continue
        report = workspace.evidence.get(record.details.report)
        (judged,) = [entry for entry in report["candidates"] if entry["candidate"] == record.details.candidate]
        assert judged["passed"]
        assert judged["gates"]
        assert report["rows"] > 0
        assert all(gate["verdict"] != "fail" for gate in judged["gates"])
        assert all(math.isfinite(value) for value in judged["metrics"].values())
        assert judged["digest"] == record.details.artefact
        window, known = record.details.window, fold(records[: record.sequence]).published
        request = TrainingRequest.from_dict(report["request"]).of_candidate(record.details.candidate)
        assert request.window == window
        for pin in window.pins:
            assert known[pin.partition].digest == pin.digest


def assert_who_was_recalled_had_served_and_passed_again(workspace: Workspace, records: list[Record[Any]]) -> None:
    """A recall is of an earlier champion, older than the rows that it was judged on, whose gates all passed there."""
    for record in records:
        if record.kind != "version_recalled":
            continue
        before, number = fold(records[: record.sequence - 1]), record.details.version
        assert number in before.promoted
        assert number not in before.quarantined
        assert before.champion is not None
        assert before.champion.number == record.details.champion != number
        report = workspace.evidence.get(record.details.report)
        (judged,) = [entry for entry in report["candidates"] if entry.get("recalled") == number]
        assert report["best"] == judged["candidate"]
        assert judged["passed"]
        assert all(gate["verdict"] != "fail" for gate in judged["gates"])
        assert judged["digest"] == before.versions[number].details.artefact
        fitted = {pin.partition for pin in before.versions[number].details.window.fitted}
        assert fitted.isdisjoint(pin["partition"] for pin in report["holdout"]["pins"])


def assert_nothing_saw_what_came_later(records: list[Record[Any]]) -> None:
    """Check that training, scores, verdicts and decisions for a partition rest on partitions up to it."""
    state = fold(records)
    made = {number: version.partition for number, version in state.versions.items()}
    chosen: dict[str, str] = {}
    entered: list[str] = []
    for record in records:
        at, details = str(record.partition), record.details
        if record.kind in ("candidate_registered", "version_recalled"):
            chosen[details.version] = at
        if record.kind in ("candidate_registered", "training_started"):
            assert max(pin.partition for pin in details.window.pins) <= at
            newest_fitted = max(pin.partition for pin in details.window.fitted)
            assert newest_fitted < min(pin.partition for pin in details.window.holdout)
        elif record.kind == "predictions_published":
            assert all(made[version] < at for version in details.served)
            assert details.challenger is None or made[details.challenger] < at
        elif record.kind == "retrain_decided":
            assert all(key <= at for key in details.numbers.get("windows", []))
        elif record.kind == "promoted":
            entered.append(chosen[details.version])
    assert entered == sorted(entered), "a version that was chosen earlier replaced a champion that was chosen later"
    assert all(not judged.historical or judged.verdict != "alarm" for judged in state.performance.values())
    assert all(not judged.historical or judged.verdict != "alarm" for judged in state.drift.values())


def assert_a_rolled_back_version_stays_away(records: list[Record[Any]]) -> None:
    """A version that was rolled back or rejected does not serve again, unless a person lifted that."""
    away: set[str] = set()
    for record in records:
        version = str(getattr(record.details, "version", None))
        if record.kind == "rolled_back":
            away.add(version)
            assert str(record.details.champion) not in away
        elif record.kind == "rejected":
            away.add(version)
        elif record.kind == "quarantine_lifted":
            away.discard(version)
        elif record.kind in ("promoted", "rollout_started"):
            assert version not in away


def assert_one_retrain_at_a_time(workspace: Workspace, records: list[Record[Any]]) -> None:
    """No retrain is decided while another is under way, twice for a partition, in the cooldown or past the budget."""
    declared = workspace.loop.retrain
    yes = [record for record in records if record.kind == "retrain_decided" and record.details.retrain]
    automatic = [record for record in yes if record.details.trigger != "person"]
    assert not repeated(record.partition for record in automatic)
    for record in yes:
        before = fold(records[: record.sequence - 1])
        assert before.in_flight is None
        retrain = before.last_retrain
        since = [] if retrain is None else before.published.keys(after=retrain.partition, until=record.partition)
        if record in automatic and before.champion is not None:
            assert len(since) >= declared.cooldown
            assert len(before.promotions) < declared.budget
    started = [record.details.decision for record in records if record.kind == "training_started"]
    assert not repeated(started)
    assert set(started) <= {record.sequence for record in yes}


def assert_a_step_is_recorded_once(records: list[Record[Any]]) -> None:
    """No operation, and no fact about the same content of a partition, stands in the ledger twice."""
    assert not repeated(record.operation for record in records)
    facts = [record for record in records if isinstance(record.details, PredictionsPublished | WindowJudged)]
    assert not repeated(
        (fact_name(record.details), record.partition, record.details.snapshot, getattr(record.details, "labels", ""))
        for record in facts
        if fact_name(record.details) in ("scored", "drift", "performance")
    )
    recalls = Counter[str]()
    ends = []
    for record in records:
        if record.kind == "version_recalled":
            recalls[record.details.version] += 1
        elif record.kind == "promoted" or (record.kind == "rolled_back" and record.details.champion is None):
            ends.append((record.details.version, recalls[record.details.version]))
    assert not repeated(ends), "a rollout ended twice"


def fact_name(details: PredictionsPublished | WindowJudged) -> str:
    """Return the name of a fact about a partition."""
    if isinstance(details, PredictionsPublished):
        return "scored"
    return details.check


def repeated(values: Any) -> list[Any]:
    """Return the items that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
