"""``airflow-mlops init --ci``: the steps of the pipelines are run as GitHub and GitLab would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_mlops.cli import main
from tests.loop.new_project import work_in

HOUSE = Path(__file__).resolve().parents[2]
DECLARATION = Path("include/loops/bakery.yaml")
TESTS = "python -m pytest"


def run(folder: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step in a shell that stops at the first error, as both do."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    environment = {**surroundings, "PATH": tools, "PYTHONPATH": str(HOUSE / "plugins"), **variables}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def committed_project(folder: Path, pipeline: str) -> str:
    """Make a project with a model and a pipeline, commit it, change its declaration, and return the commit."""
    with work_in(folder):
        assert main(["init", "--model", "bakery", "--ci", pipeline]) == 0
    commit = "git -c user.name=a -c user.email=a@b.invalid commit -qm first"
    made = run(folder, f"git init -q . && git add -A && {commit} && git rev-parse HEAD")
    assert made.returncode == 0, made.stderr
    text = (folder / DECLARATION).read_text()
    (folder / DECLARATION).write_text(re.sub("window: .*", "window: 1", text, count=1))
    return made.stdout.strip()


@pytest.fixture
def github(tmp_path: Path) -> tuple[Path, str, dict[str, Any]]:
    """Return a changed project, the commit before the change, and the steps of its pipeline by name."""
    base = committed_project(tmp_path, "github")
    jobs = yaml.safe_load((tmp_path / ".github/workflows/loops.yaml").read_text())["jobs"]
    return tmp_path, base, {step["name"]: step for step in jobs["loops"]["steps"] if "run" in step}


def test_github_tests_a_change_and_says_what_it_declares_otherwise(github: tuple[Path, str, dict[str, Any]]) -> None:
    folder, base, steps = github
    tests = next(step for step in steps.values() if step["run"].startswith(TESTS))
    passed = run(folder, tests["run"])
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "3 passed" in passed.stdout
    compare = steps["Compare the declarations"]
    assert compare["env"] == {"BASE": "${{ github.event.pull_request.base.sha }}"}
    compared = run(folder, compare["run"], BASE=base, GITHUB_STEP_SUMMARY=str(folder / "summary.md"))
    assert compared.returncode == 0, compared.stderr
    assert "| bakery | `train.window` |" in (folder / "changes.md").read_text()
    assert (folder / "summary.md").read_text() == (folder / "changes.md").read_text()
    assert "--body-file changes.md" in steps["Comment on the pull request"]["run"]
    assert run(folder, "cat requirements.txt").stdout.startswith("airflow-mlops[all]==")


def test_github_refuses_a_change_that_breaks_a_declaration(github: tuple[Path, str, dict[str, Any]]) -> None:
    folder, _, steps = github
    (folder / DECLARATION).write_text((folder / DECLARATION).read_text().replace("window: 1", "window: none at all"))
    tests = next(step for step in steps.values() if step["run"].startswith(TESTS))
    refused = run(folder, tests["run"])
    assert refused.returncode == 1
    assert "train.window" in refused.stdout
    assert "3 failed" in refused.stdout


def test_gitlab_runs_the_same_tests_and_compares(tmp_path: Path) -> None:
    base = committed_project(tmp_path, "gitlab")
    script = yaml.safe_load((tmp_path / ".gitlab-ci.yml").read_text())["loops"]["script"]
    install, tests, compare, comment = script
    assert install == "pip install -r requirements.txt"
    assert tests.startswith(TESTS)
    compared = run(tmp_path, compare, CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    assert compared.returncode == 0, compared.stderr
    assert "| bakery | `train.window` |" in compared.stdout
    assert run(tmp_path, comment).returncode == 0  # without a token there is no comment
    assert run(tmp_path, f"rm changes.md; {compare}").stdout == ""  # on the main branch


def test_no_file_of_a_pipeline_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {".gitlab-ci.yml": "mine", "requirements.txt": "pandas\n"}
    for name, text in own.items():
        (tmp_path / name).write_text(text)
    assert main(["init", str(tmp_path), "--ci", "gitlab"]) == 0
    assert {name: (tmp_path / name).read_text() for name in own} == own
    printed = capsys.readouterr().out
    assert "kept  .gitlab-ci.yml" in printed
    assert "kept  requirements.txt" in printed
