"""An earlier champion is a candidate of a training: judged on the same rows by the same gates, never in its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import GateError, NotReadyError, PolicyError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
from airflow_mlops.core.evaluation.recallable_versions import recallable_versions
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.ledger.notice_details import ApprovalWanted
from airflow_mlops.core.ledger.rollout_details import RolloutStarted
from airflow_mlops.core.ledger.training_details import CandidateRefused, CandidateRegistered, VersionRecalled
from airflow_mlops.core.lineage.model_lineage import evaluation_lineage, registration_lineage, version_dataset
from airflow_mlops.core.overview.retrain_costs import retrain_costs
from airflow_mlops.core.overview.sentences import describe_record
from airflow_mlops.core.registry.load import copy_folder
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.approvals import record_approval, record_question, version_to_approve
from airflow_mlops.core.rollout.manual_rollback import roll_back_now
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.rollback import describe_ending
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, train, week

SUMMER, WINTER = 2.0, -2.0
LIVE = {"stages": [{"live": 100}]}
CANARY = {"stages": [{"canary": 50}, {"live": 100}], "min_rows": 20}


def seasons(
    tmp_path: Path, slopes: Sequence[float], champions: Sequence[int], *, rows: int = 120, **changes: Any
) -> Workspace:
    """Return a loop whose weeks have these slopes, with a champion made as of each of some weeks."""
    loop = toy_loop(**{"rollout": LIVE, **changes})
    frames = {week(number): toy_rows(number, rows=rows, slope=slope) for number, slope in enumerate(slopes)}
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path)
    for number in range(len(slopes)):
        ingest(workspace, week(number))
        if workspace.state().champion is not None:
            score_partition(workspace, week(number))
        if number in champions:
            go_live(workspace, week(number))
    return workspace


def summer_again(tmp_path: Path, **changes: Any) -> Workspace:
    """Return a loop that serves version 2, of winter, in the first week of the next summer; version 1 knows it."""
    return seasons(tmp_path, [SUMMER] * 3 + [WINTER] * 3 + [SUMMER], [2, 5], **changes)


def evaluate(workspace: Workspace, key: str) -> tuple[TrainingRequest, dict[str, Any]]:
    """Ask for a retrain as a person, fit the candidates and judge them."""
    decide_and_record(workspace, key, trigger="person")
    request = assemble_training(workspace, key)
    fits = [fit_candidate(workspace, request, name) for name in request.candidates]
    return request, evaluate_candidates(workspace, request, fits)


def test_a_champion_of_the_season_that_is_back_is_recalled_in_place_of_a_new_version(tmp_path: Path) -> None:
    workspace = summer_again(tmp_path)
    before = workspace.state().versions["1"]
    request, evaluated = evaluate(workspace, week(6))
    assert (evaluated["recalled"], evaluated["candidate"], evaluated["digest"]) == (
        "1",
        "version 1",
        before.details.artefact,
    )
    require_gates(workspace, request, evaluated)
    registered = register_candidate(workspace, request, evaluated)
    assert (registered["version"], registered["recalled"]) == ("1", True)

    (record,) = workspace.ledger.records(VersionRecalled)
    details = record.details
    assert (details.version, details.champion, details.tried, details.decision) == ("1", "2", 1, request.decision)
    assert details.metrics["mae"] == evaluated["metrics"]["mae"] < 1
    assert describe_record(record).startswith("recalled version 1, an earlier champion")
    assert len(workspace.registry.all_versions()) == 2
    lineage = registration_lineage(workspace, request.window, evaluated, registered)
    holdout, version = lineage.inputs
    assert (version, lineage.outputs) == (version_dataset(workspace, "1"), ())
    assert [part.dimensions["partition"] for part in holdout.parts] == [week(6)]
    assert version in evaluation_lineage(workspace, request.window, [evaluated]).inputs
    assert workspace.registry.aliases() == {"champion": "2", "candidate": "1"}

    state = workspace.state()
    assert state.open_decision is None
    assert state.candidate is not None
    assert (state.candidate.details, state.candidate.partition) == (before.details, before.partition)
    assert (state.candidate.chosen_as_of, state.candidate.chosen_by) == (week(6), request.decision)
    costs = retrain_costs(workspace.ledger, state).trainings[0]
    assert (costs.result, costs.registered, costs.seconds) == ("version 1 recalled", True, details.training_seconds)


def test_a_recalled_version_takes_the_same_way_to_live_as_any_candidate(tmp_path: Path) -> None:
    workspace = summer_again(tmp_path)
    assert go_live(workspace, week(6)) == "1"
    state = workspace.state()
    assert state.champion is not None
    assert (state.champion.number, state.promoted_at, state.champions_before) == ("1", week(6), ["2"])
    assert workspace.registry.aliases() == {"champion": "1"}
    rollouts = [record.details.version for record in workspace.ledger.records(RolloutStarted)]
    assert rollouts == ["1", "2", "1"]


def test_the_second_rollout_of_a_version_draws_other_keys_and_has_not_ended_before_it_has(tmp_path: Path) -> None:
    workspace = summer_again(tmp_path, rollout=CANARY)
    train(workspace, week(6))
    assert describe_ending(workspace.state(), "1") is None  # it was promoted, in its first summer
    start_rollout(workspace, week(6))
    rollout = workspace.state().rollout
    assert rollout is not None
    assert rollout.salt == f"rollout-1-{week(6)}"
    assert describe_ending(workspace.state(), "1") is None
    for index in range(2):
        run_rollout_step(workspace, "1", index, week(6))
    assert describe_ending(workspace.state(), "1") == "version 1 was promoted"


def test_a_recalled_version_waits_for_an_approval_of_its_own_and_a_person_is_asked_anew(tmp_path: Path) -> None:
    human = toy_loop(rollout={**LIVE, "approval": "human"})
    workspace = replace(summer_again(tmp_path), loop=human)
    first = workspace.state().versions["1"]
    record_question(workspace, first, "May version 1 be rolled out?")
    record_approval(workspace, first, ("ann",), started_by=None)
    assert list(workspace.state().approved) == ["1"]
    train(replace(workspace, actor="train for person:ben"), week(6))
    with pytest.raises(NotReadyError, match="version 1 waits for a person's approval"):
        start_rollout(workspace, week(6))
    recalled = version_to_approve(workspace, week(6))
    record_question(workspace, recalled, "May version 1 be rolled out?")
    record_question(workspace, recalled, "May version 1 be rolled out?")
    questions = [str(record.partition) for record in workspace.ledger.records(ApprovalWanted)]
    assert questions == [week(2), week(6)]
    with pytest.raises(PolicyError, match="ben started a run"):
        record_approval(workspace, recalled, ("ben",), started_by=None)
    record_approval(workspace, recalled, ("ann",), started_by=None)
    assert start_rollout(workspace, week(6)) == "1"


def test_recording_a_recall_again_adds_no_record(tmp_path: Path) -> None:
    workspace = summer_again(tmp_path)
    request, evaluated = evaluate(workspace, week(6))
    first = register_candidate(workspace, request, evaluated)
    run_rollout_step(workspace, start_rollout(workspace, week(6)), 0, week(6))
    count = workspace.ledger.head().sequence
    assert register_candidate(workspace, request, evaluated) == first
    assert workspace.ledger.head().sequence == count


def test_a_new_fit_that_is_better_than_every_earlier_champion_is_registered(tmp_path: Path) -> None:
    workspace = seasons(tmp_path, [SUMMER] * 3 + [WINTER] * 3 + [4.0] * 3, [2, 5])
    assert train(workspace, week(8)) == "3"
    report = workspace.evidence.get(str(workspace.state().versions["3"].details.report))
    assert (list(report["recall"]["losses"]), report["recall"]["chosen"]) == (["1"], False)


def test_recall_of_0_tries_no_earlier_champion(tmp_path: Path) -> None:
    workspace = summer_again(tmp_path, retrain={"recall": 0})
    _, evaluated = evaluate(workspace, week(6))
    assert workspace.evidence.get(evaluated["report"])["recall"] == {"losses": {}, "chosen": False}
    assert (evaluated["candidate"], "recalled" in evaluated) == ("line", False)


@pytest.mark.parametrize(("rows", "tried"), [(99, 0), (100, 1)])
def test_a_holdout_of_few_rows_recalls_nobody(tmp_path: Path, rows: int, tried: int) -> None:
    workspace = seasons(tmp_path, [SUMMER] * 3 + [WINTER] * 3 + [SUMMER], [2, 5], rows=rows)
    _, evaluated = evaluate(workspace, week(6))
    report = workspace.evidence.get(evaluated["report"])
    assert len(report["recall"]["losses"]) == tried
    assert ("recalled" in evaluated) == bool(tried)


def test_only_the_newest_are_tried_and_each_raises_the_confidence_that_the_best_needs(tmp_path: Path) -> None:
    slopes = [SUMMER] * 3 + [WINTER] * 3 + [0.0] * 3 + [5.0] * 3 + [SUMMER]
    workspace = seasons(tmp_path, slopes, [2, 5, 8, 11], retrain={"recall": 3})
    request, evaluated = evaluate(workspace, week(12))
    report = workspace.evidence.get(evaluated["report"])
    assert set(report["recall"]["losses"]) == {"3", "2", "1"}
    assert evaluated["recalled"] == "1"
    titles = [gate["gate"] for gate in evaluated["gates"]]
    assert titles[-1] == "mae better than the champion's, with 93% confidence"  # 80 % of one, of three tried
    fit = next(entry for entry in report["candidates"] if entry["candidate"] == "line")
    assert fit["gates"][-1]["gate"] == "mae better than the champion's, with 80% confidence"
    register_candidate(workspace, request, evaluated)
    (record,) = workspace.ledger.records(VersionRecalled)
    assert "the best of 3 earlier champions" in describe_record(record)

    fewer = seasons(tmp_path / "fewer", slopes, [2, 5, 8, 11], retrain={"recall": 2})
    _, evaluated = evaluate(fewer, week(12))
    assert set(fewer.evidence.get(evaluated["report"])["recall"]["losses"]) == {"3", "2"}


def test_a_version_whose_files_were_tampered_with_is_left_out_and_the_fit_goes_on(tmp_path: Path) -> None:
    workspace = seasons(tmp_path, [SUMMER] * 3 + [WINTER] * 3 + [SUMMER] * 3, [2, 5])
    old = workspace.state().versions["1"]
    (copy_folder(workspace, old) / "model.skops").write_bytes(b"tampered")
    registry: Any = workspace.registry
    registry.versions[0].content = b"tampered"
    assert train(workspace, week(8)) == "3"
    (*_, record) = workspace.ledger.records(CandidateRegistered)
    assert list(record.details.left_out) == ["version 1"]
    assert "version 1 of toy is refused" in record.details.left_out["version 1"]
    assert not list(workspace.ledger.records(VersionRecalled))


def test_a_recalled_version_that_was_rolled_back_is_quarantined_and_tried_no_more(tmp_path: Path) -> None:
    workspace = summer_again(tmp_path, rollout=CANARY)
    train(workspace, week(6))
    start_rollout(workspace, week(6))
    roll_back_now(workspace, reason="not again")
    state = workspace.state()
    assert dict(state.quarantined.items()) == {"1": "not again"}
    assert state.champion is not None
    assert (state.champion.number, state.rollout, state.candidate) == ("2", None, None)
    assert describe_ending(state, "1") == "version 1 was rolled back: not again"
    _, evaluated = evaluate(workspace, week(6))
    assert workspace.evidence.get(evaluated["report"])["recall"]["losses"] == {}


def test_a_version_that_is_taken_back_while_it_is_judged_is_not_recalled(tmp_path: Path) -> None:
    workspace = seasons(tmp_path, [SUMMER] * 3 + [WINTER] * 3 + [SUMMER], [2, 5])
    request, evaluated = evaluate(workspace, week(6))
    roll_back_now(workspace, reason="a person prefers summer")  # from version 2 to version 1, which serves by now
    with pytest.raises(NotReadyError, match="version 1 was to be recalled, and serves by now"):
        register_candidate(workspace, request, evaluated)
    assert workspace.state().in_flight is None


def test_a_version_that_was_fitted_on_the_holdout_is_not_judged_on_it(tmp_path: Path) -> None:
    workspace = seasons(tmp_path, [SUMMER] * 3 + [WINTER] * 3 + [SUMMER], [2, 5])
    request, _ = evaluate(workspace, week(6))
    fitted = {pin.partition for pin in workspace.state().versions["1"].details.window.fitted}
    assert fitted == {week(0), week(1)}
    for key, expected in ((week(6), ["1"]), (week(1), []), (week(0), [])):
        versions = recallable_versions(workspace.state(), [key], limit=8)
        assert [version.number for version in versions] == expected
    assert request.window.holdout[0].partition == week(6)


def test_regret_after_a_refusal_is_against_the_best_fit_and_not_an_earlier_champion_that_was_refused(
    tmp_path: Path,
) -> None:
    train_two = {"function": "tests.unit.core.training.test_several_windows:two", "window": [2, "all"]}
    fields: dict[str, Any] = {"train": train_two, "retrain": {"policy": {"regret": 0.2}}}
    workspace = seasons(tmp_path, [SUMMER] * 3 + [WINTER] * 3 + [SUMMER], [2, 5], **fields)
    strict = toy_loop(gates=[{"metric": "mae", "at_most": 0.01}], rollout=LIVE, **fields)
    workspace = replace(workspace, loop=strict)
    request, evaluated = evaluate(workspace, week(6))
    with pytest.raises(GateError):
        require_gates(workspace, request, evaluated)
    best = min(workspace.evidence.get(evaluated["report"])["candidates"], key=lambda entry: entry["loss"])
    assert best["recalled"] == "1"
    (refused,) = workspace.ledger.records(CandidateRefused)
    assert set(refused.details.by_window) == {"2", "all"}
    source = workspace.ports.source()
    source.frames[week(7)] = toy_rows(7, slope=SUMMER)
    ingest(workspace, week(7))
    score_partition(workspace, week(7))
    regret = measure_regret(workspace, week(7))
    assert regret.verdict == "measured", regret.message
    assert regret.fresh_candidate in request.candidates or regret.recalled == "1"
