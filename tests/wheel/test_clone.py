"""The repository as a clone: its plugins folder in an environment that does not have the wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wheel.plugin_facts import package_folder, rows_of, the_plugin
from tests.wheel.terminal import HOUSE, open_terminal

LOOPS = ("flight_air_time", "flight_arrival", "flight_delay")
WITHOUT_EXTRAS = ("flight_air_time", "flight_delay")

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
        assert rows_of(terminal, "airflow dags list-import-errors --local") == []
        dag_ids = [dag["dag_id"] for dag in rows_of(terminal, "airflow dags list --local")]
        assert {dag_id for loop in LOOPS for dag_id in (f"{loop}_ingest", f"{loop}_control")} <= set(dag_ids)
        assert len(dag_ids) == len(set(dag_ids))

        for loop in WITHOUT_EXTRAS:
            command = f"python -m airflow_mlops.cli check {loop} --root {HOUSE}"
            assert terminal.type(command) == f"{loop}: {loop} is well declared\n"
