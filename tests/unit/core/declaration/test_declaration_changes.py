"""The differences between the declarations of two states of a project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.declaration.declaration_changes import declaration_changes, describe_changes
from tests.unit.core.toy_loop import toy_loop


def changes_of(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    changes = declaration_changes({"toy": toy_loop(**before)}, {"toy": toy_loop(**after)})
    return {change.key: (change.before, change.after) for change in changes}


def test_equal_declarations_differ_nowhere() -> None:
    assert changes_of({}, {}) == {}


def test_a_field_in_a_section_a_gate_and_a_policy_are_named_by_their_paths() -> None:
    gate = {"metric": "mae", "at_most": 5}
    changed = changes_of(
        {"gates": [gate], "retrain": {"cooldown": 2}},
        {"gates": [{**gate, "at_most": 4}, {"metric": "rmse", "at_most": 9}], "retrain": {"policy": {"regret": 0.1}}},
    )
    assert changed["gates[0].at_most"] == (5.0, 4.0)
    assert changed["gates[1].metric"] == (None, "rmse")
    assert changed["retrain.policy"] == ("alarm", None)
    assert changed["retrain.policy.regret"] == (None, 0.1)
    assert changed["retrain.cooldown"] == (2, 1)


def test_an_added_and_a_removed_loop_are_said_once() -> None:
    changes = declaration_changes({"old": toy_loop(model="old")}, {"new": toy_loop(model="new")})
    assert describe_changes(changes, markdown=False) == ["new: added", "old: removed"]


def test_no_value_leaves_its_cell() -> None:
    changes = declaration_changes({"toy": toy_loop(owner="a")}, {"toy": toy_loop(owner="b | `c`\n| d |")})
    lines = describe_changes(changes, markdown=True)
    assert lines[2] == '| toy | `owner` | `"a"` | `"b \\| \'c\'\\n\\| d \\|"` |'


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"airflow-mlops: {tmp_path}: holds no include/; name the folder of a project\n"


def test_programs_read_each_field_as_json_and_a_broken_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, owner in (("before", "a"), ("after", "b")):
        loops = tmp_path / name / "include" / "loops"
        loops.mkdir(parents=True)
        (loops / "toy.yaml").write_text(json.dumps(toy_loop(owner=owner).to_dict()))
    (tmp_path / "after/include/loops/zoo.yaml").write_text("model: [")
    assert main(["diff", str(tmp_path / "before"), "--root", str(tmp_path / "after"), "--json"]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == [
        {"model": "toy", "key": "owner", "before": "a", "after": "b"}
    ]
    assert "zoo.yaml" in printed.err
