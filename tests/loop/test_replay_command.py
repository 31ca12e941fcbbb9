"""The command ``airflow-mlops replay`` on a project's own files, without Airflow running."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_mlops.cli import main
from tests.loop.project import Project, make_project, week
from tests.unit.core.toy_loop import week as key_of

WEEKS = 9


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, airflow_home: Path) -> Project:
    """Return a project whose relation changes in the fifth week, and of which nothing was ever ingested."""
    made = make_project(tmp_path_factory.mktemp("replayed"), gates=[{"metric": "mae", "at_most": 100.0}])
    for number in range(WEEKS):
        made.put(key_of(number), week(key_of(number), level=0.0 if number < 5 else 6.0))
    return made


def command(project: Project, *arguments: str) -> list[str]:
    return ["replay", project.model, "--root", str(project.root), "--processes", "1", *arguments]


def test_a_history_is_read_from_the_source_replayed_and_drawn_and_the_lake_stays_empty(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    into = project.root / "replayed"
    split = key_of(4)
    policies = "declared,never,nightly,clock:2"
    assert main(command(project, "--policies", policies, "--split", split, "--into", str(into))) == 0
    out, progress = capsys.readouterr()
    assert f"take {WEEKS}/" in progress
    assert "fit 1/" in progress
    assert "replay nightly" in progress
    for name in policies.split(","):
        assert out.count(f"\n{name} ") == 2
    assert "suggested: " in out
    assert "not replayed: gates on cost" in out
    replayed = json.loads((into / "replay.json").read_text())
    assert replayed["partitions"] == [key_of(number) for number in range(WEEKS)]
    nightly = next(policy for policy in replayed["whole"] if policy["name"] == "nightly")
    never = next(policy for policy in replayed["whole"] if policy["name"] == "never")
    assert nightly["loss"] < never["loss"]
    assert (into / "replay.png").stat().st_size > 5_000
    assert project.records == []


def test_a_program_is_given_the_figures_and_the_advice_and_no_table(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    into = project.root / "for-programs"
    arguments = ["--policies", "never,nightly", "--split", key_of(4), "--into", str(into)]
    assert main(command(project, *arguments, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("written") == [str(into / "replay.json"), str(into / "replay.png")]
    assert printed == json.loads((into / "replay.json").read_text())
    assert printed["model"] == project.model
    assert main(command(project, *arguments)) == 0
    out, _ = capsys.readouterr()
    assert f"\nsuggested: {printed['advice']}\n" in out
    assert out.endswith(f"\nwritten: replay.json and replay.png in {into}\n")


def test_several_windows_are_compared_with_policies_in_one_table(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    into = project.root / "windows"
    arguments = ["--window", "1,all", "--policies", "never,nightly", "--split", key_of(4), "--into", str(into)]
    assert main(command(project, *arguments)) == 0
    out, _ = capsys.readouterr()
    assert "window 1, all" in out
    table = out.partition("benefit by window and policy")[2].splitlines()
    assert [line.split()[0] for line in table[1:5]] == ["window", "1", "all", "the"]
    assert table[6].startswith("the window mattered by ")
    windows = json.loads((into / "replay.json").read_text())["windows"]
    assert windows["rows"]["1"]["nightly"] > windows["rows"]["all"]["nightly"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policies", "often"], "no policy 'often'; there are declared"),
        (["--window", "many"], "window 'many' is neither a number of partitions nor all"),
        (["--window", "4,many"], "window '4,many' is neither a number of partitions nor all"),
        (["--window", "all,4"], "all at its end, such as [4, 13, all]; write [4, all]"),
        (["--until", key_of(1)], "2 partitions are published by"),
        (["--split", "soon"], "is no ISO date or time"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(command(project, *arguments)) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("airflow-mlops: ")
    assert words in last


def test_what_is_published_is_replayed_rather_than_what_the_source_holds(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        project.publish(key_of(number))
    assert main(command(project, "--policies", "never,nightly", "--into", str(project.root / "own"))) == 0
    out, progress = capsys.readouterr()
    assert "take " not in progress
    assert "2013-01-27" in out
