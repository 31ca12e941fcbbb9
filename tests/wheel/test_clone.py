"""The repository as a clone: its plugins folder in an environment that does not have the wheel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.wheel.plugin_facts import package_folder, the_plugin
from tests.wheel.terminal import HOUSE, open_terminal

LOOPS = ("flight_air_time", "flight_arrival", "flight_delay")

pytestmark = pytest.mark.usefixtures("without_wheel")


def test_a_clone_registers_the_plugin_parses_its_dags_and_runs_commands(tmp_path: Path) -> None:
    settings = {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOUSE / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(HOUSE / "plugins"),
        "PYTHONPATH": f"{HOUSE}:{HOUSE / 'plugins'}",
    }
    with open_terminal(tmp_path, **settings) as terminal:
        assert "register_airflow_mlops.py" in the_plugin(terminal)["source"]
        assert package_folder(terminal) == HOUSE / "plugins" / "airflow_mlops"

        terminal.type("airflow db migrate")
        assert json.loads(terminal.type("airflow dags list-import-errors --local --output json")) == []
        listed = terminal.type("airflow dags list --local --output json")
        dag_ids = [dag["dag_id"] for dag in json.loads(listed)]
        assert {dag_id for loop in LOOPS for dag_id in (f"{loop}_ingest", f"{loop}_control")} <= set(dag_ids)
        assert len(dag_ids) == len(set(dag_ids))

        for loop in LOOPS:
            command = f"python -m airflow_mlops.cli check {loop} --root {HOUSE}"
            assert terminal.type(command) == f"{loop}: {loop} is well declared\n"
