"""The recovery pages on a small loop: their commands repair what they say, and what they call lost is lost."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlops.core.errors import DataError, LedgerError
from airflow_mlops.core.registry.sign_folder import OtherKeyError
from airflow_mlops.core.retrain.decide_retrain import decide_by_hand, decision_to_emit
from airflow_mlops.core.rollout.inspect_versions import inspect_versions
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from tests.loop.by_core import live_through, publish, register, roll_out
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, embedded_stores, make_project, week
from tests.loop.recovery_pages import Page
from tests.loop.tutorial_page import blocks

NO_MLFLOW = '{"conn_type": "http", "host": "127.0.0.1", "port": 9}'
Open = Callable[[str], Page]


@pytest.fixture
def project(tmp_path: Path, airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A loop of three partitions whose version 2 followed version 1, in the folder that commands are typed in."""
    project = make_project(tmp_path, rollout={"stages": [{"live": 100}]})
    project.seed(KEYS[:2])
    project.put(KEYS[2], level=0.2)
    live_through(project.workspace, KEYS[2])
    promote(project, KEYS[2])
    monkeypatch.chdir(tmp_path)
    return project


@pytest.fixture
def page(project: Project, capsys: pytest.CaptureFixture[str]) -> Open:
    """Open a page for the project."""
    return lambda name: Page(name, project, capsys)


@pytest.fixture
def keys(airflow_home: Path) -> Iterator[Path]:
    """The folder of the keys that sign versions; its key is put back afterwards."""
    folder = airflow_home / "mlops" / "keys"
    private = (folder / "signing-key.pem").read_bytes() if (folder / "signing-key.pem").exists() else None
    yield folder
    for file in folder.glob("*.pem"):
        file.unlink()
    if private is not None:
        (folder / "signing-key.pem").write_bytes(private)
        (folder / "signing-key.pem").chmod(0o600)


def promote(project: Project, key: str) -> None:
    """Train a version by hand and bring it live."""
    register(project.workspace, key, by_hand=True)
    roll_out(project.workspace, key)


def champion_of(project: Project) -> str:
    champion = project.workspace.state().champion
    assert champion is not None
    return champion.number


def lake_of(project: Project) -> Path:
    return Path(os.environ["AIRFLOW_HOME"]) / "mlops" / "lake" / project.model


def test_a_wrong_champion_is_taken_back_and_let_serve_again(project: Project, page: Open) -> None:
    opened = page("recover/champion-is-wrong.md")
    opened.follow("What you see")
    opened.follow("What to type")
    assert champion_of(project) == "1"
    opened.follow("What to check after")
    opened.follow("What is lost, and what is not")
    assert champion_of(project) == "2"
    assert_invariants(project.workspace)


def test_the_only_champion_cannot_be_taken_back(project: Project, page: Open) -> None:
    opened = page("recover/champion-is-wrong.md")
    opened.run("airflow-mlops rollback bakery")
    assert "no other version to go back to from 1; champions before it: " in opened.run("airflow-mlops rollback bakery")


