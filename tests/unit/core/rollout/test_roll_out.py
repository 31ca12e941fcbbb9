"""The rollout over whole histories: traffic only rises on a pass, and a failure is final."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import NotReadyError, RolledBackError, StaleLedgerError, TrainingError
from airflow_mlops.core.governance.model_card import model_card
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.batch_predictor import RowsToScore
from airflow_mlops.core.report.page_html import as_markdown
from airflow_mlops.core.rollout import analyse_rows, roll_out, run_analysis
from airflow_mlops.core.rollout.analyse_rows import ChallengerFailedError
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.rollout.verdict import StageVerdict
from airflow_mlops.core.rollout.worker_predictor import WorkerPredictor
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry, KeptVersion
from tests.unit.core.ledger.histories import History, draft_of, week
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train

VERDICTS = ("pass", "inconclusive", "fail")
STAGES = [{"shadow": 100}, {"canary": 10}, {"canary": 50}, {"live": 100}]
Script = Callable[[Sequence[str]], None]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return a function that scripts the verdicts of the next looks; later ones are inconclusive."""

    def use(verdicts: Sequence[str]) -> None:
        left: Iterator[str] = iter(verdicts)
        monkeypatch.setattr(
            run_analysis, "analyse_stage", lambda *_: StageVerdict(next(left, "inconclusive"), "as written", 1)
        )  # type: ignore[arg-type]

    return use


def challenged(tmp_path: Path, *, stages: Sequence[dict[str, int]] = STAGES) -> Workspace:
    """Return a loop with champion 1, made as of week 2, and candidate 2, as of week 3; no model was fitted."""
    loop = toy_loop(rollout={"stages": list(stages)})
    workspace = in_memory_workspace(loop, {}, scratch=tmp_path)
    assert isinstance(workspace.registry, InMemoryRegistry)
    workspace.registry.versions += [KeptVersion(f"op{number}", b"", None) for number in (1, 2, 3)]  # type: ignore[arg-type]
    History(workspace.ledger).publish(0, 1, 2, 3).promote(2, "1").register(3, "2")
    return workspace


def run_dag(workspace: Workspace, number: int) -> str | None:
    """Run all stages for a week, as the rollout's Dag does; return why it stopped, or None."""
    try:
        version = start_rollout(workspace, week(number))
        for index in range(len(workspace.loop.rollout.stages)):
            run_rollout_step(workspace, version, index, week(number))
    except (NotReadyError, RolledBackError) as error:
        return type(error).__name__
    return None


def traffic(workspace: Workspace) -> int:
    """Return the percent of keys that version 2 serves."""
    state = workspace.state()
    if state.champion is not None and state.champion.number == "2":
        return 100
    return state.rollout.share if state.rollout is not None and state.rollout.kind == "canary" else 0


@pytest.mark.parametrize("length", [5])
def test_over_all_histories_of_verdicts_traffic_never_rises_after_a_failure(
    tmp_path: Path, script: Script, length: int
) -> None:
    for history in product(VERDICTS, repeat=length):
        workspace = challenged(tmp_path)
        script(history)
        shares = []
        for number in range(3, 4 + length):
            run_dag(workspace, number)
            shares.append(traffic(workspace))
        state = workspace.state()
        looks = [each.details.verdict for each in list(workspace.ledger.records()) if each.kind == "stage_analysed"]
        if "fail" in looks:
            assert looks[-1] == "fail", history
            assert shares[-1] == 0, history
            assert list(state.quarantined) == ["2"], history
            assert state.champion is not None
            assert state.champion.number == "1", history
        else:
            assert shares == sorted(shares), history
        assert (shares[-1] == 100) == (looks.count("pass") == 3), history
        verify_chain(list(workspace.ledger.records()))


def test_over_all_histories_the_share_is_that_of_the_stages_passed(tmp_path: Path, script: Script) -> None:
    shares = {0: 0, 1: 10, 2: 50, 3: 100}
    for history in product(("pass", "inconclusive"), repeat=5):
        workspace = challenged(tmp_path)
        script(history)
        run_dag(workspace, 3)
        passed = history.index("inconclusive") if "inconclusive" in history else 5
        assert traffic(workspace) == shares[min(passed, 3)], history


def test_an_inconclusive_look_holds_for_ever_and_never_promotes(tmp_path: Path, script: Script) -> None:
    workspace = challenged(tmp_path)
    script([])
    for number in range(3, 30):
        assert run_dag(workspace, number) == "NotReadyError"
        assert traffic(workspace) == 0
    assert workspace.state().in_flight == "version 2 is being rolled out (shadow)"


