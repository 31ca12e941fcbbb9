"""Load versions of a loop for prediction, and keep the loaded versions in memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from airflow_mlops.core.data.input_schema import InputSchema, refused_columns, served_schema
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.user_function import load_function
from airflow_mlops.core.errors import DeclarationError, RolloutError
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.registry.own_code import OwnCodeError
from airflow_mlops.core.registry.recorded_classes import (
    ClassesChangedError,
    require_same_classes,
    require_same_quantiles,
)
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.workspace import Ports, Workspace
from airflow_mlops.gateway.inference_backends import InferenceBackend, choose_backend
from airflow_mlops.gateway.micro_batcher import MicroBatcher
from airflow_mlops.gateway.row_shape import RowShape, request_shape
from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedVersion:
    """A loaded, warm version, and the shape of the rows that it takes.

    ``schema`` is the input schema of the version, ``refused`` the categories whose unseen values are refused.
    """

    version: ServedVersion
    backend: InferenceBackend
    shape: RowShape
    schema: InputSchema
    refused: tuple[str, ...] = ()

    def refuse_unseen(self, rows: Sequence[Any]) -> None:
        """Raise RowError if a row has a value that the version has not seen, and the contract refuses it."""
        self.shape.refuse_unseen(rows, self.schema, self.refused, number=self.version.number)


class VersionLoader:
    """A loader of the versions of one loop.

    Parameters
    ----------
    loop, root : Loop and Path
        The declaration, and the project folder of its relative paths.
    files : VersionFiles
        The files of versions.
    secret : str, optional
        Secret that masks personal columns.
    onnx : bool
        Whether to try ONNX.

    Raises
    ------
    DeclarationError
        If the loop's features need the history of a row, which a gateway does not have, or columns are masked and
        there is no secret.
    """

    def __init__(self, loop: Loop, root: Path, files: VersionFiles, *, secret: str | None, onnx: bool) -> None:
        self.files, self._onnx, self._secret = files, onnx, secret
        self._workspace = Workspace(loop, root, files.kept, Ports(*[refuse_port] * 6), "gateway", secret)
        self._shapes: dict[Any, RowShape] = {}
        reject_history_features(loop, root)
        if self._workspace.contract is not None:
            self.shape_for()

    def load(self, version: ServedVersion) -> LoadedVersion:
        """Return a version, verified, loaded and warm; this blocks for as long as it takes.

        Raises
        ------
        RegistryError
            If its files are missing, or differ from what was signed.
        RolloutError
            If it cannot predict rows of requests, or was fitted on other classes than the loop declares,
            predicts other quantiles, or was fitted with other code.
        """
        shape = self.shape_for(version)
        loop, root = self._workspace.loop, self._workspace.root
        try:
            model = self.files.load(version, loop.train.own_types, root)
            require_same_classes(loop, version.number, self.files.classes(version))
            require_same_quantiles(loop, version.number, model)
        except (ClassesChangedError, OwnCodeError) as error:
            raise RolloutError(str(error)) from error
        classifies = self._workspace.loop.classifies
        schema = served_schema(self._workspace, version.hidden, version.levels)
        maker = FeatureMaker(self._workspace, schema)
        backend = choose_backend(model, shape, maker, classifies=classifies, onnx=self._onnx)
        loaded = LoadedVersion(version, backend, shape, schema, refused_columns(self._workspace))
        return replace(loaded, backend=refuse_unseen_values(loaded)) if loaded.refused else loaded

    def shape_for(self, *versions: ServedVersion) -> RowShape:
        """Return the shape of the rows that versions take; equal columns share one shape.

        With a contract, a row needs every column that one of the versions sees.
        """
        contract, data = self._workspace.contract, self._workspace.loop.data
        if contract is None:
            unseen = served_schema(self._workspace, versions[0].hidden, versions[0].levels).hidden
            columns = {name: kind for name, kind in (versions[0].columns or {}).items() if name not in unseen}
            columns_key = tuple(sorted(columns.items()))
            if columns_key not in self._shapes:
                self._shapes[columns_key] = request_shape(data, None, columns, secret=self._secret)
            return self._shapes[columns_key]
        hidden = self._workspace.hidden
        for version in versions:
            hidden = hidden & served_schema(self._workspace, version.hidden, version.levels).hidden
        if hidden not in self._shapes:
            self._shapes[hidden] = request_shape(data, contract, None, secret=self._secret, hidden=hidden)
        return self._shapes[hidden]


class ModelCache:
    """The loaded versions by number, oldest first, each with its batcher.

    Parameters
    ----------
    most_waiting : int
        Rows that may wait for each version.
    """

    def __init__(self, *, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self.loaded: dict[str, LoadedVersion] = {}
        self.batchers: dict[str, MicroBatcher] = {}

    def add(self, loaded: LoadedVersion) -> None:
        """Add a version, replacing a version of the same number."""
        number = loaded.version.number
        previous = self.batchers.get(number)
        if previous is not None:
            previous.close()
        self.loaded[number] = loaded
        self.batchers[number] = MicroBatcher(number, loaded.backend, most_waiting=self._most_waiting)
        log.info("version %s is loaded as %s, %.2g s a row", number, loaded.backend.name, loaded.backend.seconds)

    def evict(self, needed: Set[str], *, keep: int) -> None:
        """Drop versions that are not needed, oldest first, until ``keep`` are left.

        The newest version stays unless ``keep`` is 0: it may have been prepared for traffic that is about to come.
        """
        newest = next(reversed(self.loaded), None)
        for number in [number for number in self.loaded if number not in needed and (keep == 0 or number != newest)]:
            if len(self.loaded) > keep:
                del self.loaded[number]
                self.batchers.pop(number).close()


def refuse_unseen_values(loaded: LoadedVersion) -> InferenceBackend:
    """Return the backend of a version, which raises RowError for a value that the version has not seen."""
    backend = loaded.backend

    def predict_seen(rows: Sequence[Any]) -> Floats:
        loaded.refuse_unseen(rows)
        return backend.predict(rows)

    return replace(backend, predict=predict_seen)


def versions_in(traffic: Traffic) -> set[str]:
    """Return the numbers of the versions in traffic."""
    return {number for number in (traffic.champion, traffic.challenger, traffic.standby) if number is not None}


def reject_history_features(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if the features of a loop need the history of a row, which a request does not have."""
    import inspect

    reference = loop.data.features
    if reference and "history" in inspect.signature(load_function(reference, root)).parameters:
        raise DeclarationError(
            f"{reference} needs the history of a row, which a request does not have: a loop with such features "
            "cannot be served by the gateway; use target: batch",
            key="data.features",
        )


def refuse_port(*_arguments: Any) -> NoReturn:
    """Raise DeclarationError: a gateway has no ledger, registry or table."""
    raise DeclarationError("the gateway opens none of the loop's stores")
