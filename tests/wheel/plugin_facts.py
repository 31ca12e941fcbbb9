"""Read what Airflow says about its plugins, and where it finds the package."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.wheel.terminal import Terminal

VIEWS = {"nav": 1, "dag": 1, "dag_run": 1, "task": 1}
WHERE = "import airflow_mlops; print(airflow_mlops.__file__)"


def rows_of(terminal: Terminal, command: str) -> list[dict[str, Any]]:
    """Return the rows that a command of Airflow lists; its warnings come first, on the same stream."""
    rows: list[dict[str, Any]] = json.loads(terminal.type(f"{command} --output json").splitlines()[-1])
    return rows


def the_plugin(terminal: Terminal) -> dict[str, Any]:
    """Return the plugin as ``airflow plugins`` prints it; it is the only one of this package, with each view once."""
    plugins = rows_of(terminal, "airflow plugins")
    (plugin,) = [entry for entry in plugins if "airflow_mlops" in json.dumps(entry)]
    assert plugin["name"] == "airflow_mlops"
    assert Counter(view["destination"] for view in plugin["external_views"]) == VIEWS
    assert len(plugin["fastapi_apps"]) == 1
    return dict(plugin)


def package_folder(terminal: Terminal) -> Path:
    """Return the folder of the package that Airflow has loaded."""
    load = f"from airflow import plugins_manager; plugins_manager.ensure_plugins_loaded(); {WHERE}"
    return Path(terminal.type(f'python -c "{load}"').splitlines()[-1]).parent


def doctor_of_plugin(terminal: Terminal) -> list[tuple[str, str]]:
    """Return the level and the words of each finding of the doctor about the plugin."""
    # The doctor returns 1 where anything is wrong, as an Airflow that does not run.
    printed = terminal.type("airflow-mlops doctor --json || true")
    findings = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [(finding["level"], finding["seen"]) for finding in findings if finding["check"] == "plugin"]


def installed_package(terminal: Terminal) -> Path:
    """Return the folder of the package in the environment's site-packages."""
    return (
        Path(terminal.type("python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))'").strip())
        / "airflow_mlops"
    )