def test_a_stage_run_by_itself_does_not_jump_over_one_that_has_not_passed(tmp_path: Path, script: Script) -> None:
    # A person may clear one task of a run: what stands before it in the Dag has not run then.
    workspace = challenged(tmp_path, stages=[{"shadow": 100}, {"live": 100}])
    script(["inconclusive"])
    start_rollout(workspace, week(3))
    for _ in range(2):
        with pytest.raises(NotReadyError, match="version 2 holds at"):
            run_rollout_step(workspace, "2", 1, week(3))
        with pytest.raises(NotReadyError, match="holds at shadow_100: as written"):
            run_rollout_step(workspace, "2", 0, week(3))
    assert traffic(workspace) == 0


def test_running_a_finished_rollout_again_records_nothing_more(tmp_path: Path, script: Script) -> None:
    workspace = challenged(tmp_path)
    script(["pass"] * 3)
    assert run_dag(workspace, 3) is None
    before = list(workspace.ledger.records())
    for index in range(4):
        run_rollout_step(workspace, "2", index, week(3))
    assert list(workspace.ledger.records()) == before
    assert workspace.registry.aliases() == {"champion": "2"}


def test_a_rolled_back_version_is_quarantined_and_every_retry_says_so(tmp_path: Path, script: Script) -> None:
    workspace = challenged(tmp_path)
    script(["pass", "fail", "pass", "pass"])
    version = start_rollout(workspace, week(3))
    run_rollout_step(workspace, version, 0, week(3))
    with pytest.raises(RolledBackError, match="rolled back at canary_10: as written; the champion serves"):
        run_rollout_step(workspace, version, 1, week(3))
    for number, index in product((3, 4, 9), range(4)):
        with pytest.raises(RolledBackError, match="canary_10: as written"):
            run_rollout_step(workspace, version, index, week(number))
    assert dict(workspace.state().quarantined.items()) == {"2": "canary_10: as written"}
    assert workspace.registry.aliases() == {"champion": "1"}
    with pytest.raises(NotReadyError, match="there is no candidate"):
        start_rollout(workspace, week(4))


