"""A rollout, its analyses, replays and the past of features over rows whose key has several columns."""

from __future__ import annotations

from contextlib import suppress

import pytest

from airflow_mlops.core.data.point_in_time import History
from airflow_mlops.core.errors import NotReadyError, TrainingError
from airflow_mlops.core.replay.compare_policies import PolicyComparison
from airflow_mlops.core.replay.fit_history import fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.rollout.analyse_rows import compare_rows
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.watch.training_serving_skew import replay_rows
from airflow_mlops.core.workspace import Workspace
from tests.integration.order_lines import COLUMN, CONTRACT, ingest, open_lines, published, put
from tests.unit.core.toy_loop import go_live, train, week

SHARE = 40


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a loop whose version 1 is live and whose version 2 is a canary since week 3; week 4 is scored by both."""
    workspace = open_lines(tmp_path_factory.mktemp("lines"), stages=[{"canary": SHARE}, {"live": 100}])
    for number in range(4):
        put(workspace, number)
        ingest(workspace, number)
    go_live(workspace, week(2))
    score_partition(workspace, week(3))
    train(workspace, week(3))
    with suppress(NotReadyError):
        run_rollout_step(workspace, start_rollout(workspace, week(3)), 0, week(3))
    put(workspace, 4)
    ingest(workspace, 4)
    score_partition(workspace, week(4))
    return workspace


def test_a_share_of_the_lines_is_served_by_the_challenger(workspace: Workspace) -> None:
    rollout = workspace.state().rollout
    assert rollout is not None
    rows = workspace.predictions.read(week(4)).to_pydict()
    by_challenger = sticky_share(rows["key"], salt=rollout.salt, percent=SHARE)
    assert rows["served_version"] == ["2" if challenger else "1" for challenger in by_challenger]
    assert set(rows["served_version"]) == {"1", "2"}
    assert sorted(rows["key"]) == published(workspace, 4)[COLUMN].tolist()


def test_an_analysis_compares_the_lines_that_the_challenger_serves(workspace: Workspace) -> None:
    state, stage = workspace.state(), workspace.loop.rollout.stages[0]
    assert state.rollout is not None
    compared = compare_rows(workspace, state, stage, [week(3), week(4)])
    keys = [key for number in (3, 4) for key in published(workspace, number)[COLUMN]]
    by_challenger = sticky_share(keys, salt=state.rollout.salt, percent=SHARE)
    assert sorted(compared.keys) == sorted(key for key, chosen in zip(keys, by_challenger, strict=True) if chosen)


def test_the_rows_of_a_row_by_row_replay_are_named_by_their_key(workspace: Workspace) -> None:
    report = replay_rows(workspace, week(4))
    assert (report.difference, report.features) == (None, 1)


def test_the_past_has_the_parts_and_the_whole_key(workspace: Workspace) -> None:
    rows = History(workspace, week(2)).rows()
    assert set(rows.columns) == {*CONTRACT["columns"], COLUMN}
    assert rows.dtypes[["order_id", "line"]].astype(str).tolist() == ["int64", "int64"]
    only = History(workspace, week(2)).rows(partitions=1, columns=["line", "y"])
    assert only.columns.tolist() == ["line", "y"]
    assert History(workspace, week(0)).rows(columns=[COLUMN, "line"]).columns.tolist() == [COLUMN, "line"]
    with pytest.raises(TrainingError, match="no column 'lien'"):
        History(workspace, week(2)).rows(columns=["lien"])


def test_a_policy_is_replayed_over_these_rows(workspace: Workspace) -> None:
    partitions = past_partitions(workspace)
    assert [sorted(map(str, partition.keys)) for partition in partitions] == [
        published(workspace, number)[COLUMN].tolist() for number in range(5)
    ]
    replayed = PolicyComparison(fit_history(workspace, partitions, processes=1)).replay("nightly")
    assert len(replayed.promoted) > 0
    assert all(0.5 < loss < 1.5 for loss in replayed.losses.values())
