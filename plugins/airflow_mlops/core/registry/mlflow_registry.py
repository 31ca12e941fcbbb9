"""The model registry in MLflow: one registered model, its versions and its aliases.

MLflow's aliases have no compare-and-swap and its client repeats requests that may have succeeded. So a version is made
under an operation id that is searched for before and after, and the ledger alone decides which version is the champion.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ports.registry import (
    GHOST_OF,
    MODEL_FILE,
    OPERATION,
    RegisteredVersion,
    Registration,
    RegistryUnavailableError,
    ghosts_of,
)
from airflow_mlops.core.ports.spans import span
from airflow_mlops.core.registry.mlflow_files import write_folder
from airflow_mlops.core.registry.mlflow_runs import log_run, open_run
from airflow_mlops.core.registry.mlflow_server import MlflowServer
from airflow_mlops.core.registry.reader_notes import reader_notes
from airflow_mlops.core.registry.registry_names import require_allowed, require_version_number
from airflow_mlops.core.registry.replace_folder import replace_folder


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
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # in the log of a task it is noise
        self._server = MlflowServer(tracking_uri, model, artifact_location=artifact_location)
        self._uri, self._model, self._client = tracking_uri, model, self._server.client
        self._prefixes = tuple(artefact_prefixes)

    @span("register")
    def register(self, registration: Registration) -> str:
        """Return the number of the version of an operation; see :meth:`ModelRegistry.register`."""
        self._delete_taken(registration)
        if self._find_version(registration.operation) is None:
            with self._server.translate_errors("register"):
                run = self._finish_run(registration)
                model_id, location = self._log_model(registration, run)
                self._ensure_registered_model()
                created = self._create_version(registration, location, run, model_id)
                while created in registration.taken:  # MLflow has lost the version that had it; it gives it once
                    self._server.write("delete_model_version", self._model, created)
                    created = self._create_version(registration, location, run, model_id)
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
        with self._server.translate_errors("tag a ghost"):
            for ghost, first in untagged.items():
                self._server.write("set_model_version_tag", self._model, ghost, GHOST_OF, first)
        return untagged

    def fetch(self, version: str, into: Path) -> Path:
        """Return the path of a version's model file, its folder copied to ``into``; see :meth:`ModelRegistry.fetch`."""
        from mlflow.artifacts import download_artifacts

        number = require_version_number(version)
        with self._server.translate_errors(f"fetch version {number}", version=number):
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

        self._server.require_answer()
        with self._server.translate_errors("read aliases"):
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
        wanted = None if version is None else require_version_number(version)
        translated = self._server.translate_errors(f"set alias {alias}", version=version)
        with translated, external_write(f"mlflow.set_alias.{alias}"):
            if wanted is None:
                self._client.delete_registered_model_alias(self._model, alias)
            else:
                self._client.set_registered_model_alias(self._model, alias, wanted)

    def describe(self) -> dict[str, Any]:
        """Return the address of the model's page, None without a server."""
        return {"url": f"{self._uri}/#/models/{self._model}" if self._server.is_remote else None}

    def _create_version(self, registration: Registration, location: str, run: str, model_id: str) -> str:
        version = self._server.write(
            "create_model_version",
            self._model,
            source=location,
            run_id=run,
            model_id=model_id,
            tags={OPERATION: registration.operation, **registration.tags},
        )
        return str(version.version)

    def _delete_taken(self, registration: Registration) -> None:
        """Delete what an attempt that was killed has left under a number that the ledger knows as another version."""
        left = [
            version for version in self._versions_of(registration.operation) if version.number in registration.taken
        ]
        with self._server.translate_errors("delete a version whose number is taken"):
            for version in left:
                self._server.write("delete_model_version", self._model, version.number)

    def _find_version(self, operation: str) -> str | None:
        """Return the number of the oldest version of an operation, None without one; younger ones are ghosts."""
        versions = self._versions_of(operation)
        return versions[0].number if versions else None

    def _versions_of(self, operation: str) -> list[RegisteredVersion]:
        """Return the versions of an operation, the oldest first."""
        return self._search(f"name = '{self._model}' and tags.`{OPERATION}` = '{operation}'")

    def _search(self, query: str) -> list[RegisteredVersion]:
        versions: list[RegisteredVersion] = []
        with self._server.translate_errors("search versions"):
            page = self._client.search_model_versions(query, max_results=1000)
            while True:
                versions += [
                    RegisteredVersion(str(version.version), str(version.source), dict(version.tags)) for version in page
                ]
                if not page.token:
                    return sorted(versions, key=lambda version: int(version.number))
                page = self._client.search_model_versions(query, max_results=1000, page_token=page.token)

    def _artefact_location(self) -> str:
        return str(self._server.ensure_experiment().artifact_location)

    def _finish_run(self, registration: Registration) -> str:
        """Log the registration in the run of its operation, which the training or an earlier attempt may have made."""
        run = open_run(self._server, registration.operation, registration.operation[:12])
        log_run(self._server, run, registration.metrics, registration.params, registration.tags)
        run_id = str(run.info.run_id)
        self._server.write("log_dict", run_id, dict(registration.datasets), "datasets.json")
        self._server.write("set_terminated", run_id)
        return run_id

    def _log_model(self, registration: Registration, run: str) -> tuple[str, str]:
        """Log the judged model file under the run; return id and location of the logged model."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            write_folder(registration, folder)
            logged = self._server.write(
                "create_logged_model",
                self._server.ensure_experiment().experiment_id,
                name="model",
                source_run_id=run,
                tags={OPERATION: registration.operation},
            )
            self._server.write("log_model_artifacts", logged.model_id, str(folder))
            self._server.write("finalize_logged_model", logged.model_id, "READY")
        return str(logged.model_id), str(logged.artifact_location)

    def _ensure_registered_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._server.write("create_registered_model", self._model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
