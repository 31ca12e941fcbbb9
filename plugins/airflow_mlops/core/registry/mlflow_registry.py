"""The model registry in MLflow: one registered model, its versions and its aliases.

MLflow's aliases have no compare-and-set and its client repeats requests that may have succeeded, so
a version is made under an operation id that is searched for before and after, and what is the
champion is decided by the ledger alone.
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
from airflow_mlops.core.registry.registry_names import require_allowed, require_model_name, require_version_number
from airflow_mlops.core.registry.replace_folder import replace_folder

ANSWER_SECONDS = 10.0
"""How long a server may take to say that it is there."""


class MlflowRegistry:
    """Versions of one model on an MLflow server or store. See :class:`ModelRegistry`.

    Parameters
    ----------
    tracking_uri : str
        ``http://127.0.0.1:5000`` or ``sqlite:////data/mlflow.db``.
    model : str
        Name of the registered model and of its experiment.
    artifact_location : str, optional
        Where the experiment keeps artefacts; the server's own choice if not given.
    artefact_prefixes : sequence of str, optional
        Below which addresses versions may have their files; the artefact location of the experiment if none is given.
    """

    def __init__(
        self, tracking_uri: str, model: str, *, artifact_location: str | None = None,
        artefact_prefixes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        from mlflow import MlflowClient

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # in the log of a task it is noise
        self._uri, self._model, self._location = tracking_uri, require_model_name(model), artifact_location
        self._prefixes = tuple(artefact_prefixes)
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def register(self, registration: Registration) -> str:
        """Return the number of the version of an operation; see :meth:`ModelRegistry.register`."""
        if self._version_of(registration.operation) is None:
            with self._asking("register"):
                run = self._run_of(registration)
                model_id, location = self._logged_model_of(registration, run)
                self._ensure_registered_model()
                fault_point("before_create_model_version")
                self._client.create_model_version(
                    self._model, source=location, run_id=run, model_id=model_id,
                    tags={OPERATION: registration.operation, **registration.tags},
                )  # fmt: skip
                fault_point("create_model_version")
        self.mark_ghosts()
        number = self._version_of(registration.operation)
        if number is None:
            raise RegistryUnavailableError(f"{self._model}: MLflow made a version and does not find it")
        return number

    def all_versions(self) -> list[RegisteredVersion]:
        """Return every version, the oldest first."""
        return self._search(f"name = '{self._model}'")

    def mark_ghosts(self) -> dict[str, str]:
        """Tag the ghosts that are not tagged yet; see :meth:`ModelRegistry.mark_ghosts`."""
        versions = self.all_versions()
        known = {version.number: version.tags.get(GHOST_OF) for version in versions}
        found = {ghost: first for ghost, first in ghosts_of(versions).items() if known[ghost] != first}
        with self._asking("tag a ghost"):
            for ghost, first in found.items():
                self._client.set_model_version_tag(self._model, ghost, GHOST_OF, first)
        return found

    def fetch(self, version: str, into: Path) -> Path:
        """Return the path of a version's model file, its folder copied to ``into``; see :meth:`ModelRegistry.fetch`."""
        from mlflow.artifacts import download_artifacts

        number = require_version_number(version)
        with self._asking(f"fetch version {number}", version=number):
            source = str(self._client.get_model_version(self._model, number).source)
            require_allowed(source, self._prefixes or (self._artefact_location(),))
            with tempfile.TemporaryDirectory() as scratch, replace_folder(into) as part:
                found = Path(download_artifacts(source, dst_path=scratch, tracking_uri=self._uri))
                if not (found / MODEL_FILE).is_file():
                    raise RegistryError(f"{self._model}: version {number} has no {MODEL_FILE} at {source}")
                shutil.copytree(found, part, symlinks=True, dirs_exist_ok=True)
        return into / MODEL_FILE

    def aliases(self) -> dict[str, str]:
        """Return which version each alias points to."""
        from mlflow.exceptions import MlflowException

        self._require_answer()
        with self._asking("read aliases"):
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
        with self._asking(f"set alias {alias}", version=version):
            if version is None:
                self._client.delete_registered_model_alias(self._model, alias)
            else:
                self._client.set_registered_model_alias(self._model, alias, require_version_number(version))

    def describe(self) -> dict[str, Any]:
        """Return where a person finds the model."""
        shown = self._uri.startswith("http")
        return {"url": f"{self._uri}/#/models/{self._model}" if shown else None}

    def _version_of(self, operation: str) -> str | None:
        """Return the oldest version of an operation; a younger one is a ghost of a repeated request."""
        found = self._search(f"name = '{self._model}' and tags.`{OPERATION}` = '{operation}'")
        return found[0].number if found else None

    def _search(self, query: str) -> list[RegisteredVersion]:
        found: list[RegisteredVersion] = []
        with self._asking("search versions"):
            page = self._client.search_model_versions(query, max_results=1000)
            while True:
                found += [RegisteredVersion(str(each.version), str(each.source), dict(each.tags)) for each in page]
                if not page.token:
                    return sorted(found, key=lambda version: int(version.number))
                page = self._client.search_model_versions(query, max_results=1000, page_token=page.token)

    def _artefact_location(self) -> str:
        return str(self._client.get_experiment(self._experiment()).artifact_location)

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._model)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self._model, artifact_location=self._location))
        except MlflowException:
            found = self._client.get_experiment_by_name(self._model)  # somebody else made it meanwhile
            if found is None:
                raise
            return str(found.experiment_id)

    def _run_of(self, registration: Registration) -> str:
        """Return a finished run with the metrics and parameters, that of an earlier attempt if there is one."""
        experiment = self._experiment()
        found = self._client.search_runs(
            [experiment], f"tags.`{OPERATION}` = '{registration.operation}'", max_results=1
        )
        tags = {OPERATION: registration.operation, **registration.tags}
        run = (
            found[0] if found else self._client.create_run(experiment, run_name=registration.operation[:12], tags=tags)
        )
        identity = str(run.info.run_id)
        for name, value in registration.params.items():
            self._client.log_param(identity, name, value)
        for name, number in registration.metrics.items():
            self._client.log_metric(identity, name, number)
        self._client.log_dict(identity, dict(registration.datasets), "datasets.json")
        self._client.set_terminated(identity)
        return identity

    def _logged_model_of(self, registration: Registration, run: str) -> tuple[str, str]:
        """Log the model under the run; return its id and location. Its file is the very file that was judged."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            write_folder(registration, folder)
            logged = self._client.create_logged_model(
                self._experiment(), name="model", source_run_id=run, tags={OPERATION: registration.operation}
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
        """Find out in seconds that a server is down: MLflow's client would try again for minutes.

        What reads the aliases is what repairs them, after a rollback for one, and a later attempt does as well.
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
    def _asking(self, what: str, *, version: str | None = None) -> Iterator[None]:
        """Turn MLflow's errors into one that names the model, the server and what was asked."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if version is not None and error.error_code == "RESOURCE_DOES_NOT_EXIST" and "Version" in str(error):
                raise VersionGoneError(f"{self._model}: MLflow at {self._uri} has no version {version}") from error
            raise RegistryUnavailableError(f"{self._model}: MLflow at {self._uri} could not {what}: {error}") from error


class RegistryUnavailableError(RegistryError):
    """The registry did not do as asked; a later attempt may."""

    retryable = True
