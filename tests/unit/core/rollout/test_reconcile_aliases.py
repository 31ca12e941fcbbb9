"""Reconcile: the registry's aliases follow the ledger after any change."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from airflow_mlops.core.ports.registry import RegistryUnavailableError
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.roll_out import start_rollout
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import loop_with_champion, train, week


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a loop whose champion is version 1 and whose challenger, in shadow, is version 2."""
    workspace = loop_with_champion(tmp_path)
    train(workspace, week(3))
    start_rollout(workspace, week(3))
    return workspace


def test_nothing_is_repaired_where_nothing_is_wrong(workspace: Workspace) -> None:
    assert reconcile(workspace) == []
    assert workspace.registry.aliases() == {"champion": "1", "challenger": "2"}


def test_whatever_the_aliases_were_moved_to_they_end_as_the_ledger_says(workspace: Workspace) -> None:
    for champion, challenger, candidate in product((None, "1", "2"), repeat=3):
        for alias, version in (("champion", champion), ("challenger", challenger), ("candidate", candidate)):
            workspace.registry.set_alias(alias, version)
        reconcile(workspace)
        assert workspace.registry.aliases() == {"champion": "1", "challenger": "2"}
        assert reconcile(workspace) == []


def test_a_repair_is_a_sentence_that_says_what_was_and_what_is(workspace: Workspace) -> None:
    workspace.registry.set_alias("champion", "2")
    workspace.registry.set_alias("challenger", None)
    assert reconcile(workspace) == [
        "alias champion was 2, is now 1",
        "alias challenger was absent, is now 2",
    ]


def test_an_alias_of_somebody_else_is_left_alone(workspace: Workspace) -> None:
    workspace.registry.set_alias("best-of-2013", "1")
    assert reconcile(workspace) == []
    assert workspace.registry.aliases()["best-of-2013"] == "1"


def test_a_registry_that_goes_on_to_answer_by_its_old_state_fails_the_attempt_and_not_the_next(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = workspace.registry
    with monkeypatch.context() as old:
        old.setattr(registry, "aliases", lambda: {"champion": "2", "challenger": "2"})
        with pytest.raises(RegistryUnavailableError, match="still says 2: its answers are old") as raised:
            reconcile(workspace)
    assert raised.value.retryable
    assert reconcile(workspace) == []
    assert registry.aliases() == {"champion": "1", "challenger": "2"}


def test_a_repair_records_nothing(workspace: Workspace) -> None:
    before = list(workspace.ledger.records())
    workspace.registry.set_alias("champion", None)
    reconcile(workspace)
    assert list(workspace.ledger.records()) == before
