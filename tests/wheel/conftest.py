"""The wheel, built from this checkout, and the environment of ``requirements.lock`` with and without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.wheel.terminal import ENVIRONMENT, HOUSE

UV = HOUSE / ".venv-tools" / "bin" / "uv"


def run_uv(*arguments: str) -> None:
    """Run a command of ``uv pip`` in the environment, without the network."""
    python = ENVIRONMENT / "bin" / "python"
    command = [str(UV), "pip", *arguments, "--offline", "--python", str(python)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build = ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run([sys.executable, *build], cwd=HOUSE, check=True, capture_output=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def with_wheel(wheel: Path) -> None:
    """The environment has the wheel."""
    run_uv("install", "--no-deps", "--reinstall", str(wheel))


@pytest.fixture(scope="module")
def without_wheel() -> None:
    """The environment has what the project needs, and not the project."""
    run_uv("uninstall", "airflow-mlops")
