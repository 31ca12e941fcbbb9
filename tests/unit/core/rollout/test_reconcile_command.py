"""``airflow-mlops reconcile`` prints its repairs, and fails if a released version is gone or was changed."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from airflow_mlops.cli import loop_commands
from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return a loop whose champion is version 1; the command line finds it."""
    loop = toy_loop(rollout={"stages": [{"live": 100}]})
    workspace = in_memory_workspace(loop, {week(number): toy_rows(number) for number in range(3)}, scratch=tmp_path)
    for number in range(3):
        ingest(workspace, week(number))
    train(workspace, week(2))
    start_rollout(workspace, week(2))
    run_rollout_step(workspace, "1", 0, week(2))
    monkeypatch.setattr(loop_commands, "workspace_of", lambda _: workspace)
    return workspace


def test_it_says_what_it_repaired(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    loop_commands.reconcile_aliases(argparse.Namespace(json=False))
    assert capsys.readouterr().out == "nothing to repair: who serves, and every alias, is what the ledger says\n"
    workspace.registry.set_alias("champion", None)
    loop_commands.reconcile_aliases(argparse.Namespace(json=False))
    assert capsys.readouterr().out == "alias champion was absent, is now 1\n"


def test_it_fails_where_a_released_version_was_changed(workspace: Workspace) -> None:
    assert isinstance(workspace.registry, InMemoryRegistry)
    workspace.registry.versions[0].content = b"tampered"
    with pytest.raises(RegistryError, match=r"version 1, the champion, was changed in the registry"):
        loop_commands.reconcile_aliases(argparse.Namespace(json=False))
