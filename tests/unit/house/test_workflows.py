"""A workflow of GitHub that this repository writes for its users, or has itself, gives nobody more than it must."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.core.scaffold.new_project import project_texts

ROOT = Path(__file__).parents[3]
ZIZMOR = Path(sys.executable).with_name("zizmor")
WORKFLOW = ".github/workflows/loops.yaml"


def findings(folder: Path) -> str:
    """Return the findings of zizmor on the workflows below a folder, which asks nobody for anything; empty for none."""
    command = [ZIZMOR, "--offline", "--no-progress", "--no-config", "--strict-collection", "--format", "plain", folder]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if process.returncode == 0 else process.stdout + process.stderr


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return the workflow as ``airflow-mlops init --ci github`` writes it."""
    file = tmp_path / WORKFLOW
    file.parent.mkdir(parents=True)
    file.write_text(project_texts(tmp_path, "github")[WORKFLOW])
    return file


def test_the_workflow_that_init_writes_has_no_finding(written: Path) -> None:
    assert findings(written.parent) == ""


@pytest.mark.parametrize(
    ("safe", "unsafe", "rule"),
    [
        ("          persist-credentials: false\n", "", "artipacked"),
        ("checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2", "checkout@v4", "unpinned-uses"),
        ('"$BASE"', "${{ github.event.pull_request.title }}", "template-injection"),
        ("  pull_request:\n", "  pull_request_target:\n", "dangerous-triggers"),
    ],
)
def test_what_would_open_it_to_strangers_is_found(written: Path, safe: str, unsafe: str, rule: str) -> None:
    text = written.read_text()
    assert safe in text
    written.write_text(text.replace(safe, unsafe))
    assert f"[{rule}]" in findings(written.parent)


def test_no_workflow_of_this_repository_has_a_finding() -> None:
    own = ROOT / ".github" / "workflows"
    assert not own.is_dir() or findings(own) == ""
