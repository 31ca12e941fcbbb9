"""The model registry in MLflow: one registered model, its versions and its aliases.

MLflow's aliases have no compare-and-swap and its client repeats requests that may have succeeded. So a version is made
under an operation id that is searched for before and after, and the ledger alone decides which version is the champion.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ports.registry import (
    GHOST_OF,
    MODEL_FILE,
    OPERATION,
    RegisteredVersion,
    Registration,
    VersionGoneError,
    ghosts_of,
)
from airflow_mlops.core.registry.mlflow_files import write_folder
from airflow_mlops.core.registry.reader_notes import reader_notes
from airflow_mlops.core.registry.registry_names import require_allowed, require_model_name, require_version_number
from airflow_mlops.core.registry.replace_folder import replace_folder

ANSWER_SECONDS = 10.0
"""Timeout of the health check of a server."""


class MlflowRegistry:
    """Versions of one model on an MLflow server or store. See :class:`ModelRegistry`.

    Parameters
    ----------
    tracking_uri : str
        ``http://127.0.0.1:5000`` or ``sqlite:////data/mlflow.db``.
    model : str
        Name of the registered model and of its experiment.
    artifact_location : str, optional
        Address of the artefacts of the experiment; the server's own choice if not given.
    artefact_prefixes : sequence of str, optional
        Addresses below which versions may have their files; by default the artefact location of the experiment.
    """

    def __init__(
        self,
        tracking_uri: str,
        model: str,
        *,
        artifact_location: str | None = None,
        artefact_prefixes: Sequence[str] = (),
    ) -> None:
        from mlflow import MlflowClient

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # in the log of a task it is noise
        self._uri, self._model, self._location = tracking_uri, require_model_name(model), artifact_location
        self._prefixes = tuple(artefact_prefixes)
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def register(self, registration: Registration) -> str:
        """Return the number of the version of an operation; see :meth:`ModelRegistry.register`."""
        if self._find_version(registration.operation) is None:
            with self._translate_errors("register"):
                run = self._finish_run(registration)
                model_id, location = self._log_model(registration, run)
                self._ensure_registered_model()
                fault_point("before_create_model_version")
                self._client.create_model_version(
                    self._model,
                    source=location,
                    run_id=run,
                    model_id=model_id,
                    tags={OPERATION: registration.operation, **registration.tags},
                )
                fault_point("create_model_version")
        self.mark_ghosts()
        number = self._find_version(registration.operation)
        if number is None:
            raise RegistryUnavailableError(f"{self._model}: MLflow made a version and does not find it")
        return number

    def all_versions(self) -> list[RegisteredVersion]:
        """Return every version, the oldest first."""
        return self._search(f"name = '{self._model}'")

    def mark_ghosts(self) -> dict[str, str]:
        """Tag the ghosts that are not tagged yet; see :meth:`ModelRegistry.mark_ghosts`."""
        versions = self.all_versions()
        tagged = {version.number: version.tags.get(GHOST_OF) for version in versions}
        untagged = {ghost: first for ghost, first in ghosts_of(versions).items() if tagged[ghost] != first}
        with self._translate_errors("tag a ghost"):
            for ghost, first in untagged.items():
                self._client.set_model_version_tag(self._model, ghost, GHOST_OF, first)
        return untagged

    def fetch(self, version: str, into: Path) -> Path:
        """Return the path of a version's model file, its folder copied to ``into``; see :meth:`ModelRegistry.fetch`."""
        from mlflow.artifacts import download_artifacts

        number = require_version_number(version)
        with self._translate_errors(f"fetch version {number}", version=number):
            source = str(self._client.get_model_version(self._model, number).source)
            require_allowed(source, self._prefixes or (self._artefact_location(),))
            with tempfile.TemporaryDirectory() as scratch, replace_folder(into) as part:
                downloaded = Path(download_artifacts(source, dst_path=scratch, tracking_uri=self._uri))
                if not (downloaded / MODEL_FILE).is_file():
                    raise RegistryError(f"{self._model}: version {number} has no {MODEL_FILE} at {source}")
                shutil.copytree(downloaded, part, symlinks=True, dirs_exist_ok=True)
                for note in reader_notes(part):  # a copy is handed on, and needs no note of who has read the version
                    (part / note).unlink()
        return into / MODEL_FILE

    def aliases(self) -> dict[str, str]:
        """Return the number of the version that each alias points to."""
        from mlflow.exceptions import MlflowException

        self._require_answer()
        with self._translate_errors("read aliases"):
            try:
                return {
                    name: str(version)
                    for name, version in self._client.get_registered_model(self._model).aliases.items()
                }
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise

    def set_alias(self, alias: str, version: str | None) -> None:
        """Point ``alias`` to ``version``, or remove it."""
        with self._translate_errors(f"set alias {alias}", version=version):
            if version is None:
                self._client.delete_registered_model_alias(self._model, alias)
            else:
                self._client.set_registered_model_alias(self._model, alias, require_version_number(version))

    def describe(self) -> dict[str, Any]:
        """Return the address of the model's page, None without a server."""
        is_server = self._uri.startswith("http")
        return {"url": f"{self._uri}/#/models/{self._model}" if is_server else None}

    def _find_version(self, operation: str) -> str | None:
        """Return the number of the oldest version of an operation, None without one; younger ones are ghosts."""
        versions = self._search(f"name = '{self._model}' and tags.`{OPERATION}` = '{operation}'")
        return versions[0].number if versions else None

    def _search(self, query: str) -> list[RegisteredVersion]:
        versions: list[RegisteredVersion] = []
        with self._translate_errors("search versions"):
            page = self._client.search_model_versions(query, max_results=1000)
            while True:
                versions += [
                    RegisteredVersion(str(version.version), str(version.source), dict(version.tags)) for version in page
                ]
                if not page.token:
                    return sorted(versions, key=lambda version: int(version.number))
                page = self._client.search_model_versions(query, max_results=1000, page_token=page.token)

    def _artefact_location(self) -> str:
        return str(self._client.get_experiment(self._ensure_experiment()).artifact_location)

    def _ensure_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(self._model)
        if experiment is not None:
            return str(experiment.experiment_id)
        try:
            return str(self._client.create_experiment(self._model, artifact_location=self._location))
        except MlflowException:
            experiment = self._client.get_experiment_by_name(self._model)  # somebody else made it meanwhile
            if experiment is None:
                raise
            return str(experiment.experiment_id)

    def _finish_run(self, registration: Registration) -> str:
        """Log metrics and parameters in a run, that of an earlier attempt if there is one; return its id."""
        experiment = self._ensure_experiment()
        runs = self._client.search_runs([experiment], f"tags.`{OPERATION}` = '{registration.operation}'", max_results=1)
        tags = {OPERATION: registration.operation, **registration.tags}
        run = runs[0] if runs else self._client.create_run(experiment, run_name=registration.operation[:12], tags=tags)
        run_id = str(run.info.run_id)
        for name, value in registration.params.items():
            self._client.log_param(run_id, name, value)
        for name, metric in registration.metrics.items():
            self._client.log_metric(run_id, name, metric)
        self._client.log_dict(run_id, dict(registration.datasets), "datasets.json")
        self._client.set_terminated(run_id)
        return run_id

    def _log_model(self, registration: Registration, run: str) -> tuple[str, str]:
        """Log the judged model file under the run; return id and location of the logged model."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            write_folder(registration, folder)
            logged = self._client.create_logged_model(
                self._ensure_experiment(), name="model", source_run_id=run, tags={OPERATION: registration.operation}
            )
            self._client.log_model_artifacts(logged.model_id, str(folder))
            self._client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id), str(logged.artifact_location)

    def _ensure_registered_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self._model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _require_answer(self) -> None:
        """Raise RegistryUnavailableError within seconds if a server is down: MLflow's client would retry for minutes.

        Aliases are read in order to repair them, after a rollback for example, and a later attempt does as well.
        """
        if not self._uri.startswith("http"):
            return
        try:
            httpx.get(f"{self._uri}/health", timeout=ANSWER_SECONDS)
        except httpx.TransportError as error:
            raise RegistryUnavailableError(
                f"{self._model}: MLflow at {self._uri} does not answer: {type(error).__name__}: {error}"
            ) from error

    @contextmanager
    def _translate_errors(self, action: str, *, version: str | None = None) -> Iterator[None]:
        """Translate MLflow's errors into one that names the model, the server and the action."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if version is not None and error.error_code == "RESOURCE_DOES_NOT_EXIST" and "Version" in str(error):
                raise VersionGoneError(f"{self._model}: MLflow at {self._uri} has no version {version}") from error
            raise RegistryUnavailableError(
                f"{self._model}: MLflow at {self._uri} could not {action}: {error}"
            ) from error


class RegistryUnavailableError(RegistryError):
    """The registry is down or has failed; a later attempt may succeed."""

    retryable = True
