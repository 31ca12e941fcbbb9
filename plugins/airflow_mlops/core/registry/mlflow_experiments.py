"""Trainings as runs of MLflow: a run for each, and one below it for each candidate, trial and run of user code."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlops.core.ports.experiments import CANDIDATE, REQUEST, LoggedDataset, LoggedRun, offline_variables
from airflow_mlops.core.ports.registry import RegistryUnavailableError
from airflow_mlops.core.registry.mlflow_runs import PARENT, log_run, open_run
from airflow_mlops.core.registry.mlflow_server import MlflowServer

CONTEXT = "mlflow.data.context"
"""MLflow's own tag of an input: ``training`` or ``evaluation``."""
LONGEST_DIGEST = 36
MOST_DATASETS = 500
"""Limits of MLflow: the characters of a digest, and half of the inputs that one request may have."""


class MlflowExperiments:
    """The trainings of one model in its experiment. See :class:`Experiments`.

    Parameters
    ----------
    server : MlflowServer
        Where they are logged.
    snapshots : str
        Address of the table of the partitions that trainings read.
    """

    def __init__(self, server: MlflowServer, snapshots: str) -> None:
        self._server, self._snapshots = server, snapshots

    def log_training(self, training: LoggedRun, datasets: tuple[LoggedDataset, ...]) -> str:
        """Log a training; see :meth:`Experiments.log_training`."""
        self._server.require_answer()
        with self._server.translate_errors("log a training"):
            run = open_run(self._server, training.operation, training.name)
            page = f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
            if run.info.status == "FINISHED":
                return page
            inputs = [input_of(dataset, self._snapshots) for dataset in datasets[-MOST_DATASETS:]]
            self._server.write("log_inputs", run.info.run_id, datasets=inputs)
            candidates = {child.name: self._log(child, run.info.run_id) for child in training.children}
            self._adopt_user_runs(training.operation, candidates)
            self._log_contents(training, run)
        return page

    def variables(self, tags: Mapping[str, str], offline: Path) -> dict[str, str]:
        """Return MLflow's own variables; see :meth:`Experiments.variables`."""
        try:
            self._server.require_answer()
            experiment = self._experiment_variables()
        except RegistryUnavailableError:
            return offline_variables(offline)
        context = {"MLFLOW_TRACKING_URI": self._server.uri, "MLFLOW_RUN_CONTEXT": json.dumps(dict(tags))}
        return context | experiment

    def _experiment_variables(self) -> dict[str, str]:
        """Return the experiment: by its name, which needs no import of MLflow, or by its id on one machine."""
        if self._server.is_remote:
            return {"MLFLOW_EXPERIMENT_NAME": self._server.model}
        with self._server.translate_errors("make the experiment"):
            return {"MLFLOW_EXPERIMENT_ID": str(self._server.ensure_experiment().experiment_id)}

    def _log(self, logged: LoggedRun, parent: str) -> str:
        """Log a run below its parent, and its own children; return its id."""
        run = open_run(self._server, logged.operation, logged.name, parent=parent)
        for child in logged.children:
            self._log(child, run.info.run_id)
        self._log_contents(logged, run)
        return str(run.info.run_id)

    def _log_contents(self, logged: LoggedRun, run: Any) -> None:
        log_run(self._server, run, logged.metrics, logged.params, logged.tags)
        if logged.pictures:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in logged.pictures.items():
                    (Path(folder) / name).write_bytes(content)
                self._server.write("log_artifacts", run.info.run_id, folder, "pictures")
        self._server.write("set_terminated", run.info.run_id, "FAILED" if logged.failed else "FINISHED")

    def _adopt_user_runs(self, operation: str, candidates: Mapping[str, str]) -> None:
        """Show the runs of the user's code below the runs of their candidates."""
        experiment = str(self._server.ensure_experiment().experiment_id)
        for run in self._server.client.search_runs([experiment], f"tags.`{REQUEST}` = '{operation}'"):
            parent = candidates.get(run.data.tags.get(CANDIDATE, ""))
            if parent is not None and PARENT not in run.data.tags:
                self._server.write("set_tag", run.info.run_id, PARENT, parent)


def input_of(dataset: LoggedDataset, table: str) -> Any:
    """Return a pinned partition of the table at an address as an input of MLflow."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {"path": table, "delta_table_version": dataset.version, "partition": dataset.partition}
    return DatasetInput(
        Dataset(dataset.partition, dataset.digest[:LONGEST_DIGEST], "delta_table", json.dumps(source)),
        [InputTag(CONTEXT, dataset.context)],
    )