def test_without_mlflow_the_loop_scores_and_rolls_back_and_catches_up(
    project: Project, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = page("recover/mlflow-is-gone.md")
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_REGISTRY", NO_MLFLOW)
    opened.follow("What you see")
    assert "the aliases follow with the next reconcile" in opened.run("airflow-mlops rollback bakery")
    project.stores = replace(embedded_stores(), tracking_uri="http://127.0.0.1:9")
    project.put(KEYS[3])
    publish(project.workspace, KEYS[3])
    assert score_partition(project.workspace, KEYS[3]).champion == "1"
    monkeypatch.delenv("AIRFLOW_CONN_MLOPS_REGISTRY")
    project.stores = None
    assert opened.follow("What to type") == "alias champion was 2, is now 1\n"
    assert project.workspace.registry.aliases() == {"champion": "1"}


def test_an_mlflow_that_lost_its_database_goes_on_and_gives_no_number_twice(
    project: Project, page: Open, tmp_path: Path
) -> None:
    assert "passes over them" in page("recover/mlflow-is-gone.md").text
    project.stores = replace(
        embedded_stores(),
        tracking_uri=f"sqlite:///{tmp_path}/new.db",
        artifact_location=(tmp_path / "artefacts").as_uri(),
    )
    assert "was deleted in the registry" in inspect_versions(project.workspace).problems[0]
    project.put(KEYS[3], level=0.4)
    live_through(project.workspace, KEYS[3])
    assert project.details_of("predictions_published", KEYS[3]).champion == "2"
    promote(project, KEYS[3])
    assert champion_of(project) == "3"
    reconcile(project.workspace)
    assert inspect_versions(project.workspace).problems == []
    assert [version.number for version in project.workspace.registry.all_versions()] == ["3"]


def test_a_changed_ledger_is_named_and_a_restored_one_goes_on(project: Project, page: Open, tmp_path: Path) -> None:
    opened = page("recover/ledger-does-not-verify.md")
    ledger = Path(os.environ["AIRFLOW_HOME"]) / "mlops" / "ledger.db"
    shutil.copy(ledger, tmp_path / "backup.db")
    project.put(KEYS[3], level=0.3)
    live_through(project.workspace, KEYS[3])
    promote(project, KEYS[3])
    opened.run("airflow-mlops audit anchor bakery --to anchors.jsonl")
    with closing(sqlite3.connect(ledger)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        database.execute(
            "UPDATE airflow_mlops_ledger SET actor = 'x' WHERE model = ? AND sequence = 3", (project.model,)
        )
        database.commit()
    assert tables == set(re.findall(r"`(airflow_mlops_\w+)`", opened.text))
    opened.follow("What you see")
    assert "record 3 (retrain_decided) was changed" in opened.run("airflow-mlops doctor")
    project.put(KEYS[4], level=0.3)
    live_through(project.workspace, KEYS[4])  # the loop does not stop by itself
    typed = opened.text.partition("\n## What to type\n")[2]
    keep, restored = [code for _, language, code in blocks(typed) if language == "bash"][:2]
    printed = "".join(opened.run(line) for line in keep.splitlines())
    assert "records in changed.jsonl" in printed
    shutil.copy(tmp_path / "backup.db", ledger)
    assert "the ledger ends at record 17, and record 27" in opened.run(keep.splitlines()[1])
    printed = "".join(opened.run(line) for line in restored.splitlines())
    assert "bakery: 17 records, every hash holds" in printed
    assert "alias champion was 3, is now 2" in printed
    assert "version 3 is in the registry and not in the ledger" in printed
    for key in KEYS[3:5]:
        live_through(project.workspace, key)
    promote(project, KEYS[4])
    assert champion_of(project) == "4"
    assert "every hash holds" in opened.run("airflow-mlops audit verify bakery")
    assert_invariants(project.workspace)


def test_a_key_is_rotated_and_old_versions_are_loaded_until_its_public_key_goes(
    keys: Path, project: Project, page: Open
) -> None:
    opened = page("recover/rotate-keys.md")
    old = keys / "until-2026.pub.pem"
    extract = ["openssl", "ec", "-in", keys / "signing-key.pem", "-pubout", "-out", old]
    subprocess.run(extract, check=True, capture_output=True)
    (keys / "signing-key.pem").unlink()
    drill = 'airflow-mlops rollback bakery --reason "drill after the change of keys"'
    assert drill in opened.text
    assert "version 2 was taken back and is in quarantine; version 1 serves" in opened.run(drill)
    project.put(KEYS[3], level=0.3)
    live_through(project.workspace, KEYS[3])
    promote(project, KEYS[3])
    assert champion_of(project) == "3"
    old.unlink()
    refused = opened.run("airflow-mlops rollback bakery")
    assert "version 1 cannot serve: version 1 of bakery is refused: it was signed by the key" in refused
    assert "give the connection mlops_signing that public key" in refused


def test_without_its_public_key_a_champion_neither_scores_nor_lets_another_be_judged(
    keys: Path, project: Project
) -> None:
    (keys / "signing-key.pem").unlink()
    project.put(KEYS[3], level=0.3)
    publish(project.workspace, KEYS[3])
    with pytest.raises(OtherKeyError):
        score_partition(project.workspace, KEYS[3])
    with pytest.raises(OtherKeyError):
        register(project.workspace, KEYS[3], by_hand=True)


def test_lost_rows_come_back_by_their_files_and_not_by_another_ingest(
    project: Project, page: Open, tmp_path: Path
) -> None:
    opened = page("recover/lake-lost-files.md")
    (lost,) = (lake_of(project) / "snapshots").glob("partition=2013-01-20/*.parquet")
    shutil.move(lost, tmp_path / "backup.parquet")
    opened.follow("What you see")
    publish(project.workspace, KEYS[2])
    with pytest.raises(DataError, match="cannot be read"):
        project.workspace.snapshots.read(KEYS[2])
    shutil.move(tmp_path / "backup.parquet", lost)
    opened.follow("What to type")
    opened.follow("What to check after")


def test_lost_rows_that_are_delivered_corrected_are_trained_on_again(project: Project) -> None:
    shutil.rmtree(lake_of(project) / "snapshots" / "partition=2013-01-20")
    project.put(KEYS[2], week(KEYS[2], level=0.2).slice(1))
    publish(project.workspace, KEYS[2])
    assert project.workspace.snapshots.read(KEYS[2]).num_rows == 119
    promote(project, KEYS[2])
    assert champion_of(project) == "3"


def test_lost_copies_of_models_are_fetched_and_nothing_is_ingested_without_evidence(
    project: Project, page: Open, tmp_path: Path
) -> None:
    shutil.rmtree(lake_of(project) / "models")
    shutil.rmtree(lake_of(project) / "candidates")
    project.put(KEYS[3], level=0.3)
    live_through(project.workspace, KEYS[3])
    assert list((lake_of(project) / "models").glob("*/model.skops"))
    shutil.move(lake_of(project) / "evidence", tmp_path / "evidence")
    project.put(KEYS[4], level=0.3)
    with pytest.raises(LedgerError, match=r"evidence .* is missing"):
        publish(project.workspace, KEYS[4])
    assert "evidence" in page("recover/lake-lost-files.md").run("airflow-mlops audit verify bakery")
    shutil.move(tmp_path / "evidence", lake_of(project) / "evidence")
    live_through(project.workspace, KEYS[4])
    page("recover/lake-lost-files.md").follow("What to check after")


def test_an_open_retrain_is_taken_up_by_a_run_of_a_person_or_by_the_next_partition(
    project: Project, page: Open
) -> None:
    opened = page("recover/retrain-does-not-end.md")
    project.put(KEYS[3], level=0.3)
    publish(project.workspace, KEYS[3])
    decision = decide_by_hand(project.workspace, KEYS[3])
    assemble_training(project.workspace, KEYS[3])  # and the run is killed
    printed = opened.run("airflow-mlops status bakery")
    assert re.search(rf"^under way +the retrain of record {decision.sequence} is under way$", printed, re.MULTILINE)
    assert decide_by_hand(project.workspace, KEYS[3]).sequence == decision.sequence
    assert decision_to_emit(project.workspace, KEYS[3]) is None
    project.put(KEYS[4], level=0.3)
    publish(project.workspace, KEYS[4])
    emitted = decision_to_emit(project.workspace, KEYS[4])
    assert emitted is not None
    assert emitted.sequence == decision.sequence
    register(project.workspace, KEYS[4])
    roll_out(project.workspace, KEYS[4])
    opened.follow("What to check after")
    assert champion_of(project) == "3"
