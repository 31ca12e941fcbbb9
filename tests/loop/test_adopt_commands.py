"""``airflow-mlops export`` and ``adopt`` between two sets of stores, and the rollout of what was adopted by Airflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.open_workspace import Stores
from airflow_mlops.core.ports.signing_keys import derive_public_key
from airflow_mlops.core.registry.load import verified_folder
from airflow_mlops.core.rollout.inspect_versions import inspect_versions
from tests.loop.conftest import SchedulerFactory
from tests.loop.project import KEYS, Project, make_project


@pytest.fixture
def staging(tmp_path: Path, airflow_home: Path) -> Project:
    """A project whose version 1 serves in staging, on stores of its own."""
    project = make_project(tmp_path / "project", rollout={"stages": [{"shadow": 100}, {"live": 100}]})
    project.stores = Stores.embedded(tmp_path / "staging" / "mlops")
    project.seed(KEYS[:2])
    return project


@pytest.fixture
def production(staging: Project, airflow_home: Path, tmp_path: Path) -> Iterator[Project]:
    """The same project on the stores of the session, which trust the key of staging and have one version of nothing."""
    key = airflow_home / "mlops" / "keys" / "staging.pub.pem"
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text(derive_public_key((tmp_path / "staging" / "mlops" / "keys" / "signing-key.pem").read_text()))
    production = Project(staging.root, staging.model, staging.fields)
    for number in (2, 3):
        production.put(KEYS[number])
        production.publish(KEYS[number])
    yield production
    key.unlink()


def run(project: Project, command: str, *arguments: str) -> int:
    return main([command, project.model, *arguments, "--root", str(project.root)])


def test_a_version_of_staging_is_exported_adopted_and_rolled_out_by_airflow(
    staging: Project,
    production: Project,
    start_scheduler: SchedulerFactory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as there:
        there.setenv("AIRFLOW_HOME", str(tmp_path / "staging"))
        export = ["1", "--into", str(tmp_path), "--environment", "staging"]
        assert run(staging, "export", *export) == 1
        assert "holds a few rows of its holdout in input_example.json" in capsys.readouterr().err
        assert run(staging, "export", *export, "--with-example") == 0
    archive = tmp_path / f"{staging.model}-1.zip"
    assert f"version 1 of {staging.model}: {archive}, SHA-256 " in capsys.readouterr().out

    assert run(production, "adopt", "--from", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert f"version 1 of staging is version 1 of {production.model} here: it passed its gates on {KEYS[3]} here" in out
    assert f"or now: airflow dags trigger {production.model}_rollout" in out
    folders = [
        verified_folder(project.workspace, project.workspace.state().versions["1"]) for project in (staging, production)
    ]
    first, second = ({path.name: path.read_bytes() for path in folder.rglob("*")} for folder in folders)
    assert first == second

    assert run(production, "adopt", "--from", str(archive)) == 0
    assert f"version 1 of staging is version 1 of {production.model} here already" in capsys.readouterr().out
    assert run(production, "reproduce", "1") == 1
    assert "its rows are not here; run airflow-mlops reproduce" in capsys.readouterr().err

    scheduler = start_scheduler(production.dags)
    scheduler.trigger(production.dag("rollout"))
    scheduler.run_until_idle()
    production.put(KEYS[4])
    production.ingest(scheduler, KEYS[4])
    state = production.workspace.state()
    assert state.champion is not None, scheduler.failures()
    assert state.champion.details.adopted is not None
    assert state.scored[KEYS[4]].champion == "1"
    assert "120 rows against 120" in production.judged("drift", KEYS[4]).message  # the profile of there
    assert production.judged("performance", KEYS[4]).rows > 0
    assert scheduler.failures() == []
    assert inspect_versions(production.workspace).problems == []
    assert run(production, "history") == 0
    assert "adopted version 1 of staging as version 1 (linear)" in capsys.readouterr().out


def test_a_program_is_given_the_archive_and_the_number_of_the_version(
    staging: Project, production: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as there:
        there.setenv("AIRFLOW_HOME", str(tmp_path / "staging"))
        words = ["1", "--into", str(tmp_path), "--environment", "staging", "--with-example", "--json"]
        assert run(staging, "export", *words) == 0
    exported = json.loads(capsys.readouterr().out)
    archive = tmp_path / f"{staging.model}-1.zip"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert exported == {"model": staging.model, "version": "1", "file": str(archive), "sha256": digest}
    for existed in (False, True):
        assert run(production, "adopt", "--from", exported["file"], "--json") == 0
        adopted = json.loads(capsys.readouterr().out)
        assert (adopted["model"], adopted["number"], adopted["existed"]) == (production.model, "1", existed)
        assert adopted["origin"] == "version 1 of staging"
    assert run(production, "adopt", "--from", str(tmp_path / "none.zip"), "--json") == 1
    assert capsys.readouterr().out == ""


def test_what_cannot_be_exported_or_adopted_is_said_in_one_line(
    production: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(production, "export", "7", "--into", str(tmp_path)) == 1
    assert f"{production.model} has no version 7; versions: none" in capsys.readouterr().err
    assert run(production, "adopt", "--from", str(tmp_path / "none.zip")) == 1
    error = capsys.readouterr().err
    assert "none.zip is not there; name the file that airflow-mlops export wrote" in error
    assert error.count("\n") == 1
