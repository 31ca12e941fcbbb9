"""Predict the rows of a partition in the calling process."""

from __future__ import annotations

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.batch_predictor import BatchPredictor, RowsToScore
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.workspace import Workspace


class WorkerPredictor:
    """A :class:`~airflow_mlops.core.ports.batch_predictor.BatchPredictor` that predicts in this process."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def start(self, version: Version, rows: RowsToScore) -> None:
        """Do nothing: ``predict`` does it all."""

    def predict(self, version: Version, rows: RowsToScore) -> Floats:
        """Return the predictions; see the port."""
        features = rows.features()
        return predict(load_version(self.workspace, version), features, classifies=self.workspace.loop.classifies)

    def finish(self) -> None:
        """Do nothing: nothing is left."""

    def stop(self) -> None:
        """Do nothing: it ends with this process."""


def predictor_of(workspace: Workspace) -> BatchPredictor:
    """Return the predictor of the partitions of a loop: a port that reaches something else, or this process.

    Raises
    ------
    DeclarationError
        If the declaration names a place that only Airflow reaches, and there is no port.
    """
    if workspace.ports.predictor is not None:
        return workspace.ports.predictor(workspace)
    if workspace.loop.score is not None:
        raise DeclarationError("SageMaker is reached through a connection of Airflow", key="score.runs_on.kind")
    return WorkerPredictor(workspace)
