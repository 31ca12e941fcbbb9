"""``airflow-mlops init``: a project from an empty folder, and what is added to one in use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from airflow_mlops.cli import main
from tests.loop.new_project import work_in

HOUSE = Path(__file__).resolve().parents[2]
NOBODY = 65534
FILES = {
    ".gitignore",
    "README.md",
    "dags/.airflowignore",
    "include/__init__.py",
    "include/loops/README.md",
    "include/training/__init__.py",
    "tests/conftest.py",
    "tests/test_dags.py",
}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by its path."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_an_empty_folder_becomes_a_project_and_a_second_time_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "shop"
    assert main(["init", str(folder)]) == 0
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("added")} == FILES
    first = contents(folder)
    assert first.keys() == FILES
    assert first["README.md"].startswith(b"# shop\n")
    assert main(["init", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "added" not in printed
    assert {line.split()[1] for line in printed.splitlines() if line.startswith("kept")} == FILES
    assert contents(folder) == first


def test_in_a_folder_in_use_every_file_stays_and_what_its_gitignore_lacks_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"README.md": b"mine", ".gitignore": b"logs/\n", "dags/etl.py": b"1", "include/__init__.py": b""}
    for name, content in own.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert main(["init", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    after = contents(tmp_path)
    assert {name: after[name] for name in own} == own
    assert after.keys() == FILES | own.keys()
    assert "kept  README.md\nkept  .gitignore\n" in printed
    assert "your .gitignore lacks airflow.cfg, airflow.db*, mlops/, " in printed
    assert "logs/" not in printed.partition("lacks")[2]


def test_with_a_model_it_runs_and_a_second_time_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with work_in(tmp_path):
        assert main(["init", "--model", "bakery"]) == 0
        first = contents(tmp_path)
        assert "bakery is well declared" in capsys.readouterr().out
        assert main(["init", "--model", "bakery"]) == 0
        assert "kept  include/loops/bakery.yaml" in capsys.readouterr().out
        assert contents(tmp_path) == first


def test_a_file_is_no_project_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shop"
    file.write_text("mine")
    assert main(["init", str(file)]) == 1
    assert (
        capsys.readouterr().err == f"airflow-mlops: {file}: is a file, and a project is a folder; name another folder\n"
    )
    assert file.read_text() == "mine"


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dags").write_text("mine")
    assert main(["init", str(tmp_path)]) == 1
    assert f"{tmp_path}/dags/.airflowignore: cannot be written: " in capsys.readouterr().err
    assert (tmp_path / "dags").read_text() == "mine"


def test_a_folder_that_may_not_be_written_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    # Root may write anywhere, so the second command is another user's; the first has imported what both need.
    code = (
        "import os, sys\nfrom airflow_mlops.cli import main\n"
        f"assert main(['init', {str(tmp_path / 'open')!r}]) == 0\n"
        f"if os.geteuid() == 0: os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"sys.exit(main(['init', {str(folder)!r}]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(HOUSE / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"airflow-mlops: {folder}"), ended.stderr
    assert ended.stderr.endswith(": cannot be written: Permission denied\n"), ended.stderr
    assert contents(tmp_path).keys() == {f"open/{name}" for name in FILES}


def test_the_wheel_holds_every_file_that_a_project_is_made_from() -> None:
    packed = {file.distribution_path for file in WheelBuilder(str(HOUSE)).recurse_included_files()}
    templates = HOUSE.glob("plugins/airflow_mlops/core/scaffold/templates/*")
    names = {path.relative_to(HOUSE / "plugins").as_posix() for path in templates}
    assert len(names) >= 9
    assert names <= packed
