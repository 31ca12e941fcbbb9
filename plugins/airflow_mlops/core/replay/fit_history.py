"""Fit every candidate as of every partition, in several processes, so that a replay of a policy fits nothing.

The models that can exist do not depend on a policy; the choice of the one that serves does. So each is fitted once,
and predicts its holdout and every partition after it. A replay of a policy then takes milliseconds.

Each model goes the way of a training: the same fit, checks and limits, into a file under the trusted types, and
predictions of the model that is loaded from it. A candidate that a training would leave out has the same reason here.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from airflow_mlops.core.data.input_schema import category_dtype, levels_of, open_categories
from airflow_mlops.core.data.row_weights import fit_weights
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.train import InWorker
from airflow_mlops.core.declaration.windowed_candidate import window_of
from airflow_mlops.core.errors import DataError, DeclarationError, TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import failure_of
from airflow_mlops.core.evaluation.evaluation_context import user_metrics
from airflow_mlops.core.evaluation.known_metrics import Metric
from airflow_mlops.core.evaluation.simple_baselines import BASELINES as BASELINE_NAMES
from airflow_mlops.core.evaluation.simple_baselines import FITTED_ROWS, Baselines, fit_baselines
from airflow_mlops.core.ledger.training_details import TrainingWindow
from airflow_mlops.core.ports.experiments import offline_variables
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.registry.model_file import UnreadableModelError, load_model
from airflow_mlops.core.registry.own_code import verified_own_types
from airflow_mlops.core.replay.past_partitions import PastPartition
from airflow_mlops.core.training.assemble import TrainingRequest, check_window, describe_candidates, fit_settings
from airflow_mlops.core.training.decision_threshold import threshold_of
from airflow_mlops.core.training.fit_candidate import fit_by, fit_request_of, fit_rows, local_runner
from airflow_mlops.core.training.inspect_candidates import describe_refusals
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.several_windows import candidates_on_windows
from airflow_mlops.core.training.user_runs import OFFLINE
from airflow_mlops.core.training.window import ModelRows
from airflow_mlops.core.workspace import Workspace

BASELINES = "baselines of the gates"


@dataclass(frozen=True)
class FittedModel:
    """A model as of a partition, and its predictions, of shape (n_rows,), (n_rows, n_classes) or (n_rows, n_quantiles).

    ``holdout`` are those of the labelled rows of its holdout, ``predictions`` those of all rows by the position of the
    partition; where it cannot predict, ``not_judged`` and ``unpredicted`` have the reason. ``failed`` is the reason
    why there is no such model; ``seconds`` the time of fit and predictions.
    """

    predictions: dict[int, Floats] = field(default_factory=dict)
    failed: str | None = None
    seconds: float = 0.0
    holdout: Floats | None = None
    not_judged: str | None = None
    unpredicted: dict[int, str] = field(default_factory=dict)
    threshold: float | None = None

    def at(self, position: int) -> Floats:
        """Return the predictions for a partition.

        Raises
        ------
        TrainingError
            If it cannot predict a row of it.
        """
        if position in self.unpredicted:
            raise TrainingError(self.unpredicted[position])
        return self.predictions[position]


@dataclass(frozen=True)
class FittedHistory:
    """The models of a replay: ``models[as_of][candidate]``, where ``as_of`` is a partition's position.

    ``baselines`` are those of the gates on the holdout as of a position, where gates ask for any. ``refused`` has the
    reasons why candidates are never fitted, by name, ``untrained`` the reasons why a window cannot be learned from, by
    position, ``metrics`` those of the user's own, by name.
    """

    loop: Loop
    partitions: Sequence[PastPartition]
    models: dict[int, dict[str, FittedModel]]
    baselines: dict[int, Baselines]
    refused: Mapping[str, str] = field(default_factory=dict)
    untrained: Mapping[int, str] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """Position of the partition as of which the first training is possible."""
        return self.loop.train.partitions_needed - 1


@dataclass(frozen=True)
class _Job:
    """One fit: its request, the positions it is fitted on, judged on and predicts, categories without declared levels.

    ``baselines`` is true of the fit of the baselines, whose request is that of any candidate.
    """

    as_of: int
    loop: Loop
    request: FitRequest
    fitted: tuple[int, ...]
    holdout: tuple[int, ...]
    predicted: tuple[int, ...]
    categories: tuple[str, ...]
    baselines: bool = False

    @property
    def name(self) -> str:
        """Name of the fit for the progress."""
        return BASELINES if self.baselines else self.request.candidate


def window_positions(loop: Loop, as_of: int, candidate: str | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions of the partitions that a training as of a position fits on, and those of its holdout.

    Parameters
    ----------
    candidate : str, optional
        The candidate, where several windows are declared; without it the longest window is meant.
    """
    positions, train = tuple(range(as_of + 1)), loop.train
    fitted_on, holdout = positions[: -train.holdout], positions[-train.holdout :]
    lengths = train.window_lengths(len(fitted_on))
    name = None if candidate is None else window_of(candidate)
    length = max(lengths.values()) if name is None else lengths[name]
    return fitted_on[len(fitted_on) - length :], holdout


