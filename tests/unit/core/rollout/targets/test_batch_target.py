"""The batch target serves the traffic of the ledger, from the next partition on, without being changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.rollout_target import OlderTrafficError
from airflow_mlops.core.rollout.reconcile_target import reconcile_target
from airflow_mlops.core.rollout.roll_out import enter_stage, start_rollout
from tests.unit.core.toy_loop import loop_with_champion, train, week


def test_it_serves_what_the_ledger_says_and_refuses_what_it_said_before(tmp_path: Path) -> None:
    workspace = loop_with_champion(tmp_path)
    alone = workspace.target.observe()
    assert (workspace.target.name, alone.champion, alone.challenger) == ("batch", "1", None)
    train(workspace, week(3))
    enter_stage(workspace, start_rollout(workspace, week(3)), 0, week(3))
    both = workspace.target.observe()
    assert (both.champion, both.challenger, both.kind, both.exposed) == ("1", "2", "shadow", 0.0)
    assert reconcile_target(workspace) == []
    with pytest.raises(OlderTrafficError):
        workspace.target.apply(alone)
    with pytest.raises(OlderTrafficError):
        workspace.target.rollback(alone)


def test_it_is_prepared_for_a_version_that_can_be_loaded_and_for_no_other(tmp_path: Path) -> None:
    workspace = loop_with_champion(tmp_path)
    version = workspace.state().versions["1"]
    workspace.target.prepare(version)
    other = Version("1", version.partition, replace(version.details, artefact="0" * 64))
    with pytest.raises(RegistryError, match="was changed"):
        workspace.target.prepare(replace(other))
