"""Replay: what it says a policy would have done is what the loop does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Clock, Retrain
from airflow_mlops.core.errors import DeclarationError, NotReadyError
from airflow_mlops.core.ledger.training_details import CandidateRefused, RetrainDecided
from airflow_mlops.core.replay.compare_policies import PolicyComparison, PolicyFigures, clock_times, policy_of
from airflow_mlops.core.replay.fit_history import FittedHistory, fit_history, window_positions
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.replay.replay_picture import draw_replay
from airflow_mlops.core.replay.replay_report import advice, limit_lines, report_replay, table
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week
from tests.unit.core.watch.living_toy import live, loop_of_slopes

SLOPES = [2.0] * 5 + [4.0] * 9
WATCHED: dict[str, Any] = {"performance": {"metric": "mae", "worse_by": 0.3}}
POLICIES: dict[str, dict[str, Any]] = {
    "regret": {"policy": {"regret": 0.2}, "cooldown": 1},
    "alarm": {"policy": "alarm", "alarm": {"windows": 1, "of": 2}, "cooldown": 2},
    "clock": {"policy": {"clock": 3}, "cooldown": 0, "budget": 3},
}


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    """Return the same weeks, lived through under each policy."""
    by_name = {}
    for name, retrain in POLICIES.items():
        workspace = loop_of_slopes(tmp_path_factory.mktemp(name), SLOPES, rows=200, retrain=retrain, watch=WATCHED)
        live(workspace, len(SLOPES))
        by_name[name] = workspace
    return by_name


@pytest.fixture(scope="module")
def history(workspaces: dict[str, Workspace]) -> FittedHistory:
    """Return all models of these weeks."""
    workspace = workspaces["regret"]
    return fit_history(workspace, past_partitions(workspace), processes=1)


@pytest.fixture(scope="module")
def comparison(history: FittedHistory) -> PolicyComparison:
    """Return the policies side by side."""
    return PolicyComparison(history)


@pytest.mark.parametrize("name", POLICIES)
def test_the_loop_decides_as_its_replay_says(
    name: str, workspaces: dict[str, Workspace], history: FittedHistory
) -> None:
    workspace = workspaces[name]
    assert_lived_as_replayed(workspace, replace(history, loop=workspace.loop))


def assert_lived_as_replayed(workspace: Workspace, history: FittedHistory) -> None:
    """Assert that decisions, promotions and served metrics of a loop are those of its replay."""
    replayed = PolicyComparison(history).replay("declared")
    keys = [partition.key for partition in history.partitions]
    lived_through = [
        (record.partition, record.details.trigger, record.details.retrain, record.details.cause)
        for record in workspace.ledger.records(RetrainDecided)
    ]
    decisions = [
        (decision["partition"], decision["trigger"], decision["retrain"], decision["cause"])
        for decision in replayed.decisions
    ]
    assert decisions == lived_through
    assert [keys[at] for at in replayed.promoted] == [key.partition("|")[0] for key in workspace.state().promotions]
    assert len(replayed.promoted) > 1
    for position, loss in replayed.losses.items():
        judged = workspace.state().performance.get(keys[position])
        if judged is not None and judged.value is not None:
            assert loss == pytest.approx(judged.value, rel=1e-12)


def test_retrains_that_do_not_help_come_to_an_end_until_the_stream_changes(tmp_path: Path) -> None:
    slopes = [2.0] * 3 + [2.15] * 11 + [6.0] * 4
    retrain = {"policy": {"regret": 0.01}, "cooldown": 0, "confidence": 0.999}
    gates = [{"metric": "mae", "at_most": 99}]
    workspace = loop_of_slopes(
        tmp_path, slopes, rows=200, retrain=retrain, gates=gates, rollout={"stages": [{"live": 100}]}
    )
    decided = live(workspace, len(slopes))
    refusals = [record.details for record in workspace.ledger.records(CandidateRefused)]
    escalated = [
        record.details.reason
        for record in workspace.ledger.records(RetrainDecided)
        if record.details.cause == "escalated"
    ]
    assert len({refusal.setup for refusal in refusals}) == 1
    assert all(refusal.loss_change is not None and abs(refusal.loss_change) < 0.1 for refusal in refusals[:3])
    changes = ", ".join(f"{refusal.loss_change:+.1%}" for refusal in refusals[:3])
    assert escalated[0].startswith(f"the last 3 retrains since the promotion changed the loss by {changes}, and none")
    assert not [
        key for key in decided if week(9) <= key < week(13)
    ]  # each asked for one, as the regret stays where it is
    assert workspace.state().promoted_at >= week(14)
    assert_lived_as_replayed(workspace, fit_history(workspace, past_partitions(workspace), processes=1))


def test_nightly_has_the_whole_benefit_and_never_has_none(comparison: PolicyComparison) -> None:
    last = len(SLOPES)
    nightly, never = (comparison.figures(name, comparison.after_first, last) for name in ("nightly", "never"))
    assert (nightly.benefit, nightly.share) == (1.0, 1.0)
    assert never.benefit == 0.0
    assert never.promotions <= 1
    regret = comparison.figures("regret:0.2", comparison.after_first, last)
    assert regret.benefit is not None
    assert regret.benefit > 0.5
    assert regret.promotions < nightly.promotions


def test_a_dearer_promotion_is_made_less_often(comparison: PolicyComparison) -> None:
    promotions = [len(comparison.replay(f"regret:{cost}").promoted) for cost in (0.02, 0.2, 1.0, 20.0)]
    assert promotions == sorted(promotions, reverse=True)
    assert promotions[-1] == 1


def test_the_report_names_a_cost_it_did_not_judge_on_the_weeks_it_chose_it_on(
    comparison: PolicyComparison, tmp_path: Path
) -> None:
    replayed: list[str] = []
    report = report_replay(comparison, ["declared", "never", "nightly"], split=week(8), progress=replayed.append)
    assert report.partitions[report.split - 1] == week(8)
    assert replayed[-1] == f"regret:{report.cost:g}" if report.cost else replayed[-1] == "nightly"
    assert {figures.name for figures in report.later} >= {"declared", "never", "nightly"}
    assert json.loads(json.dumps(report.to_dict()))["suggested_until"] == week(8)
    lines = table(report.later, "mae")
    assert len(lines) == len(report.later) + 1
    assert len({len(line) for line in lines}) == 1
    draw_replay(report, tmp_path / "replay.png")
    assert (tmp_path / "replay.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("split", [week(1), week(13), week(40)])
def test_a_split_that_leaves_nothing_on_one_side_is_refused(comparison: PolicyComparison, split: str) -> None:
    with pytest.raises(NotReadyError, match="partitions; none of them"):
        report_replay(comparison, ["never"], split=split)


def figures(name: str, benefit: float | None, clock: float | None, promotions: int = 5) -> PolicyFigures:
    return PolicyFigures(name, 1.0, benefit, promotions, promotions / 20, clock)


def test_every_policy_has_its_mark_inside_the_picture_and_its_figure_beside(
    comparison: PolicyComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_replay(comparison, ["never", "nightly"], split=week(8))
    beyond = (
        figures("better than nightly", 1.3, 1.1),
        figures("harmful", -7.0, 0.2),
        figures("far beyond", 9.0, -3.0),
        figures("unknown", None, None),
        figures("nightly", 1.0, 1.0, 20),
    )
    monkeypatch.setattr(plt, "close", lambda drawing: None)
    draw_replay(replace(report, whole=beyond, later=beyond[3:4]), tmp_path / "replay.png")
    drawing = plt.gcf()
    monkeypatch.undo()
    plt.close(drawing)
    whole, later = drawing.axes
    low, high = whole.get_xlim()
    clocks, benefits = ({row: at for at, row in zip(*line.get_data(), strict=True)} for line in whole.lines)
    names = [label.get_text() for label in whole.get_yticklabels()]
    for row, name in enumerate(names):
        if name == "unknown":
            assert np.isnan([clocks[row], benefits[row]]).all()
        else:
            assert low < clocks[row] < high
            assert low < benefits[row] < high
    assert benefits[names.index("better than nightly")] == 1.3
    assert {text.get_text() for text in whole.texts} == {
        "130% at 25%",
        "-700% at 25%",
        "900% at 25%",
        "unknown at 25%",
        "100% at 100%",
    }
    assert [text.get_text() for text in later.texts] == ["unknown at 25%"]


@pytest.mark.parametrize(
    ("suggested", "policy_figures", "words"),
    [
        ("regret:0.1", figures("regret:0.1", 0.95, 0.80), "an equal clock, mean over its phases, keeps 80%"),
        (
            "regret:0.1",
            figures("regret:0.1", 0.95, 0.95),
            "a plain clock is as good here: retrain: {policy: {clock: 4}}",
        ),
        ("regret:0.1", figures("regret:0.1", 0.95, 0.99), "a plain clock is as good here"),
        ("regret:0.1", figures("regret:0.1", None, None), "cannot be judged"),
        ("clock:4", figures("clock:4", 0.97, 0.97), "no cost of a promotion was as good"),
        (None, figures("never", 0.0, None), "a person should look"),
    ],
)
def test_the_advice_says_when_a_plain_clock_is_as_good(
    suggested: str | None, policy_figures: PolicyFigures, words: str
) -> None:
    assert words in advice(suggested, [policy_figures])


def test_a_cost_that_a_clock_outdoes_later_is_not_advised() -> None:
    later = [figures("regret:0.5", 0.0, None, 0), figures("clock:2", 1.0, 1.0, 10), figures("clock:4", 0.9, 0.9)]
    words = advice("regret:0.5", later)
    assert words.startswith("retrain: {policy: {clock: 4}}: from the middle on it keeps 90% of the nightly benefit")
    assert "the cost that did best before, 0.5, keeps 0% with 0%" in words


def test_where_no_regret_can_be_measured_a_clock_is_suggested(tmp_path: Path) -> None:
    frames = {week(number): toy_rows(number, rows=15, slope=float(number)) for number in range(16)}
    loop = toy_loop(gates=[{"metric": "mae", "at_most": 99}], rollout={"stages": [{"live": 100}]})
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path)
    for key in frames:
        ingest(workspace, key)
    comparison = PolicyComparison(fit_history(workspace, past_partitions(workspace), processes=2))
    report = report_replay(comparison, ["never", "nightly"])
    assert (report.suggested, report.cost) == ("clock:4", None)
    assert "clock:4" in {row.name for row in report.later}


def test_a_limit_that_keeps_promotions_back_is_named_with_what_it_cost(comparison: PolicyComparison) -> None:
    retrain = Retrain(policy=Clock(clock=1), cooldown=6, budget=1_000, confidence="none")
    limited = PolicyComparison(
        replace(comparison.history, loop=comparison.loop.model_copy(update={"retrain": retrain}))
    )
    report = report_replay(limited, ["declared"], split=week(8))
    (name, points) = next(iter(report.limits.items()))
    figures_of = {name: limited.figures(name, limited.after_first, len(SLOPES)) for name in ("declared", "nightly")}
    assert name == "cooldown"
    assert points == pytest.approx(100 * (figures_of["nightly"].benefit - figures_of["declared"].benefit))
    assert limit_lines(report) == [
        f"the cooldown cost {points:.0f} points of the nightly benefit: without it the declared policy keeps more"
    ]


def test_the_clock_beside_a_policy_promotes_as_often_at_any_phase() -> None:
    for promotions in (1, 2, 3, 7):
        for phase in (0.06, 0.5, 0.94):
            times = clock_times(promotions, 10, 40, phase)
            assert len(times) == promotions
            assert all(10 <= at < 40 for at in times)


@pytest.mark.parametrize("words", ["sometimes", "clock", "clock:x", "clock:0", "regret:-1", "never:2", "alarm:3/2", ""])
def test_a_policy_that_is_none_is_refused_by_name(words: str) -> None:
    with pytest.raises(DeclarationError, match="no policy"):
        policy_of(toy_loop(), words)


def test_a_named_policy_is_replayed_without_cooldown_and_budget_and_the_declared_one_with_both() -> None:
    loop = toy_loop(retrain={"policy": {"clock": 2}, "cooldown": 5, "budget": 3})
    assert policy_of(loop, "declared") is loop
    assert policy_of(loop, "nightly").retrain.cooldown == 0
    assert policy_of(loop, "alarm:1/2").retrain.alarm.of == 2


def test_the_window_of_a_replay_is_that_of_a_training() -> None:
    assert window_positions(toy_loop(), 5) == ((3, 4), (5,))
    everything = Loop(**{**toy_loop().to_dict(), "train": {"function": "a:b", "window": "all", "holdout": 2}})
    assert window_positions(everything, 4) == ((0, 1, 2), (3, 4))


def test_too_short_a_history_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [2.0] * 3)
    live(workspace, 3)
    with pytest.raises(NotReadyError, match="3 partitions are published; a replay needs 4"):
        past_partitions(workspace)


def test_a_candidate_that_cannot_be_fitted_leaves_a_history_without_champions(tmp_path: Path) -> None:
    workspace = loop_of_slopes(tmp_path, [2.0] * 5)
    live(workspace, 5)
    train = workspace.loop.train.model_copy(update={"function": "tests.unit.core.toy_loop:breaking"})
    object.__setattr__(workspace, "loop", workspace.loop.model_copy(update={"train": train}))
    fitted = fit_history(workspace, past_partitions(workspace), processes=1)
    assert "rows are too many" in str(fitted.models[2]["breaking"].failed)
    assert PolicyComparison(fitted).replay("nightly").promoted == []


def test_weeks_whose_labels_never_came_refuse_their_candidates_and_the_replay_goes_on(
    history: FittedHistory,
) -> None:
    unlabelled = [
        replace(partition, label=np.full(len(partition.label), np.nan)) if place in (2, 3, 7) else partition
        for place, partition in enumerate(history.partitions)
    ]
    comparison = PolicyComparison(replace(history, partitions=unlabelled))
    nightly = comparison.replay("nightly")
    assert nightly.refused == [2, 3]
    assert nightly.promoted[0] == 4
    assert set(nightly.losses) == set(range(5, len(SLOPES))) - {7}


def test_models_that_are_fitted_elsewhere_are_not_replayed(tmp_path: Path) -> None:
    runs_on = {"kind": "interpreter", "python": "other/bin/python"}
    workspace = loop_of_slopes(tmp_path, [2.0] * 5)
    live(workspace, 5)
    partitions = past_partitions(workspace)
    object.__setattr__(workspace, "loop", toy_loop(train={**toy_loop().to_dict()["train"], "runs_on": runs_on}))
    with pytest.raises(DeclarationError, match="it needs 'worker'"):
        fit_history(workspace, partitions, processes=1)