@pytest.mark.parametrize(
    "point", ["rollout_started.after", "stage_entered.after", "stage_analysed.after", "rolled_back.after"]
)
def test_a_failure_stands_wherever_the_process_died_and_whatever_later_looks_would_say(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    workspace = challenged(tmp_path, stages=[{"canary": 10}, {"live": 100}])
    script(["fail", "pass", "pass"])
    monkeypatch.setenv("AIRFLOW_MLOPS_FAULT", f"ledger.{point}:raise")
    with pytest.raises(RuntimeError, match=f"fault injected at ledger.{point}"):
        run_dag(workspace, 3)
    monkeypatch.delenv("AIRFLOW_MLOPS_FAULT")
    for number in (4, 5):
        assert run_dag(workspace, number) in ("RolledBackError", "NotReadyError")
    assert list(workspace.state().quarantined) == ["2"]
    assert traffic(workspace) == 0
    roll_out.reconcile(workspace)
    assert workspace.registry.aliases() == {"champion": "1"}


@pytest.mark.parametrize(
    "point",
    [
        "ledger.rollout_started.after",
        "ledger.stage_entered.after",
        "ledger.stage_analysed.after",
        "ledger.promoted.before",
        "ledger.promoted.after",
        "registry.set_alias.champion.after",
    ],
)
def test_a_promotion_that_died_anywhere_is_finished_by_the_retry_with_one_champion(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    workspace = challenged(tmp_path, stages=[{"shadow": 100}, {"live": 100}])
    script(["pass", "pass"])
    monkeypatch.setenv("AIRFLOW_MLOPS_FAULT", f"{point}:raise")
    with pytest.raises(RuntimeError, match=point):
        run_dag(workspace, 3)
    monkeypatch.delenv("AIRFLOW_MLOPS_FAULT")
    for index in (0, 1):
        if workspace.state().rollout is not None or list(workspace.state().promotions.values())[-1] == "2":
            run_rollout_step(workspace, "2", index, week(3))
    assert traffic(workspace) == 100
    assert workspace.registry.aliases() == {"champion": "2"}
    assert len(workspace.state().promotions) == 2
    verify_chain(list(workspace.ledger.records()))


def test_there_is_one_rollout_at_a_time_and_starting_again_goes_on_with_it(tmp_path: Path, script: Script) -> None:
    workspace = challenged(tmp_path)
    script([])
    assert start_rollout(workspace, week(3)) == "2"
    History(workspace.ledger).register(4, "3")
    before = list(workspace.ledger.records())
    assert start_rollout(workspace, week(4)) == "2"
    assert list(workspace.ledger.records()) == before
    with pytest.raises(NotReadyError, match="version 3 is not being rolled out"):
        run_rollout_step(workspace, "3", 0, week(4))


def test_a_candidate_older_than_the_champion_is_superseded(tmp_path: Path) -> None:
    workspace = challenged(tmp_path)
    History(workspace.ledger).promote(5, "3")
    # Its candidate came late: an older training that ended after the newer one had been promoted.
    History(workspace.ledger).register(3, "2")
    with pytest.raises(NotReadyError, match=r"version 2 was made as of 2013-01-27.*the champion 3 is newer"):
        start_rollout(workspace, week(5))
    state = workspace.state()
    assert (state.candidate, state.rollout, state.in_flight) == (None, None, None)
    assert list(workspace.ledger.records())[-1].kind == "superseded"
    assert workspace.registry.aliases() == {"champion": "3"}


def test_a_run_for_an_older_partition_starts_and_moves_nothing(tmp_path: Path, script: Script) -> None:
    workspace = challenged(tmp_path)
    script(["pass"] * 5)
    with pytest.raises(NotReadyError, match="there is no candidate from up to"):
        start_rollout(workspace, week(2))
    version = start_rollout(workspace, week(3))
    before = list(workspace.ledger.records())
    with pytest.raises(NotReadyError, match="is older"):
        run_rollout_step(workspace, version, 0, week(2))
    assert list(workspace.ledger.records()) == before
    assert workspace.state(as_of=week(2)).rollout is None


def test_a_move_decided_on_an_old_record_loses_and_is_decided_again(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = challenged(tmp_path, stages=[{"live": 100}])
    script([])
    version = start_rollout(workspace, week(3))
    append, interrupted = workspace.ledger.append, [False]

    def behind_somebody_else(draft: Any, *, read: int) -> Any:
        if draft.kind == "promoted" and not interrupted[0]:
            interrupted[0] = True
            append(
                draft_of(workspace, "snapshot_published", "elsewhere", week(4), version=1, digest="d", columns={}),
                read=read,
            )
            with pytest.raises(StaleLedgerError):
                append(draft, read=read)
            raise StaleLedgerError("another record came first")
        return append(draft, read=read)

    monkeypatch.setattr(workspace.ledger, "append", behind_somebody_else)
    run_rollout_step(workspace, version, 0, week(3))
    assert [each.kind for each in list(workspace.ledger.records())[-2:]] == ["snapshot_published", "promoted"]
    assert traffic(workspace) == 100


def real_loop(tmp_path: Path, slopes: Sequence[float], **rollout: Any) -> Workspace:
    """Return a loop on real models: champion 1 as of week 2, candidate 2 as of the last but one week."""
    stages = [{"shadow": 100}, {"canary": 50}, {"live": 100}]
    loop = toy_loop(
        rollout={"stages": stages, "min_rows": 20, **rollout},
        gates=[{"metric": "mae", "at_most": 99}],
        retrain={"confidence": "none"},
    )
    frames = {week(number): toy_rows(number, slope=slope, rows=400) for number, slope in enumerate(slopes)}
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path)
    for number in range(len(slopes)):
        ingest(workspace, week(number))
        if number > 2:
            score_partition(workspace, week(number))
        if number == 2:
            train(workspace, week(number))
            assert run_dag(workspace, number) is None
        if number == len(slopes) - 2:
            train(workspace, week(number))
    return workspace


def test_a_challenger_that_learnt_the_new_slope_goes_live_on_real_rows(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6])
    assert run_dag(workspace, 6) is None
    state = workspace.state()
    assert state.champion is not None
    assert state.champion.number == "2"
    looks = [each.details for each in list(workspace.ledger.records()) if each.kind == "stage_analysed"]
    assert [look.verdict for look in looks] == ["pass", "pass"]
    # Shadow looks at every row, a canary at the keys of its share.
    assert looks[0].rows == 400
    assert 150 < looks[1].rows < 250


def test_a_look_keeps_what_the_gate_expected_beside_what_it_saw(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6])
    assert run_dag(workspace, 6) is None
    start = next(each for each in list(workspace.ledger.records())[::-1] if each.kind == "rollout_started")
    look = next(each.details for each in workspace.ledger.records() if each.kind == "stage_analysed")
    report = workspace.evidence.get(workspace.state().versions["2"].details.report)
    gate = report["candidates"][0]["metric_reports"]["mae"]["champion"]
    both = look.offline
    assert (both["metric"], both["expected"]) == ("mae", gate["difference"])
    assert both["observed"] == look.metrics[0]["numbers"]["difference"]
    # The gate judged it on the half-new week before: what it saw is no promise, and the look says whether it held.
    assert both["agree"] == (both["expected_low"] <= both["observed"] <= both["expected_high"])
    assert "mae against the champion: the gate expected" in as_markdown(model_card(workspace, "2"))
    # And before the start it was said what the stages can find.
    assert [sentence.split(":")[0] for sentence in start.details.plan] == ["shadow_100", "canary_50"]
    assert "400" in start.details.plan[0] or "2,000 labelled rows" in start.details.plan[0]


