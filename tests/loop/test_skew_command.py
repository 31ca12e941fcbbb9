"""The command line replays what was scored on the embedded stores, and says where serving would differ."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.rollout.score_partition import score_partition
from tests.loop.project import KEYS, Project, make_project

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

FEATURES = """
def features(frame, history):
    past = history.rows(partitions=1, columns=["place", "y"])
    levels = past.groupby("place")["y"].mean() if len(past) else {}
    return frame[["x1", "x2"]].assign(level=frame["place"].map(levels).astype(float).fillna(0.0))
"""
SKEWED = FEATURES.replace('frame[["x1", "x2"]]', '(frame[["x1", "x2"]] - frame[["x1", "x2"]].mean())')


def featured(tmp_path: Path, source: str) -> Project:
    """Return a loop with a features function."""
    project = make_project(tmp_path)
    package = f"train_{project.model}"
    (tmp_path / package / "made.py").write_text(source)
    sys.modules.pop(f"{package}.made", None)
    importlib.invalidate_caches()
    project.fields["data"]["features"] = f"{package}.made:features"
    (tmp_path / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))
    return project


def scored_loop(tmp_path: Path, source: str) -> Project:
    """Return a loop with a features function whose version 1 has scored the third week."""
    project = featured(tmp_path, source)
    project.seed(KEYS[:2])
    project.put(KEYS[2])
    project.publish(KEYS[2])
    score_partition(project.workspace, KEYS[2])
    return project


def skew(project: Project, *more: str) -> int:
    loop = str(project.root / "include" / "loops" / f"{project.model}.yaml")
    return main(["skew", loop, "--root", str(project.root), *more])


def test_a_loop_with_features_of_its_own_closes_and_serves_them_as_it_learnt_them(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = featured(tmp_path, FEATURES)
    scheduler = start_scheduler(project.dags)
    project.first_champion(scheduler, KEYS[:2])
    for key in KEYS[2:4]:
        project.put(key)
        project.ingest(scheduler, key)
    assert scheduler.failures() == []
    assert project.details_of("predictions_published", KEYS[3]).rows == 120
    profile = project.workspace.evidence.get(project.details_of("candidate_registered", KEYS[1]).profile)
    assert sorted(profile["bins"]) == ["level", "x1", "x2"]
    assert project.judged("drift", KEYS[3]).missing == ()
    assert skew(project, "--rows", "20") == 0


def test_an_honest_function_is_the_same_alone_as_together(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    project = scored_loop(tmp_path, FEATURES)
    assert (
        main(["check", str(project.root / "include" / "loops" / f"{project.model}.yaml"), "--root", str(tmp_path)]) == 0
    )
    assert skew(project, "--rows", "30") == 0
    assert (
        f"{KEYS[2]}, version 1: 3 features and the predictions of 30 rows are the same alone as together"
        in capsys.readouterr().out
    )


def test_a_function_of_the_batch_is_named_by_column_key_and_both_values(
    tmp_path: Path, start_scheduler: SchedulerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    project = scored_loop(tmp_path, SKEWED)
    assert skew(project, "--partition", KEYS[2][:10]) == 1
    error = capsys.readouterr().err
    assert "feature 'x1' of '2013-01-20-0000' is " in error
    assert "in the batch and 0.0 alone" in error
    assert skew(project, "--partition", KEYS[1]) == 1
    assert f"partition {KEYS[1]} was not scored" in capsys.readouterr().err
