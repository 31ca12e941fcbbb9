"""Assemble a training request: take the open decision, pin the window, list the candidates."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from airflow_mlops.core.data.input_schema import InputSchema, contract_schema
from airflow_mlops.core.data.row_weights import fit_weights
from airflow_mlops.core.data.user_features import features_digest
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.own_types import metric_code, own_code
from airflow_mlops.core.declaration.train import InInterpreter
from airflow_mlops.core.declaration.windowed_candidate import window_of
from airflow_mlops.core.errors import DataError, NotReadyError, TrainingError
from airflow_mlops.core.ledger.record import Record, canonical_json
from airflow_mlops.core.ledger.training_details import (
    CandidateRefused,
    PinnedPartition,
    RetrainDecided,
    Superseded,
    TrainingFailed,
    TrainingStarted,
    TrainingWindow,
)
from airflow_mlops.core.training.code_state import code_state
from airflow_mlops.core.training.inspect_candidates import describe_refusals, inspect_candidates
from airflow_mlops.core.training.reference_profile import profile_window
from airflow_mlops.core.training.search_parameters import search_settings
from airflow_mlops.core.training.several_windows import candidates_on_windows, describe_shorter_windows
from airflow_mlops.core.training.usable_model import label_hint
from airflow_mlops.core.training.window import fit_schema, pin_window, read_window
from airflow_mlops.core.workspace import Workspace

log = logging.getLogger(__name__)

FEW_ROWS = 30
"""Rows of a class in the training window below which a warning is logged."""
OPTIONAL = (
    "levels",
    "classes",
    "refused",
    "early_stopping",
    "own_code",
    "weights",
    "quantiles",
    "metric_code",
    "threshold",
    "windows",
    "sample",
)


@dataclass(frozen=True)
class TrainingRequest:
    """Everything a training depends on. ``operation`` is the digest of it: the same request is the same model.

    ``search`` has the settings of a search and its metric, where a candidate has a search space. ``code`` has the
    ``commit`` of the project folder and whether it is ``dirty``, where it is in a repository: it says where to find
    the ``source`` of that digest again, and is no part of ``operation``. ``levels`` are those of the categories,
    ``classes`` those of the label by their codes. ``refused`` has the reasons why candidates are not fitted, by their
    names; it is no part of ``operation`` either. ``weights`` has the ``column`` of the weights of rows and their
    ``half_life_days``, ``quantiles`` are those that a model predicts. ``sample`` has the ``rows`` that a fit takes and
    the column ``by`` whose values keep their shares.

    Where several windows are declared, ``window``, ``profile`` and ``levels`` are those of the longest, and ``windows``
    has each by its name: the number of its ``partitions``, the newest fitted ones, its ``profile`` and its ``levels``.
    :meth:`of_candidate` gives the request with those of one candidate.
    """

    partition: str
    decision: int
    function: str
    source: str
    seed: int
    window: TrainingWindow
    candidates: tuple[str, ...]
    profile: str
    operation: str = ""
    search: dict[str, Any] | None = None
    code: dict[str, Any] | None = None
    levels: dict[str, list[str]] | None = None
    classes: list[str] | None = None
    refused: dict[str, str] | None = None
    early_stopping: dict[str, Any] | None = None
    own_code: dict[str, str] | None = None
    weights: dict[str, Any] | None = None
    quantiles: list[float] | None = None
    metric_code: dict[str, str] | None = None
    threshold: dict[str, Any] | None = None
    windows: dict[str, dict[str, Any]] | None = None
    sample: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON values, without those of :data:`OPTIONAL` that there are none of."""
        values = {**asdict(self), "window": self.window.to_dict(), "candidates": list(self.candidates)}
        return {name: value for name, value in values.items() if name not in OPTIONAL or value is not None}

    def of_candidate(self, candidate: str) -> TrainingRequest:
        """Return the request with the window, profile and levels of one candidate, where there are several windows."""
        name = window_of(candidate)
        if name is None or self.windows is None:
            return self
        own = self.windows[name]
        window = self.window.newest(own["partitions"])
        return replace(self, window=window, profile=own["profile"], levels=own["levels"])

    def schema(self, workspace: Workspace) -> InputSchema:
        """Return the input schema of the candidates; of several windows, that of the longest."""
        levels = {name: tuple(values) for name, values in (self.levels or {}).items()}
        return InputSchema(contract_schema(workspace).hidden, levels)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingRequest:
        """Return the request that ``to_dict`` wrote."""
        window = TrainingWindow.from_dict(values["window"])
        return cls(**{**values, "window": window, "candidates": tuple(values["candidates"])})

    def operation_fields(self) -> dict[str, Any]:
        """Return the fields that the digest ``operation`` covers."""
        left_out = {"decision", "operation", "code", "refused"} | ({"search"} if self.search is None else set())
        return {name: value for name, value in self.to_dict().items() if name not in left_out}


