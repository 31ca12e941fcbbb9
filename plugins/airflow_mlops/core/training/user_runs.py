"""Lead what user code logs by MLflow into the store of the loop, or into files beside the model.

MLflow takes the store, the experiment and the tags of a new run from environment variables, so the code needs no
setting of its own, here and in a child process. Neither this module nor a fit imports MLflow.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_mlops.core.ports.experiments import offline_variables
from airflow_mlops.core.training.usable_model import error_chain

log = logging.getLogger(__name__)

OFFLINE = "experiments"
"""Name of the folder beside a model file where the user's code logs when no store can be reached."""
VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_CONTEXT",
    "MLFLOW_ALLOW_FILE_STORE",
)


@contextmanager
def user_runs(variables: Mapping[str, str]) -> Iterator[None]:
    """Set MLflow's variables for the user's code; at the end, end the run that it has left open and restore them."""
    saved = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    before = active_run_id()
    _set(variables)
    try:
        yield
    finally:
        _end_run(before)
        _set(saved)


@contextmanager
def no_user_runs() -> Iterator[None]:
    """Throw away the logs of user code that is called only to see its candidates."""
    with tempfile.TemporaryDirectory() as folder, user_runs(offline_variables(Path(folder) / OFFLINE)):
        yield


def go_offline(error: BaseException, folder: Path) -> bool:
    """Return whether MLflow has raised an error in the user's code; if so, what the code logs next goes to ``folder``.

    A store that fails must not fail a training.
    """
    if not any(type(cause).__module__.partition(".")[0] == "mlflow" for cause in error_chain(error)):
        return False
    log.warning("MLflow refuses what the training function logs; it is called again and logs to %s: %s", folder, error)
    _end_run(None)
    _set(offline_variables(folder))
    return True


def child_variables() -> dict[str, str]:
    """Return the variables for a child process, without a store whose address holds a password."""
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {} if urlsplit(variables.get("MLFLOW_TRACKING_URI", "")).password else variables


def active_run_id() -> str | None:
    """Return the id of MLflow's active run; None without one, or where MLflow was not imported."""
    run = _active_run()
    return None if run is None else str(run.info.run_id)


def _active_run() -> Any:
    mlflow = sys.modules.get("mlflow")
    return None if mlflow is None or not hasattr(mlflow, "active_run") else mlflow.active_run()


def _end_run(before: str | None) -> None:
    run = active_run_id()
    if run is None or run == before:
        return
    try:
        sys.modules["mlflow"].end_run()
    except sys.modules["mlflow"].exceptions.MlflowException as error:
        log.warning("MLflow could not end run %s of the training function: %s", run, error)


def _set(variables: Mapping[str, str]) -> None:
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(variables)
