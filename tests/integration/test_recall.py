"""Where a season comes back, its champion comes back: the same in a loop, in a replay of it, and in the regret."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_mlops.core.ledger.training_details import CandidateRegistered, VersionRecalled
from airflow_mlops.core.replay.compare_policies import PolicyComparison
from airflow_mlops.core.replay.fit_history import FittedHistory, fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.replay.replay_report import recall_lines, report_replay
from airflow_mlops.core.workspace import Workspace
from tests.integration.test_replay import assert_lived_as_replayed
from tests.unit.core.toy_loop import week
from tests.unit.core.watch.living_toy import live, loop_of_slopes

SUMMER, WINTER = 2.0, -2.0
SEASONS = [SUMMER] * 5 + [WINTER] * 5 + [SUMMER] * 5 + [WINTER] * 3
FIELDS: dict[str, Any] = {
    "gates": [{"metric": "mae", "at_most": 5}],
    "rollout": {"stages": [{"canary": 50}, {"live": 100}], "min_rows": 50},
    "watch": {"performance": {"metric": "mae", "worse_by": 0.3}},
}
RETRAIN: dict[str, Any] = {"policy": {"regret": 0.2}}


def lived(folder: Any, **retrain: Any) -> Workspace:
    workspace = loop_of_slopes(folder, SEASONS, rows=200, retrain={**RETRAIN, **retrain}, **FIELDS)
    live(workspace, len(SEASONS))
    return workspace


@pytest.fixture(scope="module")
def seasons(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return two years of two seasons, lived through with recall as it is by default."""
    return lived(tmp_path_factory.mktemp("seasons"))


@pytest.fixture(scope="module")
def history(seasons: Workspace) -> FittedHistory:
    """Return all models of these weeks."""
    return fit_history(seasons, past_partitions(seasons), processes=1)


def test_each_season_after_the_first_year_brings_its_champion_back(seasons: Workspace) -> None:
    assert [record.details.version for record in seasons.ledger.records(CandidateRegistered)] == ["1", "2"]
    recalled = [(str(record.partition), record.details.version) for record in seasons.ledger.records(VersionRecalled)]
    assert recalled == [(week(11), "1"), (week(16), "2")]
    state = seasons.state()
    assert state.champion is not None
    assert (state.champion.number, state.promoted_at, state.champions_before) == ("2", week(16), ["1"])
    assert seasons.registry.aliases() == {"champion": "2"}
    assert list(state.promotions.values()) == ["1", "2", "1", "2"]


def test_the_regret_is_that_against_the_champion_of_the_season_once_a_training_could_have_known(
    seasons: Workspace,
) -> None:
    regret = seasons.state().regret
    # Week 10 is the first of the second summer: as of week 9 the champion of winter was the best there is.
    assert regret[week(10)].recalled is None
    second = regret[week(11)]
    assert second.recalled == "1"
    assert None not in (second.regret, second.fresh_value, second.champion_value)
    assert second.regret > 2  # the fresh fit of that week knows winter alone
    assert second.fresh_value < 1 < second.champion_value
    assert "version 1, the best one to recall as of" in second.message


def test_a_loop_that_recalls_decides_as_its_replay_says(seasons: Workspace, history: FittedHistory) -> None:
    assert_lived_as_replayed(seasons, history)


def test_a_loop_without_recall_decides_as_the_replay_without_it_says(
    tmp_path_factory: pytest.TempPathFactory, history: FittedHistory
) -> None:
    without = lived(tmp_path_factory.mktemp("without"), recall=0)
    assert not list(without.ledger.records(VersionRecalled))
    assert len(list(without.ledger.records(CandidateRegistered))) > 2
    assert_lived_as_replayed(without, replace(history, loop=without.loop))
    named, own = (
        PolicyComparison(replace(history, loop=loop)).replay(name)
        for loop, name in ((history.loop, "declared without recall"), (without.loop, "declared"))
    )
    assert (named.promoted, named.losses, named.recalled) == (own.promoted, own.losses, [])


def test_the_report_says_what_recall_brought(history: FittedHistory) -> None:
    comparison = PolicyComparison(history)
    report = report_replay(comparison, ["declared"], split=week(10))
    assert report.recall is not None
    with_recall, without = (
        comparison.figures(name, report.first, len(SEASONS)) for name in ("declared", "declared without recall")
    )
    assert report.recall.points == pytest.approx(100 * (with_recall.benefit - without.benefit))
    assert report.recall.points > 10
    assert (report.recall.recalled, report.recall.fits) == (2, with_recall.fits)
    assert report.recall.fits_without == without.fits > with_recall.fits
    (line,) = recall_lines(report)
    assert line.startswith(
        f"recall brought {report.recall.points:.0f} points of the nightly benefit: 2 trainings ended"
    )
    assert report.to_dict()["recall"] == report.recall.to_dict()
    loop = history.loop.model_copy(update={"retrain": history.loop.retrain.model_copy(update={"recall": 0})})
    switched_off = report_replay(PolicyComparison(replace(history, loop=loop)), ["declared"], split=week(10))
    assert (switched_off.recall, recall_lines(switched_off)) == (None, [])
