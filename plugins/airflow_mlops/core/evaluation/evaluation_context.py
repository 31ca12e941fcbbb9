"""The evaluation context that all candidates of a training share: holdout, champion and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.frame_types import values_of
from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.row_weights import fit_weights, row_weights
from airflow_mlops.core.declaration.evaluate import UserMetric
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.user_function import load_function
from airflow_mlops.core.errors import GateError, TrainingError
from airflow_mlops.core.evaluation.feature_importance import permutation_importance
from airflow_mlops.core.evaluation.known_metrics import Metric, built_in_metric, metrics_of_label, wrap_user_metric
from airflow_mlops.core.evaluation.metrics_by_slice import Slices
from airflow_mlops.core.evaluation.simple_baselines import FITTED_ROWS, Baselines, fit_baselines
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.registry.judged_code import require_metric_code
from airflow_mlops.core.registry.load import copy_folder, load_version
from airflow_mlops.core.registry.own_code import OwnCodeError
from airflow_mlops.core.registry.recorded_classes import ClassesChangedError
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.training.decision_threshold import decide, threshold_of
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import DomainError, Floats, UnknownMetricError, checked_rows
from airflow_mlops.core.training.window import ModelRows, read_window
from airflow_mlops.core.workspace import Workspace

NO_LABELS = "no row of the holdout has a label; nothing can be judged on it"


@dataclass(frozen=True)
class JudgedModel:
    """A fitted model, the features of the holdout that it can see, its predictions for them, and the size of its file.

    The predictions have shape (n_rows,), or (n_rows, n_classes) with three classes or more; the size is in bytes.
    """

    model: Any
    features: pd.DataFrame
    predictions: Floats
    size: int | None
    classifies: bool

    @classmethod
    def of(cls, model: Any, holdout: ModelRows, *, size: int | None, classifies: bool) -> JudgedModel:
        """Predict the holdout with a model; raises as :func:`predict` does."""
        features = holdout.features
        return cls(model, features, predict(model, features, classifies=classifies), size, classifies)

    @property
    def decisions(self) -> Floats:
        """The predictions as metrics of decisions take them: 0 or 1 where the model has a threshold."""
        return decide(self.predictions, threshold_of(self.model))

    def predict(self, features: pd.DataFrame) -> Floats:
        """Return predictions for other rows, shape (n_rows,)."""
        return predict(self.model, features, classifies=self.classifies)


@dataclass(frozen=True)
class EvaluationContext:
    """The data and models for the judgement of a candidate.

    ``champion_failed`` is the reason why an existing champion cannot be compared; ``weight`` has the weights of the
    rows of the holdout, where a column of them is declared.
    """

    loop: Loop
    request: TrainingRequest
    holdout: ModelRows
    label: Floats
    columns: Mapping[str, npt.NDArray[Any]]
    metrics: Mapping[str, Metric]
    baselines: Baselines
    champion: JudgedModel | None = None
    champion_number: str | None = None
    champion_failed: str | None = None
    expected_groups: Mapping[str, list[str]] = field(default_factory=dict)
    weight: Floats | None = None

    @cached_property
    def champion_importance(self) -> dict[str, float] | None:
        """The permutation importance of the champion, on the same shuffles as the candidates."""
        return None if self.champion is None else self.importance(self.champion.predict, self.champion.features)

    def importance(
        self, predict_rows: Callable[[pd.DataFrame], Floats], features: pd.DataFrame
    ) -> dict[str, float] | None:
        """Return the permutation importance of a model; None if it has none on shuffled rows.

        That is where it cannot predict them, or predicts values that the metric does not take.
        """
        try:
            return permutation_importance(predict_rows, features, self.label, self.loop.metric, seed=self.request.seed)
        except (TrainingError, DomainError):
            return None


def build_context(
    workspace: Workspace, request: TrainingRequest, *, window_rows: int | None = None
) -> EvaluationContext:
    """Return the evaluation context of a request.

    Raises
    ------
    GateError
        If no row of the holdout has a label, a declared column is missing, or the metric that compares models has
        changed since the training was requested.
    WeightError
        If a row of the holdout has no weight that can be used.
    """
    loop = workspace.loop
    require_metric_code(workspace, request.metric_code, "the training")
    holdout = read_window(workspace, request.window.holdout, schema=request.schema(workspace))
    if holdout.rows.empty:
        raise GateError(NO_LABELS)
    label = holdout.rows[loop.data.label].to_numpy(float)
    checked_rows("holdout", label, np.zeros(label.size))
    columns = {name: column_of(holdout, name) for name in declared_columns(loop)}
    training = training_sample(workspace, request)
    groups = {name: list(Slices.from_column(column_of(training, name)).names) for name in grouping_columns(loop)}
    user = user_metrics(workspace)
    version = workspace.state(as_of=request.partition).champion
    champion, champion_failed = (None, None) if version is None else _champion(workspace, request, version, holdout)
    return EvaluationContext(
        loop,
        request,
        holdout,
        label,
        columns,
        metrics_of_label(
            user,
            classifies=loop.classifies,
            several=loop.several_classes,
            declared={*loop.metric_names, *loop.train.quantile_metrics},
        ),
        fit_baselines(
            training,
            loop.data.label,
            holdout.features,
            classifies=loop.classifies,
            window_rows=window_rows,
            classes=loop.class_names,
            quantiles=loop.train.quantiles,
            weight=fit_weights(training.rows, request.weights, loop.data.time),
        ),
        champion,
        None if version is None else version.number,
        champion_failed,
        groups,
        row_weights(holdout.rows, (request.weights or {}).get("column")),
    )


def holdout_of(workspace: Workspace, context: EvaluationContext, candidate: str) -> ModelRows:
    """Return the rows of the holdout as a candidate sees them: the categories have the levels of its own window."""
    schema = context.request.of_candidate(candidate).schema(workspace)
    if schema == context.request.schema(workspace):
        return context.holdout
    return read_window(workspace, context.request.window.holdout, schema=schema)


def declared_columns(loop: Loop) -> list[str]:
    """Return the columns by which gates or reports slice or group."""
    gate_slices = [name for gate in loop.gates for name in gate.slices]
    return list(dict.fromkeys([*gate_slices, *loop.evaluate.slices, *grouping_columns(loop)]))


def grouping_columns(loop: Loop) -> list[str]:
    """Return the columns whose groups are compared for fairness."""
    gate_groups = [gate.group for gate in loop.gates if gate.group is not None]
    return list(dict.fromkeys([*gate_groups, *loop.evaluate.groups]))


def training_sample(workspace: Workspace, request: TrainingRequest) -> ModelRows:
    """Return labelled rows of the newest partitions of the training window, at most ``FITTED_ROWS`` of them."""
    parts: list[ModelRows] = []
    for pin in reversed(request.window.fitted):
        parts.insert(0, read_window(workspace, [pin], schema=request.schema(workspace)))
        if sum(len(part.rows) for part in parts) >= FITTED_ROWS:
            break
    rows = ModelRows(
        pd.concat([part.rows for part in parts], ignore_index=True),
        pd.concat([part.features for part in parts], ignore_index=True),
    )
    mask = np.zeros(len(rows.rows), bool)
    mask[np.random.default_rng(request.seed).permutation(len(mask))[:FITTED_ROWS]] = True
    return rows.where(mask)


def judged_version(workspace: Workspace, request: TrainingRequest, version: Version, holdout: ModelRows) -> JudgedModel:
    """Load a version, verified, and predict the holdout in the input schema that it was fitted with.

    Parameters
    ----------
    holdout : ModelRows
        The rows of the holdout, as a candidate of the request sees them.

    Raises
    ------
    RegistryError
        If the version is gone or was changed, and there is no verified copy of it.
    ClassesChangedError, OwnCodeError
        If it does not go with the declaration or the code that there is now.
    TrainingError
        If it cannot predict the rows.
    """
    model = load_version(workspace, version)
    schema = version_schema(workspace, version)
    if schema != request.schema(workspace):  # the same rows, as this version sees them
        holdout = read_window(workspace, request.window.holdout, schema=schema)
    file = copy_folder(workspace, version) / MODEL_FILE
    size = file.stat().st_size if file.exists() else None
    return JudgedModel.of(model, holdout, size=size, classifies=workspace.loop.classifies)


def _champion(
    workspace: Workspace, request: TrainingRequest, version: Version, holdout: ModelRows
) -> tuple[JudgedModel | None, str | None]:
    try:
        return judged_version(workspace, request, version, holdout), None
    except (ClassesChangedError, OwnCodeError) as error:
        return None, str(error)
    except TrainingError as error:
        return None, f"the champion, version {version.number}, cannot predict the holdout: {error}"


def column_of(rows: ModelRows, name: str) -> npt.NDArray[Any]:
    """Return a column of the rows or of their features, shape (n_rows,); GateError where neither has it."""
    for frame in (rows.rows, rows.features):
        if name in frame.columns:
            return values_of(frame[name])
    raise GateError(f"a gate or the evaluation slices by {name!r}; the data has no such column")


def user_metrics(workspace: Workspace) -> tuple[Metric, ...]:
    """Return the declared metrics of the user's own; one whose function cannot be loaded raises where it is judged."""
    return tuple(_user_metric(workspace, declared) for declared in workspace.loop.evaluate.metrics)


def _user_metric(workspace: Workspace, declared: UserMetric) -> Metric:
    of_rows = built_in_metric(declared.of_rows) if declared.each_row else None
    if of_rows is not None:
        return of_rows
    try:
        return wrap_user_metric(declared, load_function(declared.function, workspace.root))
    except TrainingError as error:
        reason = f"{declared.name}: {error}"

        def not_there(_label: Floats, _predicted: Floats, _weight: Floats | None) -> float:
            raise UnknownMetricError(reason)

        return Metric(declared.name, declared.unit, declared.better, compute=not_there)
