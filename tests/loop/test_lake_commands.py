"""The commands about what is kept: a person looks at bad rows, releases them, has a subject forgotten, tidies up."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from airflow_mlops.cli import main
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, week

SUITE = "expectations:\n  - {{type: expect_column_values_to_be_between, kwargs: {{column: x1, max_value: {limit}}}}}\n"
SECRET = "a secret of its own, long enough"
KEY = "2013-01-06-0007"


@pytest.fixture
def project(tmp_path: Path, airflow_home: Path) -> Project:
    """Return a loop with a model; its third week holds a row that its suite finds bad."""
    made = make_project(tmp_path)
    made.fields["data"] |= {
        "expectations": "include/suite.yaml",
        "tolerance": 0.05,
        "retention": {"predictions": 1, "snapshots": 2},
    }
    (tmp_path / "include" / "suite.yaml").write_text(SUITE.format(limit=50))
    (tmp_path / "include" / "loops" / f"{made.model}.yaml").write_text(json.dumps(made.fields))
    made.seed(KEYS[:2])
    rows = week(KEYS[2])
    x1 = [77.0, *rows.column("x1").to_pylist()[1:]]
    made.put(KEYS[2], rows.set_column(2, "x1", pa.array(x1)))
    made.publish(KEYS[2])
    return made


def run(project: Project, *words: str) -> int:
    """Run a command about the project's loop."""
    loop = project.root / "include" / "loops" / f"{project.model}.yaml"
    split = 2 if words[0] == "quarantine" else 1
    return main([*words[:split], str(loop), "--root", str(project.root), *words[split:]])


def test_a_person_finds_a_bad_row_and_releases_it_after_a_fix(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "quarantine", "list") == 0
    assert capsys.readouterr().out == (
        "2013-01-20T00:00:00        1 rows  published  x1: expect_column_values_to_be_between (1)\n"
    )
    assert run(project, "quarantine", "show", "--partition", "2013-01-20") == 0
    shown = capsys.readouterr().out
    assert "2013-01-20-0000: x1: expect_column_values_to_be_between" in shown
    assert '"x1": "77"' in shown
    assert run(project, "quarantine", "release", "--partition", "2013-01-20") == 0
    assert "0 rows released, 1 stay in quarantine" in capsys.readouterr().out
    (project.root / "include" / "suite.yaml").write_text(SUITE.format(limit=100))
    assert run(project, "quarantine", "release", "--partition", "2013-01-20") == 0
    assert "1 rows released, 0 stay in quarantine" in capsys.readouterr().out
    assert run(project, "quarantine", "list") == 0
    assert capsys.readouterr().out == "no row is in quarantine\n"
    assert project.workspace.state().published[KEYS[2]].rows == 120
    assert_invariants(project.workspace)


def test_a_row_in_quarantine_is_one_line_of_json_to_a_program(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "quarantine", "show", "--partition", "2013-01-20", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["row"]["x1"] == "77"


def test_a_program_is_given_what_a_release_came_to(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "quarantine", "release", "--partition", "2013-01-20", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["model"], printed["partition"]) == (project.model, KEYS[2])
    assert (printed["released"], printed["kept"], printed["record"]) == (0, 1, None)
    assert printed["reasons"] == {"x1: expect_column_values_to_be_between": 1}


def test_a_partition_without_bad_rows_is_said_to_have_none(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "quarantine", "show", "--partition", "2013-01-13") == 1
    assert "partition 2013-01-13T00:00:00 has no rows in quarantine" in capsys.readouterr().err


def test_a_subject_is_forgotten_with_the_key_of_the_privacy_connection(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(project, "forget", "--key", KEY) == 1
    assert "give the connection mlops_privacy a password" in capsys.readouterr().err
    connection = {"conn_type": "generic", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_PRIVACY", json.dumps(connection))
    assert run(project, "forget", "--key", KEY) == 0
    out = capsys.readouterr().out
    assert "erased 1 rows of snapshots, 0 of predictions, 0 of quarantine, in 1 partitions" in out
    assert "versions that had seen them: 1" in out
    assert not [record for record in project.records if SECRET in str(record) or KEY in str(record)]
    assert_invariants(project.workspace)


def test_a_program_is_given_what_was_erased_and_not_of_whom(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_PRIVACY", json.dumps({"conn_type": "generic", "password": SECRET}))
    assert run(project, "forget", "--key", KEY, "--json") == 0
    out = capsys.readouterr().out
    assert (KEY in out, SECRET in out) == (False, False)
    printed = json.loads(out)
    assert (printed["snapshots"], printed["predictions"], printed["quarantine"]) == (1, 0, 0)
    assert (list(printed["partitions"]), printed["models"], printed["model"]) == ([KEYS[0]], ["1"], project.model)
    assert_invariants(project.workspace)


def test_a_program_is_given_what_tidying_let_go_of(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "tidy", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["model"], printed["expired"]["snapshots"]) == (project.model, [KEYS[0]])
    assert printed["files"]["snapshots"] == 0
    assert sorted(project.workspace.state().published) == KEYS[1:3]


def test_tidying_says_what_it_let_go_of(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "tidy") == 0
    assert capsys.readouterr().out.splitlines()[0].split() == [
        "snapshots",
        "1",
        "partitions",
        "expired,",
        "0",
        "files",
        "deleted",
    ]
    assert sorted(project.workspace.state().published) == KEYS[1:3]
    assert_invariants(project.workspace)


def test_the_status_names_the_partitions_of_the_champion_that_were_corrected_since(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "status") == 0
    assert "champion's data" not in capsys.readouterr().out
    project.put(KEYS[0], rows=130)
    project.publish(KEYS[0])
    assert run(project, "status") == 0
    assert "champion's data   published anew since: 2013-01-06T00:00:00" in capsys.readouterr().out
    assert run(project, "history", "--all") == 0
    assert "130 rows, 0 in quarantine; made before it: version 1" in capsys.readouterr().out
