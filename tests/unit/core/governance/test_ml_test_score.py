"""No point of the ML Test Score is given for a word that happens to stand somewhere, or a file that shows nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.governance.ml_test_score.ml_test_score import FILE, Point, ml_test_score
from airflow_mlops.core.governance.ml_test_score.points import View
from airflow_mlops.core.governance.ml_test_score.score_model import stale_loss
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week


def loop_with_version(tmp_path: Path, **changes: Any) -> Workspace:
    """Return a loop with version 1."""
    workspace = in_memory_workspace(
        toy_loop(**changes), {week(number): toy_rows(number) for number in range(3)}, scratch=tmp_path
    )
    for number in range(3):
        ingest(workspace, week(number))
    train(workspace, week(2))
    return workspace


def point_of(workspace: Workspace, code: str) -> Point:
    """Return the point of an item."""
    items = [item for section in ml_test_score(workspace).sections.values() for item in section]
    return next(item.point for item in items if item.code == code)


def write(root: Path, name: str, text: str) -> None:
    """Write a file of the project."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_test_that_uses_the_word_of_the_function_for_something_else_is_no_test_of_it(tmp_path: Path) -> None:
    workspace = loop_with_version(tmp_path)
    write(tmp_path, "tests/test_people.py", "candidates = ['ann', 'ben']\n")
    assert point_of(workspace, "I2").points == 0
    write(tmp_path, "tests/test_model.py", "from tests.unit.core.toy_loop import toy_rows, candidates\n")
    assert point_of(workspace, "I2") == Point(1.0, "1 test files use candidates", ("tests/test_model.py",))


def test_a_loop_test_of_a_model_of_a_longer_name_is_none_of_this_one(tmp_path: Path) -> None:
    workspace = loop_with_version(tmp_path)
    write(tmp_path, "tests/loop/test_other.py", "MODEL = 'toy_two'; toys = 'of toyland'\n")
    assert point_of(workspace, "I3").points == 0
    write(tmp_path, "tests/loop/test_own.py", "MODEL = 'toy'\n")
    assert point_of(workspace, "I3").evidence == ("tests/loop/test_own.py",)


def test_a_command_that_nobody_could_have_used_yet_is_no_half_point(tmp_path: Path) -> None:
    workspace = loop_with_version(tmp_path)
    assert point_of(workspace, "Mo3") == Point(0.0, "no row was scored yet, so none was replayed")
    assert point_of(workspace, "I7").points == 0


@pytest.mark.parametrize("evidence", [".", "include", "../outside.md", "{outside}"])
def test_only_a_file_below_the_project_shows_what_a_person_attests(tmp_path: Path, evidence: str) -> None:
    root = tmp_path / "project"
    outside = tmp_path / "outside.md"
    outside.write_text("anything")
    workspace = loop_with_version(root)
    named = evidence.replace("{outside}", str(outside))
    write(root, FILE, f'toy:\n  D6: {{says: done, evidence: "{named}", by: ann, at: "2013-02-01"}}\n')
    assert point_of(workspace, "D6").points == 0
    write(root, "notes.md", "an hour")
    write(root, FILE, 'toy:\n  D6: {says: done, evidence: notes.md, by: ann, at: "2013-02-01"}\n')
    assert point_of(workspace, "D6") == Point(0.5, "by hand: done (ann, 2013-02-01)", ("notes.md",))


@pytest.mark.parametrize("text", ["- toy\n", "toy: yes it is\n", "toy: [D6]\n"])
def test_attestations_that_are_no_mapping_are_refused_with_their_file(tmp_path: Path, text: str) -> None:
    workspace = loop_with_version(tmp_path)
    write(tmp_path, FILE, text)
    with pytest.raises(DeclarationError, match=r"include/attestations.yaml:1: .*must be a mapping"):
        ml_test_score(workspace)


@pytest.mark.parametrize(("metric", "fresh", "stale"), [("mae", 10.0, 11.0), ("accuracy", 0.9, 0.89)])
def test_a_stale_model_is_worse_by_what_the_metric_calls_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, fresh: float, stale: float
) -> None:
    workspace = loop_with_version(tmp_path)
    judged = {"metrics": {metric: fresh}, "champion_metrics": {metric: stale}}
    monkeypatch.setattr(View, "evaluation_of", lambda *_: judged)
    monkeypatch.setattr(Loop, "metric", metric)
    (first,) = workspace.state().versions.values()
    second = Version("2", week(2), replace(first.details, champion="1"))
    loss = stale_loss(View(workspace), second)
    assert loss is not None
    assert loss[0] == pytest.approx(0.1)