def assemble_training(workspace: Workspace, as_of: str) -> TrainingRequest:
    """Return the request of the training that was decided, and record its start.

    A run that a person started decides first; see
    :func:`~airflow_mlops.core.retrain.decide_retrain.decide_by_hand`.

    Raises
    ------
    NotReadyError
        If there is nothing to train: no decision stands open, or the same request has become a version before.
    TrainingError
        If the user's function gives no model or the window has no usable labels; the ledger says so.
    """
    decision = workspace.state().open_decision_by(as_of)
    if decision is None:
        raise NotReadyError(f"no decision to retrain is open as of {as_of}")
    partition = str(decision.partition)
    try:
        own_labels = workspace.loop.data.labels is not None
        window = pin_window(workspace.state(as_of=partition), workspace.loop.train, partition, own_labels=own_labels)
        request = _request(workspace, decision, window)
    except NotReadyError as error:
        close_decision(workspace, Superseded(decision=decision.sequence, reason=str(error)), partition)
        raise
    except (TrainingError, DataError) as error:
        reason = f"{error}{label_hint(error, workspace.loop.data.label)}"
        close_decision(workspace, TrainingFailed(decision=decision.sequence, reason=reason), partition)
        raise type(error)(reason) from error
    existing = workspace.state().requests.get(request.operation)
    if existing is not None:
        reason = f"nothing new: version {existing} was made from the same data, code and seed"
        close_decision(workspace, Superseded(decision=decision.sequence, reason=reason), partition)
        raise NotReadyError(reason)
    workspace.record_fact(
        workspace.draft(
            TrainingStarted(decision=decision.sequence, request=request.operation, window=window),
            f"training:{decision.sequence}",
            partition,
        )
    )
    return request


def stored_request(workspace: Workspace, digest: str) -> TrainingRequest:
    """Return the request that is stored as evidence under ``digest``."""
    return TrainingRequest.from_dict(workspace.evidence.get(digest))


def close_decision(
    workspace: Workspace, details: Superseded | TrainingFailed | CandidateRefused, partition: str
) -> None:
    """Record that a decision to retrain ended without a candidate."""
    workspace.record_fact(workspace.draft(details, f"{details.KIND}:{details.decision}", partition))


def _request(workspace: Workspace, decision: Record[RetrainDecided], window: TrainingWindow) -> TrainingRequest:
    train = workspace.loop.train
    candidates = describe_candidates(workspace.loop, workspace.root)
    if not candidates["names"]:
        raise TrainingError(describe_refusals(train.function, candidates["refused"]))
    longest = describe_fitted(workspace, window.fitted)
    lengths = train.window_lengths(len(window.fitted)) if train.has_several_windows else {}
    windows, unusable = describe_shorter_windows(
        lengths, longest, lambda length: describe_fitted(workspace, window.fitted[-length:])
    )
    refused = {**candidates["refused"], **candidates_on_windows(candidates["names"], unusable)}
    request = TrainingRequest(
        str(decision.partition),
        decision.sequence,
        train.function,
        features_digest(workspace, train.function),
        train.seed,
        window,
        tuple(candidates_on_windows(candidates["names"], windows)) if windows else tuple(candidates["names"]),
        longest["profile"],
        code=code_state(workspace.root),
        levels=longest["levels"],
        classes=list(workspace.loop.class_names) if workspace.loop.class_names else None,
        refused=refused or None,
        windows=windows or None,
        **fit_settings(workspace, searched=candidates["searched"]),
    )
    content = {**request.operation_fields(), "model": workspace.loop.model}
    return replace(request, operation=hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32])


def describe_fitted(workspace: Workspace, pins: Sequence[PinnedPartition]) -> dict[str, Any]:
    """Return the number of pinned ``partitions``, the digest of their ``profile`` and the ``levels`` of categories.

    Raises
    ------
    TrainingError, DataError
        If a model cannot learn from their rows; see :func:`check_window`.
    """
    schema = fit_schema(workspace, pins)
    frames = {pin.partition: read_window(workspace, [pin], schema=schema) for pin in pins}
    check_window(pd.concat([frame.rows for frame in frames.values()], ignore_index=True), workspace.loop)
    profile = profile_window({key: frame.features for key, frame in frames.items()})
    return {
        "partitions": len(pins),
        "profile": workspace.evidence.put(profile.to_dict()),
        "levels": {name: list(levels) for name, levels in schema.levels.items()} or None,
    }


