"""The wheel and a clone's plugins folder together: one plugin, and it is said whose code runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wheel.plugin_facts import doctor_of_plugin, installed_package, package_folder, the_plugin
from tests.wheel.terminal import HOUSE, open_terminal

CLONE = HOUSE / "plugins" / "airflow_mlops"

pytestmark = pytest.mark.usefixtures("with_wheel")


def test_the_plugin_is_registered_once_by_the_wheel_and_the_clone_is_named_as_not_read(tmp_path: Path) -> None:
    with open_terminal(tmp_path, AIRFLOW__CORE__LOAD_EXAMPLES="False") as terminal:
        terminal.type("export AIRFLOW_HOME=$PWD")
        (terminal.folder / "plugins").symlink_to(HOUSE / "plugins")
        installed = installed_package(terminal)
        assert "EntryPoint(name='airflow_mlops'" in the_plugin(terminal)["source"]
        assert package_folder(terminal) == installed
        ((level, seen),) = doctor_of_plugin(terminal)
        assert level == "warning"
        assert seen == f"registered once, from {installed}; {CLONE} is not read"

        terminal.type("airflow standalone")
        answer = terminal.client().request("GET", "/api/v2/plugins")
        assert [plugin["name"] for plugin in answer["plugins"]].count("airflow_mlops") == 1
        assert terminal.client().request("GET", "/api/v2/plugins/importErrors")["import_errors"] == []
        assert terminal.errors() == []


def test_a_clone_that_comes_first_on_the_path_is_the_code_that_runs(tmp_path: Path) -> None:
    settings = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__PLUGINS_FOLDER": str(HOUSE / "plugins")}
    with open_terminal(tmp_path, **settings, PYTHONPATH=str(HOUSE / "plugins")) as terminal:
        assert "EntryPoint(name='airflow_mlops'" in the_plugin(terminal)["source"]
        assert package_folder(terminal) == CLONE
        ((level, seen),) = doctor_of_plugin(terminal)
        assert level == "warning"
        assert seen == f"registered once, from {CLONE}; {installed_package(terminal)} is not read"