def test_a_challenger_that_learnt_a_passing_slope_is_rolled_back_on_real_rows(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 2, 2])
    assert run_dag(workspace, 6) == "RolledBackError"
    state = workspace.state()
    assert state.champion is not None
    assert (state.champion.number, list(state.quarantined)) == ("1", ["2"])
    assert "shadow_100: worse: 3.3" in state.quarantined["2"]


def test_a_shadow_of_a_share_looks_at_the_keys_of_that_share(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6], stages=[{"shadow": 50}, {"live": 100}])
    assert run_dag(workspace, 6) is None
    (look,) = [each.details for each in list(workspace.ledger.records()) if each.kind == "stage_analysed"]
    assert 150 < look.rows < 250


def test_too_few_rows_hold(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6], min_rows=1_000)
    assert run_dag(workspace, 6) == "NotReadyError"
    assert "400 labelled rows, 1,000 are needed" in str(list(workspace.ledger.records())[-1].details.reason)


def test_a_challenger_that_cannot_predict_is_rolled_back_and_serves_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6], stages=[{"canary": 50}, {"live": 100}])

    words = "the model raised KeyError in predict: 'x'"

    def unable(*_: object) -> object:
        raise ChallengerFailedError(words)

    by_champion = WorkerPredictor.predict

    def predict(predictor: WorkerPredictor, version: Version, rows: RowsToScore) -> Any:
        if version.number == "2":
            raise TrainingError(words)
        return by_champion(predictor, version, rows)

    monkeypatch.setattr(analyse_rows, "predict_challenger", unable)
    monkeypatch.setattr(WorkerPredictor, "predict", predict)
    start_rollout(workspace, week(6))
    workspace.record_fact(
        draft_of(workspace, "stage_entered", "s", week(6), version="2", stage=0, kind="canary", share=50)
    )
    workspace.source.frames[week(7)] = toy_rows(7, slope=6)  # type: ignore[attr-defined]
    ingest(workspace, week(7))
    assert score_partition(workspace, week(7)).served == {"1": 120}
    assert run_dag(workspace, 7) == "RolledBackError"
    assert "the challenger cannot predict: the model raised KeyError" in workspace.state().quarantined["2"]


def test_a_stage_that_bakes_waits_for_its_partitions_and_looks_at_all_of_them(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6], stages=[{"shadow": 100, "bake": 2}, {"live": 100}])
    assert run_dag(workspace, 6) == "NotReadyError"
    for number, ended in ((7, "NotReadyError"), (8, None)):
        workspace.source.frames[week(number)] = toy_rows(number, slope=6)  # type: ignore[attr-defined]
        ingest(workspace, week(number))
        score_partition(workspace, week(number))
        assert run_dag(workspace, number) == ended
    looks = [each.details for each in list(workspace.ledger.records()) if each.kind == "stage_analysed"]
    assert [look.verdict for look in looks[-3:]] == ["inconclusive", "inconclusive", "pass"]
    assert "1 of 2 partitions were scored" in looks[-2].reason
    assert looks[-1].rows == 240


def test_without_labels_a_look_is_inconclusive(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6])
    workspace.source.frames[week(7)] = toy_rows(7).assign(y=float("nan"))  # type: ignore[attr-defined]
    ingest(workspace, week(7))
    score_partition(workspace, week(7))
    assert run_dag(workspace, 7) == "NotReadyError"
    assert (
        list(workspace.ledger.records())[-1].details.reason
        == "0 labelled rows, 20 are needed to say; 120 of 120 rows have no label"
    )
