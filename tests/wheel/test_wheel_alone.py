"""The wheel alone: the tutorial *From an empty folder* with real processes, and on to a closed loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loop.newcomer import MORE_PARCELS, PAGE
from tests.loop.tutorial_page import follow_page
from tests.wheel.plugin_facts import doctor_of_plugin, installed_package, the_plugin
from tests.wheel.terminal import open_terminal

pytestmark = pytest.mark.usefixtures("with_wheel")


@pytest.mark.timeout(2400)  # a hundred tasks, each a process: minutes, and many where others have the cores
def test_the_commands_of_the_tutorial_lead_to_a_champion_and_slower_parcels_to_the_next(tmp_path: Path) -> None:
    with open_terminal(tmp_path) as terminal:
        assert follow_page(PAGE, terminal.type, terminal.folder) == 5
        assert doctor_of_plugin(terminal) == [("ok", f"registered once, from {installed_package(terminal)}")]
        assert "parcels" in terminal.page("/airflow-mlops/models")

        (terminal.folder / "more_parcels.py").write_text(MORE_PARCELS, encoding="utf-8")
        terminal.type("python more_parcels.py")
        terminal.type("airflow-mlops enable parcels --past")
        status = terminal.type("airflow-mlops status parcels")
        assert "champion          version 2" in status
        assert "(14 published, 0 refused)" in status
        assert "retrains          2, promotions 2, rollbacks 0" in status
        assert "decided to retrain (alarm: performance)" in terminal.type("airflow-mlops history parcels")

        tasks = terminal.client().task_instances()
        assert {task["state"] for task in tasks} == {"success", "skipped"}
        assert {task["try_number"] for task in tasks if task["task_id"] == "fit"} == {1}


def test_airflow_finds_the_plugin_by_the_entry_point_of_the_wheel(tmp_path: Path) -> None:
    with open_terminal(tmp_path, AIRFLOW_HOME=str(tmp_path / "airflow")) as terminal:
        assert "EntryPoint(name='airflow_mlops'" in the_plugin(terminal)["source"]
        assert "airflow-mlops" in terminal.type("airflow providers list --output plain")
