"""The environment of an isolated Airflow in one folder.

Airflow reads most of its settings when it is first imported, so this module imports nothing of it: a
test session calls `isolate_airflow` before anything else does ``import airflow``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def airflow_environment(home: Path, dags: Path) -> dict[str, str]:
    """Return the environment variables of an Airflow in ``home``, on SQLite, with its Dags in ``dags``."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "32",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-tests-in-one-process-" + 40 * "x",  # SHA-512 wants 64 bytes
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def isolate_airflow(home: Path) -> None:
    """Point this process at an Airflow home of its own, before Airflow is imported.

    Raises
    ------
    RuntimeError
        If Airflow was imported already: it would keep using the home that it found then.
    """
    if "airflow.configuration" in sys.modules and os.environ.get("AIRFLOW_HOME") != str(home):
        raise RuntimeError(
            f"Airflow was imported before its home was set to {home}, so it would write to the home of the "
            "user; call isolate_airflow at the top of the outermost conftest.py."
        )
    dags = home / "dags"
    dags.mkdir(parents=True, exist_ok=True)
    os.environ.update(airflow_environment(home, dags))
