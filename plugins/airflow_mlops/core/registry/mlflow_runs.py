"""Runs in MLflow: one for each operation, and what is logged in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlops.core.ports.registry import OPERATION
from airflow_mlops.core.registry.mlflow_server import MlflowServer

PARENT = "mlflow.parentRunId"
"""MLflow's own tag of the run that another is shown below."""
LONGEST_PARAM, LONGEST_TAG = 6000, 5000
MOST_PARAMS = 100
"""Limits of MLflow, in characters, and in parameters of one request."""


def open_run(server: MlflowServer, operation: str, name: str, *, parent: str | None = None) -> Any:
    """Return the run of an operation, made if there is none; below the run ``parent`` if that is given."""
    experiment = str(server.ensure_experiment().experiment_id)
    runs = server.client.search_runs([experiment], f"tags.`{OPERATION}` = '{operation}'", max_results=1)
    if runs:
        return runs[0]
    tags = {OPERATION: operation} | ({} if parent is None else {PARENT: parent})
    return server.write("create_run", experiment, run_name=name, tags=tags)


def log_run(
    server: MlflowServer, run: Any, metrics: Mapping[str, float], params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Log what the run does not have yet: a parameter of MLflow cannot be changed."""
    from mlflow.entities import Metric, Param, RunTag

    batch: dict[str, Any] = {
        "metrics": [
            Metric(name, value, run.info.start_time, 0)
            for name, value in metrics.items()
            if run.data.metrics.get(name) != value
        ],
        "tags": [RunTag(name, value[:LONGEST_TAG]) for name, value in tags.items()],
    }
    params = {name: value[:LONGEST_PARAM] for name, value in params.items() if name not in run.data.params}
    pending = [Param(name, value) for name, value in params.items()]
    server.write("log_batch", run.info.run_id, params=pending[:MOST_PARAMS], **batch)
    for start in range(MOST_PARAMS, len(pending), MOST_PARAMS):
        server.write("log_batch", run.info.run_id, params=pending[start : start + MOST_PARAMS])
