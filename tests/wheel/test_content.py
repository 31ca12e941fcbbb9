"""The wheel holds the whole package, and nothing beside it."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from airflow_mlops.release import __version__
from tests.wheel.conftest import run_uv
from tests.wheel.terminal import HOUSE, open_terminal

PLUGINS = HOUSE / "plugins"
REFERENCE = HOUSE / "docs" / "reference"
OBSERVE = PLUGINS / "airflow_mlops" / "observe"

pytestmark = pytest.mark.usefixtures("with_wheel")


def test_every_file_of_the_package_is_in_the_wheel_and_nothing_else_is(wheel: Path) -> None:
    package = {
        path.relative_to(PLUGINS).as_posix()
        for path in (PLUGINS / "airflow_mlops").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    metadata = f"airflow_mlops-{__version__}.dist-info"
    described = {
        f"{metadata}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    with ZipFile(wheel) as archive:
        assert set(archive.namelist()) == package | described


def test_the_locked_versions_are_within_the_bounds_of_the_wheel() -> None:
    run_uv("check")


def test_the_program_prints_its_version_schema_rules_and_dashboard(tmp_path: Path) -> None:
    with open_terminal(tmp_path) as terminal:
        assert terminal.type("airflow-mlops --version") == f"airflow-mlops {__version__}\n"
        assert terminal.type("airflow-mlops schema") == (REFERENCE / "loop.schema.json").read_text(encoding="utf-8")
        for option, file in {"rules": "airflow_mlops_rules.yml", "dashboard": "airflow_mlops_dashboard.json"}.items():
            printed = terminal.type(f"airflow-mlops metrics --{option}")
            assert printed == (OBSERVE / file).read_text(encoding="utf-8")
