"""Hold the declaration of here against what a version of another environment needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlops.core.data.input_schema import served_schema
from airflow_mlops.core.data.user_features import FeatureMaker, features_digest
from airflow_mlops.core.errors import DataError, DeclarationError, TrainingError
from airflow_mlops.core.ledger.training_details import CandidateRegistered
from airflow_mlops.core.registry.judged_code import require_metric_code
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.registry.recorded_classes import require_same_classes, require_same_quantiles
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.window import pin_published, read_partition
from airflow_mlops.core.workspace import Workspace


def require_same_declaration(
    workspace: Workspace, declared: Mapping[str, Any], details: CandidateRegistered, request: TrainingRequest, name: str
) -> None:
    """Raise an error unless the declaration of here is one that a version of another environment was made for.

    Parameters
    ----------
    declared : mapping
        What the version needs: ``label``, ``predicts``, ``metric``, ``columns`` and the digest of the ``code``.
    name : str
        The version, which begins each message.

    Raises
    ------
    DeclarationError
        Naming what differs, with both values.
    ClassesChangedError, MetricChangedError
        If it was fitted on other classes, or judged by other code of the user's metric.
    """
    loop = workspace.loop
    here = {
        "label": ("data.label", loop.data.label),
        "predicts": ("gates", "class" if loop.classifies else "number"),
        "metric": ("gates", str(loop.metric)),
    }
    for field, (key, value) in here.items():
        if declared[field] != value:
            raise DeclarationError(
                f"{name} was made for {declared[field]!r}, and {value!r} is declared here; declare the same in both "
                "environments",
                key=key,
            )
    require_same_classes(loop, name.removeprefix("version "), details.classes)
    require_metric_code(workspace, details.metric_code, name)
    code = features_digest(workspace, request.function)
    if code != declared["code"]:
        raise DeclarationError(
            f"{name} was made by {request.function} and features of the digest {declared['code'][:12]}…, and the "
            f"project here has {code[:12]}…; bring the same code here",
            key="train.function",
        )
    newly_hidden = sorted(workspace.hidden & set(declared["columns"]))
    if newly_hidden:
        raise DeclarationError(
            f"{name} sees {', '.join(map(repr, newly_hidden))}, which the contract here hides from models; train "
            "without it there",
            key="data.contract",
        )


def require_predictions(
    workspace: Workspace, details: CandidateRegistered, model_file: Path, place: tuple[str, list[str]], *, name: str
) -> None:
    """Raise an error unless a version predicts every row of a partition of here.

    Parameters
    ----------
    place : tuple of (str, list of str)
        The partition, and the columns that the version was made from where no function of the user makes the features.

    Raises
    ------
    DataError
        If a column that it was made from is not in the partition.
    TrainingError
        If its features cannot be made, or it cannot predict them.
    OwnCodeError
        If its own code is not that of the project.
    """
    state, (partition, columns) = workspace.state(), place
    missing = sorted(set(columns) - set(state.published[partition].columns))
    if missing and workspace.loop.data.features is None:
        raise DataError(
            f"{name} was made from {', '.join(map(repr, missing))}, which the rows of {partition} here do not have; "
            "bring the same columns, or train without them there"
        )
    model = load_own_model(workspace, model_file, details.artefact, details.own_code, name)
    require_same_quantiles(workspace.loop, name.removeprefix("version "), model)
    pin = pin_published(state, partition)
    rows = read_partition(workspace, pin, label=False)
    schema = served_schema(workspace, details.hidden, details.levels)
    try:
        features = FeatureMaker(workspace, schema).make(rows, partition, pin.version)
        predict(model, features, classifies=workspace.loop.classifies)
    except TrainingError as error:
        raise TrainingError(f"{name} does not predict the rows of {partition} here: {error}") from error