def fit_history(
    workspace: Workspace,
    partitions: Sequence[PastPartition],
    *,
    processes: int,
    as_of: set[int] | None = None,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> FittedHistory:
    """Fit all models and predict with them.

    Parameters
    ----------
    processes : int
        Number of fits at once, each with one thread.
    as_of : set of int, optional
        Fit only the models as of these positions, where a policy needs no others.
    progress : callable
        Called after each fit with the number done, the number of fits, and the name of the fit.

    Raises
    ------
    DeclarationError
        If the declaration has candidates fitted elsewhere than on a worker.
    TrainingError
        If the user's function gives no candidates.
    """
    loop = workspace.loop
    if not isinstance(loop.train.runs_on, InWorker):
        raise DeclarationError(
            f"is {loop.train.runs_on.kind!r}; a replay fits hundreds of models here, so it needs 'worker'",
            key="train.runs_on.kind",
        )
    listed = describe_candidates(loop, workspace.root)
    if not listed["names"]:
        raise TrainingError(describe_refusals(loop.train.function, listed["refused"]))
    places = [
        place for place in range(loop.train.partitions_needed - 1, len(partitions)) if as_of is None or place in as_of
    ]
    untrained = _untrained(loop, partitions, places)
    metrics = {metric.name: metric for metric in user_metrics(workspace)}
    history = FittedHistory(loop, partitions, {}, {}, listed["refused"], untrained, metrics)
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        for position, partition in enumerate(partitions):
            FitRows(partition.features, partition.label).write(Path(folder) / f"{position}.parquet")
            partition.rows.reset_index(drop=True).to_parquet(Path(folder) / f"{position}-rows.parquet")
        trained = [place for place in places if place not in untrained]
        for place in trained:
            unusable = candidates_on_windows(listed["names"], _unusable_windows(loop, partitions, place))
            history.models[place] = {name: FittedModel(failed=reason) for name, reason in unusable.items()}
        jobs = [
            job
            for place in trained
            for job in _jobs(workspace, partitions, place, listed, Path(folder))
            if job.baselines or job.request.candidate not in history.models[place]
        ]
        # Not forked: what the parent holds open, such as a lake, does not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_open_folder, initargs=(folder,)) as pool:
            futures = {pool.submit(_fit, job): job for job in jobs}
            for done, future in enumerate(as_completed(futures), start=1):
                job, result = futures[future], future.result()
                if isinstance(result, Baselines):
                    history.baselines[job.as_of] = result
                else:
                    history.models[job.as_of][job.request.candidate] = result
                progress(done, len(jobs), f"{job.name} as of {partitions[job.as_of].key[:10]}")
    return history


def _untrained(loop: Loop, partitions: Sequence[PastPartition], places: Sequence[int]) -> dict[int, str]:
    """Return the reasons why the windows of trainings cannot be learned from, by their positions."""
    reasons = {place: _reason_against(loop, partitions, window_positions(loop, place)[0]) for place in places}
    return {place: reason for place, reason in reasons.items() if reason is not None}


def _reason_against(loop: Loop, partitions: Sequence[PastPartition], fitted: Sequence[int]) -> str | None:
    """Return the reason why a model cannot learn from the partitions at some positions; None if it can."""
    window = [partitions[position] for position in fitted]
    rows = pd.concat([partition.rows[partition.labelled] for partition in window], ignore_index=True)
    try:
        check_window(rows, loop)
    except (TrainingError, DataError) as error:
        return str(error)
    return None


def _unusable_windows(loop: Loop, partitions: Sequence[PastPartition], as_of: int) -> dict[str, str]:
    """Return the reasons why some of several windows cannot be learned from, by their names."""
    if not loop.train.has_several_windows:
        return {}
    longest = window_positions(loop, as_of)[0]
    lengths = loop.train.window_lengths(len(longest))
    reasons = {name: _reason_against(loop, partitions, longest[-length:]) for name, length in lengths.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _jobs(
    workspace: Workspace, partitions: Sequence[PastPartition], as_of: int, listed: Mapping[str, Any], folder: Path
) -> Iterator[_Job]:
    """Yield the fits of a training as of a position."""
    loop = workspace.loop
    fitted, holdout = window_positions(loop, as_of)
    window = TrainingWindow(*(tuple(partitions[place].pin for place in places) for places in (fitted, holdout)))
    lengths = loop.train.window_lengths(len(fitted)) if loop.train.has_several_windows else {}
    request = TrainingRequest(
        partition=partitions[as_of].key,
        decision=as_of,
        function=loop.train.function,
        source="",
        seed=loop.train.seed,
        window=window,
        candidates=tuple(candidates_on_windows(listed["names"], lengths)) if lengths else tuple(listed["names"]),
        profile="",
        operation=f"replay-{as_of}",
        windows={name: {"partitions": length, "profile": "", "levels": None} for name, length in lengths.items()}
        or None,
        **fit_settings(workspace, searched=listed["searched"]),
    )
    predicted = (*holdout, *range(as_of + 1, len(partitions)))
    for candidate in request.candidates:
        fit = fit_request_of(workspace, request, candidate, folder / MODEL_FILE)
        own = window_positions(loop, as_of, candidate)[0]
        yield _Job(as_of, loop, fit, own, holdout, predicted, open_categories(workspace))
    if any(gate.better_than in BASELINE_NAMES for gate in loop.gates):
        yield _Job(as_of, loop, fit, fitted, holdout, (), open_categories(workspace), baselines=True)


_ROWS: dict[int, ModelRows] = {}
_FOLDER = Path()


def _open_folder(folder: str) -> None:
    global _FOLDER  # noqa: PLW0603 -- set once in each process of the pool
    _FOLDER = Path(folder)


def _rows(position: int) -> ModelRows:
    if position not in _ROWS:
        rows = pd.read_parquet(_FOLDER / f"{position}-rows.parquet")
        _ROWS[position] = ModelRows(rows, FitRows.read(_FOLDER / f"{position}.parquet").features)
    return _ROWS[position]


def _labelled(job: _Job, positions: Sequence[int]) -> ModelRows:
    """Return the labelled rows of partitions, as a training reads them."""
    parts = [_rows(position) for position in positions]
    rows = ModelRows(
        pd.concat([part.rows for part in parts], ignore_index=True),
        pd.concat([part.features for part in parts], ignore_index=True),
    )
    return rows.where(rows.rows[job.request.label].notna().to_numpy())


def _fit(job: _Job) -> FittedModel | Baselines:
    """Fit a candidate, or the baselines, in a process of the pool."""
    return _fit_baselines(job) if job.baselines else _fit_candidate(job)


def _fit_candidate(job: _Job) -> FittedModel:
    started = time.monotonic()
    window = _labelled(job, job.fitted)
    levels = _window_levels(job, window.features)
    window = ModelRows(window.rows, with_levels(window.features, levels))
    with threadpool_limits(1):
        try:
            model = _kept_model(job, window)
        except TrainingError as error:
            return FittedModel(failed=str(error), seconds=time.monotonic() - started)
        except UnreadableModelError as error:
            return FittedModel(failed=failure_of(job.request.candidate, error), seconds=time.monotonic() - started)
        holdout, not_judged, unpredicted = None, None, {}
        predictions = {}
        try:
            held_out = with_levels(_labelled(job, job.holdout).features, levels)
            if len(held_out):
                holdout = predict(model, held_out, classifies=job.request.classifies)
        except TrainingError as error:
            not_judged = failure_of(job.request.candidate, error)
        for position in job.predicted:
            features = with_levels(_rows(position).features, levels)
            try:
                predictions[position] = predict(model, features, classifies=job.request.classifies)
            except TrainingError as error:
                unpredicted[position] = str(error)
    seconds = time.monotonic() - started
    return FittedModel(predictions, None, seconds, holdout, not_judged, unpredicted, threshold_of(model))


def _kept_model(job: _Job, window: ModelRows) -> Any:
    """Fit a candidate into a file as a training does, and return the model that is loaded from it."""
    train = job.loop.train
    with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
        file = Path(folder) / MODEL_FILE
        request = replace(job.request, file=str(file))
        rows = fit_rows(window, request, job.loop)
        result = fit_by(local_runner(None, train.limits), request, rows, offline_variables(file.with_name(OFFLINE)))
        subject = f"candidate {request.candidate!r}"
        own_types = verified_own_types(request.own_types, request.own_code, Path(request.root), subject)
        return load_model(file, result.digest, own_types)


def _positions_of_baselines(job: _Job) -> tuple[int, ...]:
    """Return the newest positions of a window that have enough rows for the baselines."""
    rows = 0
    for place in range(len(job.fitted) - 1, -1, -1):
        rows += int(_rows(job.fitted[place]).rows[job.request.label].notna().sum())
        if rows >= FITTED_ROWS:
            return job.fitted[place:]
    return job.fitted


def _window_levels(job: _Job, features: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the levels of the categories in the labelled rows of a window, of those that are features."""
    kinds = features.dtypes
    names = [name for name in job.categories if isinstance(kinds.get(name), pd.CategoricalDtype)]
    return {name: levels_of([features], name) for name in names}


def with_levels(features: pd.DataFrame, levels: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Return features whose categories have these levels; any other value is null."""
    columns = {
        name: features[name].cat.set_categories(category_dtype(known).categories) for name, known in levels.items()
    }
    return features.assign(**columns) if columns else features


def _fit_baselines(job: _Job) -> Baselines:
    loop, label = job.loop, job.request.label
    sample = _labelled(job, _positions_of_baselines(job))
    chosen = np.zeros(len(sample.rows), bool)
    chosen[np.random.default_rng(job.request.seed).permutation(len(chosen))[:FITTED_ROWS]] = True
    levels = _window_levels(job, sample.features)
    training = ModelRows(sample.rows, with_levels(sample.features, levels)).where(chosen)
    with threadpool_limits(1):
        return fit_baselines(
            training,
            label,
            with_levels(_labelled(job, job.holdout).features, levels),
            classifies=job.request.classifies,
            classes=loop.class_names,
            weight=fit_weights(training.rows, job.request.weights, loop.data.time),
            quantiles=loop.train.quantiles,
        )
