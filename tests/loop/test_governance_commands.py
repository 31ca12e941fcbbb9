"""The commands by which people govern: rollback, unquarantine, history and audit, on a loop with two champions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.rollout.promotion_policy import FILE
from tests.loop.by_core import live_through, publish, register, roll_out
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project

LIVE = {"stages": [{"live": 100}]}


@pytest.fixture
def project(tmp_path: Path, airflow_home: Path) -> Project:
    """A loop whose version 2 followed version 1."""
    project = make_project(tmp_path, rollout=LIVE)
    project.seed(KEYS[:2])
    project.put(KEYS[2], level=0.2)
    publish(project.workspace, KEYS[2])
    register(project.workspace, KEYS[2], by_hand=True)
    roll_out(project.workspace, KEYS[2])
    return project


def run(project: Project, command: str, *arguments: str) -> int:
    """Run a command about the model of a project, by its name."""
    return main([*command.split(), project.model, *arguments, "--root", str(project.root)])


def test_a_rollback_and_its_lifting_are_one_command_each(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "rollback", "--reason", "complaints") == 0
    assert "version 2 was taken back and is in quarantine; version 1 serves" in capsys.readouterr().out
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert run(project, "rollback", "--to", "2") == 1
    assert "version 2 is in quarantine: complaints" in capsys.readouterr().err
    assert run(project, "unquarantine", "2", "--reason", "the label was late") == 0
    assert f"airflow-mlops rollback {project.model} --to 2 lets it serve" in capsys.readouterr().out
    assert run(project, "rollback", "--to", "2") == 0
    assert project.workspace.registry.aliases() == {"champion": "2"}
    project.put(KEYS[3])
    live_through(project.workspace, KEYS[3])
    assert project.details_of("predictions_published", KEYS[3]).champion == "2"
    assert_invariants(project.workspace)


def test_the_history_says_who_promoted_what_when_and_why(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    run(project, "rollback", "--reason", "complaints")
    capsys.readouterr()
    assert run(project, "history") == 0
    lines = capsys.readouterr().out.splitlines()
    (promoted,) = [line for line in lines if "promoted  version 2" in line]
    decision = project.of_kind("retrain_decided")[-1]
    assert f"before it 1; made because: {decision.details.reason} (record {decision.sequence})" in promoted
    (back,) = [line for line in lines if "rolled_back" in line]
    assert "took version 2 back: complaints; version 1 serves instead  [person:" in back


def test_an_audit_finds_the_end_that_was_cut_off(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchors, exported = tmp_path / "anchors.jsonl", tmp_path / "audit.jsonl"
    assert run(project, "audit anchor", "--to", str(anchors)) == 0
    assert run(project, "audit verify", "--anchors", str(anchors)) == 0
    count = project.workspace.ledger.head().sequence
    out = capsys.readouterr().out
    assert f"{project.model}: {count} records, every hash holds" in out
    assert "1 anchors hold" in out
    assert run(project, "audit export", "--evidence", "--to", str(exported)) == 0
    lines = [json.loads(line) for line in exported.read_text().splitlines()]
    assert [line["sequence"] for line in lines] == list(range(1, count + 1))
    assert any("candidates" in document for line in lines for document in line["documents"].values())

    from sqlalchemy import create_engine, text

    from tests.loop.project import embedded_stores

    with create_engine(embedded_stores().ledger_url).begin() as connection:
        connection.execute(
            text("DELETE FROM airflow_mlops_ledger WHERE model = :model AND sequence = :last"),
            {"model": project.model, "last": count},
        )
    capsys.readouterr()
    assert run(project, "audit verify") == 0
    for form in ([], ["--incremental"]):
        capsys.readouterr()
        assert run(project, "audit verify", "--anchors", str(anchors), *form) == 1
        assert "the newest records were cut off" in capsys.readouterr().err


def test_an_incremental_audit_checks_the_records_after_the_newest_anchor(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchors = tmp_path / "anchors.jsonl"
    assert run(project, "audit verify", "--incremental") == 1
    assert "--anchors" in capsys.readouterr().err
    assert run(project, "audit anchor", "--to", str(anchors)) == 0
    anchored = project.workspace.ledger.head().sequence
    assert run(project, "card", "2") == 0
    capsys.readouterr()
    assert run(project, "audit verify", "--anchors", str(anchors), "--incremental") == 0
    assert f"{project.model}: 1 records after record {anchored}, every hash holds" in capsys.readouterr().out
    _change_actor(project, anchored + 1)
    assert run(project, "audit verify", "--anchors", str(anchors), "--incremental") == 1
    assert f"record {anchored + 1}" in capsys.readouterr().err


def _change_actor(project: Project, sequence: int) -> None:
    from sqlalchemy import create_engine, text

    from tests.loop.project import embedded_stores

    with create_engine(embedded_stores().ledger_url).begin() as connection:
        connection.execute(
            text("UPDATE airflow_mlops_ledger SET actor = 'nobody' WHERE model = :model AND sequence = :sequence"),
            {"model": project.model, "sequence": sequence},
        )


def test_evidence_that_was_changed_is_named_by_its_record(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    report = project.details_of("candidate_registered", KEYS[1]).report
    file = Path(project.workspace.evidence.location(report))
    file.write_bytes(file.read_bytes().replace(b'"passed":true', b'"passed":null'))
    assert run(project, "audit verify") == 1
    error = capsys.readouterr().err
    assert "(candidate_registered) rests on it" in error
    assert "was changed after it was written" in error


def test_a_model_that_nothing_declares_is_refused_with_where_was_looked(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "unheard_of", "--root", str(project.root)]) == 1
    assert "no declaration of a model 'unheard_of' in include/loops/*.yaml or dags/*.py" in capsys.readouterr().err


def test_a_check_reads_the_policy_too(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / FILE).write_text("tiers:\n  high: [aproval]\n")
    assert run(project, "check") == 1
    assert "include/policy.yaml:2: tiers.high[0]" in capsys.readouterr().err


def test_the_card_that_a_policy_misses_is_there_after_the_command_that_it_names(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert project.of_kind("card_written") == []
    assert run(project, "card", "2") == 0
    assert "# Model card" in capsys.readouterr().out
    assert [record.details.version for record in project.of_kind("card_written")] == ["2"]
    assert run(project, "card", "2") == 0
    assert len(project.of_kind("card_written")) == 1


def test_a_broken_declaration_of_another_model_that_speaks_of_this_one_stops_no_command(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    loops, dags = project.root / "include" / "loops", project.root / "dags"
    (loops / "a_broken.yaml").write_text(f"model: {project.model}_two\n# as {project.model}, but broken: [\nowner: [\n")
    assert run(project, "status") == 0
    (loops / f"{project.model}.yaml").rename(project.root / f"{project.model}.yaml")
    (dags / "a_broken.py").write_text(f"import nothing_of_this_name  # beside {project.model}\n")
    (dags / "loop_dags.py").write_text(
        f"from airflow_mlops import build_dags\nbuild_dags('{project.model}.yaml', root={str(project.root)!r})\n"
    )
    assert run(project, "status") == 0
    (dags / "loop_dags.py").unlink()
    capsys.readouterr()
    assert run(project, "status") == 1
    error = capsys.readouterr().err
    assert f"no declaration of a model '{project.model}'" in error
    assert "could not be read: " in error
    assert "a_broken.yaml" in error
    assert "a_broken.py" in error
    assert "nothing_of_this_name" in error


def test_the_own_declaration_that_is_broken_is_said_with_its_line(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.root / "include" / "loops" / f"{project.model}.yaml"
    file.write_text(file.read_text().replace('"owner"', '"ownr"'))
    assert run(project, "check") == 1
    assert capsys.readouterr().err.startswith(f"airflow-mlops: {file}:3: ownr: unknown key")


def test_a_folder_that_is_called_like_the_model_is_not_taken_for_its_declaration(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    (project.root / project.model).mkdir()
    assert main(["status", project.model]) == 0


@pytest.mark.parametrize("command", ["audit anchor", "audit export", "card"])
def test_a_place_that_cannot_be_written_is_one_line_that_names_it(
    project: Project, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    place = str(tmp_path / "file" / "out.html")
    assert run(project, command, *(["2"] if command == "card" else []), "--to", place) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("airflow-mlops: ")
    assert place in line


def test_anchors_that_are_no_text_are_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "anchors").write_bytes(b"\xff\xfe\x00")
    assert run(project, "audit verify", "--anchors", str(tmp_path / "anchors")) == 1
    assert "cannot be read" in capsys.readouterr().err