def fit_settings(workspace: Workspace, *, searched: bool) -> dict[str, Any]:
    """Return the fields of a training request that say how its candidates are fitted, beside function and seed."""
    train = workspace.loop.train
    return {
        "search": search_settings(workspace.loop) if searched else None,
        "early_stopping": train.early_stopping.model_dump() if train.early_stopping else None,
        "own_code": own_code(train.own_types, workspace.root),
        "weights": train.weights,
        "quantiles": list(train.quantiles) or None,
        "metric_code": metric_code(workspace.loop.metric, workspace.root),
        "threshold": train.threshold.model_dump(exclude_none=True) if train.threshold else None,
        "sample": train.sample.model_dump(exclude_none=True) if train.sample else None,
    }


def check_window(rows: pd.DataFrame, loop: Loop) -> None:
    """Raise TrainingError or DataError unless a model can learn from the labelled rows of a window.

    Raises
    ------
    TrainingError
        See :func:`check_labels`.
    WeightError
        If a row has no weight that can be used.
    """
    check_labels(rows[loop.data.label], classifies=loop.classifies, classes=loop.class_names)
    fit_weights(rows, loop.train.weights, loop.data.time)


def describe_candidates(loop: Loop, root: Path) -> dict[str, Any]:
    """Return the usable candidates of a loop and the refused ones; see :func:`inspect_candidates`.

    Within limits, or with an interpreter of its own, the function is called in a process like the fits are.

    Raises
    ------
    TrainingError
        If the function gives no model, or meets a limit.
    """
    train = loop.train
    judged: dict[str, Any] = {
        "classifies": loop.classifies,
        "probability_metrics": list(loop.probability_metrics),
        "stops_early": train.early_stopping is not None,
        "own_types": list(train.own_types),
        "weighted": train.weights is not None,
        "quantiles": list(train.quantiles),
        "spaces": train.search.parameters,
    }
    python = root / train.runs_on.python if isinstance(train.runs_on, InInterpreter) else None
    if python is None and train.limits.minutes is None and train.limits.memory_mb is None:
        return inspect_candidates(train.function, root, train.seed, **judged)
    from airflow_mlops.core.training.child_step import ChildStep

    step = ChildStep(python=python, limits=train.limits)
    return step.inspect_candidates(train.function, root, train.seed, **judged)


def check_labels(labels: pd.Series[Any], *, classifies: bool, classes: tuple[str, ...] | None = None) -> None:
    """Raise TrainingError unless the labels of a window can be learned; log the classes with few rows.

    Parameters
    ----------
    labels : Series of float
        The labels; of declared classes, their codes.
    classes : tuple of str, optional
        The declared classes by their codes.

    Raises
    ------
    TrainingError
        If there are no labels, all are equal, a declared class has no row, or labels of undeclared classes are neither
        0 nor 1.
    """
    if labels.empty:
        raise TrainingError("no row of the training window has a label")
    if classes is not None:
        check_classes(labels, classes)
        return
    values = labels.unique()
    if len(values) == 1:
        kind = "one class" if classifies else "one value"
        raise TrainingError(
            f"all {len(labels):,} labels {labels.name!r} of the training window are of {kind}: {values[0]}"
        )
    if classifies and not set(values) <= {0, 1}:
        raise TrainingError(f"labels {labels.name!r} must be 0 or 1; there are {len(values)}, such as {values[0]!r}")


def check_classes(labels: pd.Series[Any], classes: tuple[str, ...]) -> None:
    """Raise TrainingError if a declared class has no row in a window; log those with fewer than ``FEW_ROWS``.

    Raises
    ------
    TrainingError
        Naming the classes without a row: a model cannot learn them.
    """
    counts = [int((labels == code).sum()) for code in range(len(classes))]
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        raise TrainingError(
            f"no row of the training window has the label {' or '.join(map(repr, missing))}, which data.classes "
            f"declares for {labels.name!r}; widen train.window, or leave the class out"
        )
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < FEW_ROWS]
    if few:
        log.warning("the training window has fewer than %s rows of the classes %s", FEW_ROWS, ", ".join(few))
