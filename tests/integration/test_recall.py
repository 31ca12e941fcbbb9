"""An earlier champion whose season comes back is recalled, judged like every candidate, and rolled out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.ledger.training_details import CandidateRegistered, VersionRecalled
from airflow_mlops.core.registry.load import copy_folder
from airflow_mlops.core.replay.compare_policies import PolicyComparison
from airflow_mlops.core.replay.fit_history import fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.manual_rollback import roll_back_now
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.workspace import Workspace
from tests.integration.test_replay import assert_lived_as_replayed
from tests.unit.core.toy_loop import ingest, week
from tests.unit.core.watch.living_toy import live, live_through, loop_of_slopes

SUMMER, WINTER = 2.0, -2.0
SEASONS = [SUMMER] * 5 + [WINTER] * 5 + [SUMMER] * 5 + [WINTER] * 3
FIELDS: dict[str, Any] = {
    "gates": [{"metric": "mae", "at_most": 5}],
    "retrain": {"policy": {"regret": 0.2}},
    "rollout": {"stages": [{"canary": 50}, {"live": 100}]},
    "watch": {"performance": {"metric": "mae", "worse_by": 0.3}},
}


@pytest.fixture(scope="module")
def seasons(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = loop_of_slopes(tmp_path_factory.mktemp("seasons"), SEASONS, rows=200, **FIELDS)
    live(workspace, len(SEASONS))
    return workspace


def recalls(workspace: Workspace) -> list[Any]:
    return list(workspace.ledger.records(VersionRecalled))


def test_dump(seasons: Workspace) -> None:
    from airflow_mlops.core.overview.sentences import describe_record, is_decision

    for r in seasons.ledger.records():
        if is_decision(r):
            print(r.partition[:10], r.kind, describe_record(r)[:150])
    assert recalls(seasons)


def test_the_loop_recalls_as_its_replay_says(seasons: Workspace) -> None:
    assert_lived_as_replayed(seasons, fit_history(seasons, past_partitions(seasons), processes=1))
