"""The whole loop in memory: it closes by itself, sees nothing of the future, and done twice is done once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_mlops.core.errors import GateError, NotReadyError, PartitionRefusedError, RolledBackError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.retrain.decide_retrain import decide_and_record, decision_to_emit
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week

WEEKS = 14
CHANGE = 7
LOOP: dict[str, Any] = {
    "gates": [{"metric": "mae", "at_most": 20}],
    "rollout": {"stages": [{"shadow": 100}, {"canary": 50}, {"live": 100}], "min_rows": 20},
    "watch": {"drift": {"alarm_rate": 0.01}, "performance": {"metric": "mae", "worse_by": 0.5}},
    # The reference of an alarm is the loss at promotion: the clock is what gets a loop over a change that
    # the first new model has only half seen.
    "retrain": {
        "policy": {"clock": 3, "or_alarm": True},
        "alarm": {"windows": 1, "of": 2},
        "cooldown": 2,
        "confidence": "none",
    },
}


def frames(*, change: int = CHANGE, shift: float = 0.0) -> dict[str, pd.DataFrame]:
    """Return weeks whose slope goes from 2 to 6, and whose inputs move by ``shift``, at a change."""
    return {
        week(number): toy_rows(
            number, rows=300, slope=2 if number < change else 6, shift=shift if number >= change else 0.0
        )
        for number in range(WEEKS)
    }


def follow(workspace: Workspace, number: int) -> None:
    """Do everything that follows the ingest of a week, as the Dags do."""
    key = week(number)
    try:
        score_partition(workspace, key)
        detect_drift(workspace, key)
        measure_performance(workspace, key)
        reconcile(workspace)
        decide_and_record(workspace, key, trigger="watch")
    except NotReadyError:
        decide_and_record(workspace, key, trigger="nightly")
    if decision_to_emit(workspace, key) is None:
        return
    try:
        request = assemble_training(workspace, key)
        evaluated = evaluate_candidates(workspace, request, [fit_candidate(workspace, request, "line")])
        require_gates(workspace, request, evaluated)
        register_candidate(workspace, request, evaluated)
        version = start_rollout(workspace, key)
        for index in range(len(workspace.loop.rollout.stages)):
            run_rollout_step(workspace, version, index, key)
    except (NotReadyError, RolledBackError, GateError):
        return


def run(tmp_path: Path, rows: dict[str, pd.DataFrame], *, ahead: bool = False) -> Workspace:
    """Run the loop over all weeks; with ``ahead`` every ingest is done before anything else."""
    workspace = in_memory_workspace(toy_loop(**LOOP), rows, scratch=tmp_path)
    for number in range(WEEKS if ahead else 0):
        ingest(workspace, week(number))
    for number in range(WEEKS):
        if not ahead:
            ingest(workspace, week(number))
        follow(workspace, number)
    return workspace


def said(workspace: Workspace, *, until: int = WEEKS) -> list[Any]:
    """Return the records about weeks before one, without record numbers."""
    names = (
        "digest",
        "champion",
        "challenger",
        "served",
        "verdict",
        "drifted",
        "value",
        "reference",
        "retrain",
        "cause",
        "version",
        "metrics",
        "artefact",
        "window",
        "reason",
    )
    facts = ("predictions_published", "window_judged", "retrain_decided", "candidate_registered")
    kinds = (*facts, "stage_analysed", "promoted", "rolled_back")
    window_free = [
        (each.kind, each.partition, {name: value for name, value in each.details.to_json().items() if name in names})
        for each in workspace.ledger.records()
        if each.kind in kinds and str(each.partition) < week(until)
    ]
    for kind, _, details in window_free:
        if kind == "candidate_registered":  # versions of the table count every ingest, digests say what was read
            window = details.pop("window")
            details["window"] = [pin["digest"] for part in window.values() for pin in part]
        if kind == "predictions_published":
            details.pop("version")
    return window_free


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return run(tmp_path_factory.mktemp("loop"), frames())


def test_the_loop_notices_the_change_and_recovers(finished: Workspace) -> None:
    state = finished.state()
    causes = [record.details.cause for record in state.retrains.values()]
    assert causes[0] == "first model"
    assert set(causes) == {"first model", "clock", "alarm: performance"}
    assert state.performance[week(CHANGE)].verdict == "alarm"
    assert state.performance[week(CHANGE)].value > 2.5
    assert state.performance[week(WEEKS - 1)].value < 1.2
    assert len(state.promotions) == len(causes)
    assert verify_chain(list(finished.ledger.records())) == state.sequence


def test_every_prediction_was_made_by_a_champion_from_before_its_week(finished: Workspace) -> None:
    state = finished.state()
    assert len(state.scored) >= WEEKS - 4
    for key, scored in state.scored.items():
        assert state.versions[scored.champion].partition < key


def test_an_ingest_that_runs_ahead_leaks_nothing(finished: Workspace, tmp_path: Path) -> None:
    assert said(run(tmp_path, frames(), ahead=True)) == said(finished)


@pytest.mark.parametrize("ahead", [False, True])
def test_what_was_said_of_a_week_does_not_depend_on_later_ones(
    finished: Workspace, tmp_path: Path, ahead: bool
) -> None:
    other = frames() | {week(number): toy_rows(number, rows=300, slope=-9, shift=4) for number in range(10, WEEKS)}
    assert said(run(tmp_path, other, ahead=ahead), until=10) == said(finished, until=10)


def test_doing_four_weeks_again_changes_nothing(finished: Workspace) -> None:
    before, aliases = list(finished.ledger.records()), finished.registry.aliases()
    for number in range(5, 9):
        ingest(finished, week(number))
        follow(finished, number)
    assert list(finished.ledger.records()) == before
    assert finished.registry.aliases() == aliases


def test_a_late_judgement_of_an_old_week_is_historical_and_asks_for_nothing(tmp_path: Path) -> None:
    workspace = in_memory_workspace(toy_loop(**LOOP), frames(), scratch=tmp_path)
    late = 9
    for number in range(WEEKS):
        if number != late:
            ingest(workspace, week(number))
            follow(workspace, number)
    before = workspace.state()
    ingest(workspace, week(late))
    follow(workspace, late)
    state = workspace.state()
    assert state.performance[week(late)].historical is True
    assert state.performance[week(late)].verdict == "no alarm"
    assert (len(state.retrains), state.champion) == (len(before.retrains), before.champion)
    assert list(workspace.ledger.records(RetrainDecided))[-1].details.cause == "historical"


def test_a_shift_of_the_inputs_alone_alarms_by_drift(tmp_path: Path) -> None:
    rows = {week(number): toy_rows(number, rows=600, shift=0 if number < CHANGE else 1.0) for number in range(WEEKS)}
    state = run(tmp_path, rows).state()
    assert state.drift[week(CHANGE)].verdict == "alarm"
    assert state.drift[week(CHANGE)].drifted == ("x",)
    assert state.performance[week(CHANGE)].verdict == "no alarm"
    assert "alarm: drift" in {record.details.cause for record in state.retrains.values()}


def test_a_canary_serves_its_share_of_the_keys_and_the_champion_the_rest(tmp_path: Path) -> None:
    workspace = run(tmp_path, frames())
    number = WEEKS - 1
    workspace.source.frames[week(WEEKS)] = toy_rows(WEEKS, rows=300, slope=6)  # type: ignore[attr-defined]
    champion = workspace.state().champion
    assert champion is not None
    # Stop a new rollout in its canary, by hand.
    registered = replace(champion.details, version="77")
    workspace.record_fact(workspace.draft(registered, "c", week(number)))
    workspace.record_fact(draft_of(workspace, "rollout_started", "r", week(number), version="77"))
    workspace.record_fact(
        draft_of(workspace, "stage_entered", "s", week(number), version="77", stage=1, kind="canary", share=50)
    )
    ingest(workspace, week(WEEKS))
    scored = score_partition(workspace, week(WEEKS))
    assert (scored.champion, scored.challenger) == (champion.number, "77")
    assert sum(scored.served.values()) == 300
    assert 110 < scored.served["77"] < 190
    table = workspace.predictions.read(week(WEEKS)).to_pandas()
    assert (table["champion_prediction"] == table["challenger_prediction"]).all()
    # Scored before, it stays as it was, whoever serves by now.
    assert score_partition(workspace, week(WEEKS)) == scored


def test_nothing_is_scored_before_there_is_a_champion_from_before(tmp_path: Path) -> None:
    workspace = in_memory_workspace(toy_loop(**LOOP), frames(), scratch=tmp_path)
    with pytest.raises(NotReadyError, match="is not published"):
        score_partition(workspace, week(0))
    for number in range(3):
        ingest(workspace, week(number))
    follow(workspace, 2)
    assert workspace.state().champion is not None
    with pytest.raises(NotReadyError, match="there is no champion from before"):
        score_partition(workspace, week(2))
    for judge in (detect_drift, measure_performance):
        with pytest.raises(NotReadyError, match="was not scored"):
            judge(workspace, week(2))


def test_content_that_comes_back_after_another_one_is_published_scored_and_judged_again(tmp_path: Path) -> None:
    loop = toy_loop(**LOOP)
    first, other = toy_rows(5, rows=300), toy_rows(5, rows=300, shift=9.0)
    workspace = in_memory_workspace(loop, frames(), scratch=tmp_path)
    for number in range(5):
        ingest(workspace, week(number))
        follow(workspace, number)
    seen = []
    for rows in (first, other, first, first):
        workspace.source.frames[week(5)] = rows  # type: ignore[attr-defined]
        ingest(workspace, week(5))
        follow(workspace, 5)
        state = workspace.state()
        of = (state.published, state.scored, state.drift, state.performance)
        assert len({getattr(table[week(5)], "digest" if table is state.published else "snapshot") for table in of}) == 1
        seen.append((state.published[week(5)].digest, state.sequence))
    assert seen[0][0] == seen[2][0] == seen[3][0] != seen[1][0]
    assert seen[3][1] == seen[2][1], "the same content once more changes nothing"


def test_the_same_fault_after_a_good_delivery_is_refused_and_told_again(tmp_path: Path) -> None:
    workspace = in_memory_workspace(toy_loop(**LOOP), frames(), scratch=tmp_path)
    good, empty = toy_rows(0), toy_rows(0, rows=0)
    messages = []
    for rows in (empty, empty, good, empty):
        workspace.source.frames[week(0)] = rows  # type: ignore[attr-defined]
        if rows is good:
            ingest(workspace, week(0))
        else:
            with pytest.raises(PartitionRefusedError, match="empty"):
                ingest(workspace, week(0))
        messages.append((workspace.ledger.head().sequence, week(0) in workspace.state().refused))
    assert messages == [(1, True), (1, True), (2, False), (3, True)]
