"""The commands that say where loops stand: which there are, which ledger was read, and that none is made by a look."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.cli import main
from airflow_mlops.release import __version__
from tests.loop.project import KEYS, Project, make_project


@pytest.fixture
def project(tmp_path: Path, airflow_home: Path) -> Project:
    """Return a project of two loops: one has published two weeks, of the other nothing has run."""
    made = make_project(tmp_path)
    made.seed(KEYS[:2])
    folder = tmp_path / "include" / "loops"
    (folder / f"{made.model}.yaml").write_text(json.dumps(made.fields))
    (folder / "quiet.yaml").write_text(json.dumps({**made.fields, "model": f"{made.model}_quiet"}))
    return made


def test_every_loop_of_a_project_is_a_row_with_its_champion(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--root", str(project.root)]) == 0
    printed = capsys.readouterr()
    head, *rows = printed.out.splitlines()
    assert " ".join(head.split()) == "model champion live since newest partition refused rollout under way"
    by_model = {row.split()[0]: row for row in rows}
    assert by_model.keys() == {project.model, f"{project.model}_quiet"}
    state = project.workspace.state()
    assert state.champion is not None
    assert f" {state.champion.number} " in by_model[project.model]
    assert KEYS[1] in by_model[project.model]
    assert by_model[f"{project.model}_quiet"].split()[1:] == ["-", "-", "-", "0", "-", "-"]
    assert printed.err.startswith("ledger: sqlite:///")
    assert main(["status", "--root", str(project.root)]) == 0
    assert capsys.readouterr().out == printed.out
    assert main(["status", project.model, "--root", str(project.root)]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["ledger", printed.err.split()[1]]


def test_a_program_reads_the_list_as_lines_of_json(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json", "--root", str(project.root)]) == 0
    rows = {row["model"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows[project.model]["newest partition"] == KEYS[1]
    assert rows[f"{project.model}_quiet"]["champion"] is None


def test_a_loop_that_a_dag_file_declares_is_listed_once_and_a_broken_file_is_named(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "dags").mkdir(exist_ok=True)
    (project.root / "dags" / "both.py").write_text(
        f"from airflow_mlops import build_dags\nbuild_dags('include/loops/{project.model}.yaml')\n"
    )
    (project.root / "dags" / "broken.py").write_text("from airflow_mlops import build_dags\n1 / 0\n")
    (project.root / "dags" / "other.py").write_text("raise SystemError('not ours to run')\n")
    assert main(["list", "--root", str(project.root)]) == 1
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[1:]].count(project.model) == 1
    assert "broken.py: ZeroDivisionError" in printed.err
    assert "not ours to run" not in printed.err


def test_a_folder_without_loops_is_said_to_have_none(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["list", "--root", str(empty)]) == 0
    assert capsys.readouterr().out == f"no loop is declared in include/loops/*.yaml or dags/*.py below {empty}\n"


@pytest.mark.parametrize("command", [["status"], ["history"], ["audit", "verify"], ["list"]])
def test_where_nothing_has_run_no_ledger_is_made_and_none_is_taken_for_an_empty_one(
    command: list[str],
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "other-home"
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    model = [] if command == ["list"] else [project.model]
    assert main([*command, *model, "--root", str(project.root)]) == 1
    error = capsys.readouterr().err
    assert f"there is no ledger at {home / 'mlops' / 'ledger.db'}" in error
    assert "set AIRFLOW_HOME to the home of the Airflow that runs the loop" in error
    assert not home.exists()


def test_check_names_the_stages_that_the_size_of_a_partition_keeps_waiting(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = project.workspace.state().published[KEYS[1]].rows
    declared = {**project.fields, "rollout": {"stages": [{"canary": 50}, {"live": 100}], "min_rows": rows}}
    (project.root / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(declared))
    command = ["check", project.model, "--root", str(project.root)]
    assert main(command) == 0
    verdict, warning = capsys.readouterr().out.splitlines()
    assert verdict.endswith("is well declared")
    assert warning.startswith(f"warning: canary_50: {rows // 2} of the {rows} rows of a partition are in its share")
    assert "a share of 100 %" in warning
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "other-home"))
    assert main(command) == 0
    assert capsys.readouterr().out == f"{verdict}\n"
    assert not (tmp_path / "other-home").exists()


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (["check"], {"model", "warnings"}),
        (["status"], {"model", "champion", "newest partition", "ledger", "quarantined", "promotions"}),
        (["judge"], set()),
        (["reconcile"], {"repairs", "problems", "notices"}),
        (["rollout", "status"], {"champion", "rollout"}),
        (["audit", "verify"], {"records", "evidence", "anchors"}),
        (["ml-test-score"], {"sections", "total"}),
        (["quarantine", "list"], set()),
        (["reproduce", "1"], {"verdict", "same_file"}),
    ],
)
def test_a_program_reads_an_answer_as_one_json_object(
    command: list[str], keys: set[str], project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    words, version = (command[:-1], [command[-1]]) if command[-1] == "1" else (command, [])
    capsys.readouterr()
    assert main([*words, project.model, *version, "--root", str(project.root), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert keys <= answer.keys()
    if command == ["status"]:
        assert (answer["champion"], answer["newest partition"], answer["published"]) == ("1", KEYS[1], 2)
    if command == ["rollout", "status"]:
        assert answer == {"champion": "1", "rollout": None}


def test_a_program_reads_the_history_as_lines_of_json(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", project.model, "--root", str(project.root), "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "promoted" in [record["kind"] for record in records]
    assert all(record["summary"] and record["hash"] for record in records)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"airflow-mlops {__version__}\n")


def test_a_reader_that_has_enough_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "airflow_mlops.cli", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.readline() == "{\n"
        command.stdout.close()
        assert command.stderr.read() == ""
        assert command.wait(timeout=60) == 141
