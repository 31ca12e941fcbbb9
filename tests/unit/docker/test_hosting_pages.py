"""The pages about hosting: manifests agree with the image and the command line, and commands make what they say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from packaging.requirements import Requirement

HOUSE = Path(__file__).parents[3]
HOW_TO = HOUSE / "docs" / "how-to"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return [code for kind, code in BLOCK.findall((HOW_TO / page).read_text(encoding="utf-8")) if kind == language]


def test_the_constraints_of_mwaa_are_the_packages_of_the_lock_without_their_hashes(tmp_path: Path) -> None:
    (command,) = [code for code in blocks("run-on-mwaa.md", "bash") if code.startswith("sed ")]
    (tmp_path / "dags").mkdir()
    lock = (HOUSE / "requirements-dev.lock").read_text(encoding="utf-8")
    (tmp_path / "requirements-dev.lock").write_text(lock, encoding="utf-8")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    lines = (tmp_path / "dags" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(re.findall(r"^[A-Za-z0-9]", lock, re.MULTILINE))
    requirements = [Requirement(line) for line in lines]
    assert all(len(requirement.specifier) == 1 for requirement in requirements)
    assert {"apache-airflow", "apache-airflow-providers-amazon", "psycopg"} <= {each.name for each in requirements}
