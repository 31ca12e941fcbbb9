"""Load versions of a loop into a form that predicts rows: in the gateway, and in the process of a shadow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.user_function import load_function
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.workspace import Ports, Workspace
from airflow_mlops.gateway.inference_backends import ReadyModel, ready_model
from airflow_mlops.gateway.row_shape import RowShape, shape_of_requests
from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles


@dataclass(frozen=True)
class LoadedVersion:
    """A version that is loaded and warm, and the rows that it takes."""

    version: ServedVersion
    ready: ReadyModel
    shape: RowShape


class VersionLoader:
    """Loads versions of one loop.

    Parameters
    ----------
    loop, root : Loop and Path
        The declaration, and the project folder that its paths start from.
    files : VersionFiles
        Where the files of versions are.
    secret : str, optional
        What masks personal columns.
    onnx : bool
        Whether ONNX is tried.

    Raises
    ------
    DeclarationError
        If the loop's features need its history, which a gateway does not have; or its columns are masked, and there
        is no secret.
    """

    def __init__(self, loop: Loop, root: Path, files: VersionFiles, *, secret: str | None, onnx: bool) -> None:
        self.files, self._onnx, self._secret = files, onnx, secret
        self._workspace = Workspace(loop, root, files.kept, Ports(*[no_port] * 6), "gateway", secret)
        self._maker = FeatureMaker(self._workspace)
        self._shapes: dict[tuple[tuple[str, str], ...], RowShape] = {}
        refuse_history(loop, root)
        if self._workspace.contract is not None:
            self.shape_for(None)

    def load(self, version: ServedVersion) -> LoadedVersion:
        """Return a version verified, loaded and warm; takes as long as that takes.

        Raises
        ------
        RegistryError
            If its files are not there, or not what was signed.
        RolloutError
            If it cannot predict rows of requests.
        """
        shape = self.shape_for(version)
        model = self.files.load(version)
        classifies = self._workspace.loop.classifies
        return LoadedVersion(
            version, ready_model(model, shape, self._maker, classifies=classifies, onnx=self._onnx), shape
        )

    def shape_for(self, version: ServedVersion | None) -> RowShape:
        """Return the rows that a version takes; versions of the same columns have the same one."""
        contract = self._workspace.contract
        columns: dict[str, str] = {} if contract or not version else dict(version.columns or {})
        known = tuple(sorted(columns.items()))
        if known not in self._shapes:
            data = self._workspace.loop.data
            self._shapes[known] = shape_of_requests(data, contract, columns, secret=self._secret)
        return self._shapes[known]


def refuse_history(loop: Loop, root: Path) -> None:
    """Refuse a loop whose features are made with the past of a row: a gateway has the row alone."""
    import inspect

    reference = loop.data.features
    if reference and "history" in inspect.signature(load_function(reference, root)).parameters:
        raise DeclarationError(
            f"{reference} asks for the history of a row, which a request does not bring: a loop with such features "
            "cannot be served by the gateway; use target: batch",
            key="data.features",
        )


def no_port(*_arguments: Any) -> NoReturn:
    """Say that a gateway opens none of a loop's stores."""
    raise DeclarationError("the gateway opens none of the loop's stores")
