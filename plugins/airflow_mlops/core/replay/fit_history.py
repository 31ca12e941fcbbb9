"""Fit every candidate as of every partition, in several processes, so that a replay of a policy fits nothing.

The models that can exist do not depend on a policy; the choice of the one that serves does. So each is fitted once,
and predicts its holdout and every partition after it. A replay of a policy then takes milliseconds.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from airflow_mlops.core.data.input_schema import category_dtype, levels_of, open_categories
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.train import InWorker
from airflow_mlops.core.errors import DeclarationError, TrainingError
from airflow_mlops.core.evaluation.simple_baselines import FITTED_ROWS, fit_baselines
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.replay.past_partitions import PastPartition
from airflow_mlops.core.training.assemble import check_classes, describe_candidates
from airflow_mlops.core.training.fit_estimator import candidate_of, fit_or_search
from airflow_mlops.core.training.global_seeds import seed_generators
from airflow_mlops.core.training.inspect_candidates import describe_refusals
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.search_parameters import search_settings
from airflow_mlops.core.training.window import ModelRows
from airflow_mlops.core.workspace import Workspace

BASELINES = "baselines of the gates"


@dataclass(frozen=True)
class FittedModel:
    """A model as of a partition: its predictions by the position of the partition, each of shape (n_rows,).

    ``failed`` is the reason why there is no such model; ``seconds`` the time of fit and predictions.
    """

    predictions: dict[int, Floats] = field(default_factory=dict)
    failed: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class FittedHistory:
    """The models of a replay: ``models[as_of][candidate]``, where ``as_of`` is a partition's position.

    ``baselines`` are the predictions of the gates' baselines for the holdout as of a position, where gates ask for any.
    """

    loop: Loop
    partitions: Sequence[PastPartition]
    models: dict[int, dict[str, FittedModel]]
    baselines: dict[int, dict[str, Floats]]

    @property
    def first(self) -> int:
        """Position of the partition as of which the first training is possible."""
        return self.loop.train.partitions_needed - 1


@dataclass(frozen=True)
class _Job:
    """One fit: its request, the positions it is fitted on and predicts, categories without declared levels, classes."""

    as_of: int
    request: FitRequest
    fitted: tuple[int, ...]
    predicted: tuple[int, ...]
    categories: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None


def window_positions(loop: Loop, as_of: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions of the partitions that a training as of a position fits on, and those of its holdout."""
    positions, train = tuple(range(as_of + 1)), loop.train
    fitted_on, holdout = positions[: -train.holdout], positions[-train.holdout :]
    return (fitted_on[-train.window :] if isinstance(train.window, int) else fitted_on), holdout


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
        If the declaration has candidates fitted elsewhere than on a worker, weights of
        rows, or quantiles.
    TrainingError
        If the user's function gives no candidates.
    """
    loop = workspace.loop
    if not isinstance(loop.train.runs_on, InWorker):
        raise DeclarationError(
            f"is {loop.train.runs_on.kind!r}; a replay fits hundreds of models here, so it needs 'worker'",
            key="train.runs_on.kind",
        )
    for name in ("weight", "half_life_days", "quantiles"):
        if getattr(loop.train, name):
            raise DeclarationError(
                "is declared, and a replay counts every row once and predicts one number; leave it out to replay the "
                "policies without it",
                key=f"train.{name}",
            )
    jobs = [job for job in _jobs(workspace, len(partitions)) if as_of is None or job.as_of in as_of]
    history = FittedHistory(loop, partitions, {}, {})
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        for position, partition in enumerate(partitions):
            _fit_rows(partition).write(Path(folder) / f"{position}.parquet")
        # Not forked: what the parent holds open, such as a lake, does not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_open_folder, initargs=(folder,)) as pool:
            futures = {pool.submit(_fit, job): job for job in jobs}
            for done, future in enumerate(as_completed(futures), start=1):
                job, model = futures[future], future.result()
                if job.request.candidate == BASELINES:
                    history.baselines.setdefault(job.as_of, {}).update(model)
                else:
                    history.models.setdefault(job.as_of, {})[job.request.candidate] = model
                progress(done, len(jobs), f"{job.request.candidate} as of {partitions[job.as_of].key[:10]}")
    return history


def _jobs(workspace: Workspace, count: int) -> Any:
    loop = workspace.loop
    if loop.train.threshold is not None:
        raise DeclarationError("a replay decides at 0.5; leave the threshold out of it", key="train.threshold")
    listed = describe_candidates(loop, workspace.root)
    if not listed["names"]:
        raise TrainingError(describe_refusals(loop.train.function, listed["refused"]))
    search = search_settings(loop) if listed["searched"] else None
    needs_baselines = any(gate.better_than is not None for gate in loop.gates)
    for as_of in range(loop.train.partitions_needed - 1, count):
        fitted_on, holdout = window_positions(loop, as_of)
        for candidate in [*listed["names"], *([BASELINES] if needs_baselines else [])]:
            request = FitRequest(
                model=loop.model,
                operation=f"replay-{as_of}",
                candidate=candidate,
                attempt="0",
                function=loop.train.function,
                seed=loop.train.seed,
                classifies=loop.classifies,
                label=loop.data.label,
                window=(),
                search=search,
                file="",
                root=str(workspace.root.absolute()),
                early_stopping=loop.train.early_stopping.model_dump() if loop.train.early_stopping else None,
            )
            predicted = holdout if candidate == BASELINES else (*holdout, *range(as_of + 1, count))
            yield _Job(as_of, request, fitted_on, predicted, open_categories(workspace), loop.class_names)


def _fit_rows(partition: PastPartition) -> FitRows:
    """Return the rows of a partition in the form that the processes read."""
    return FitRows(partition.features, partition.label)


_ROWS: dict[int, FitRows] = {}
_FOLDER = Path()


def _open_folder(folder: str) -> None:
    global _FOLDER  # noqa: PLW0603 -- set once in each process of the pool
    _FOLDER = Path(folder)


def _rows(position: int) -> FitRows:
    if position not in _ROWS:
        _ROWS[position] = FitRows.read(_FOLDER / f"{position}.parquet")
    return _ROWS[position]


def _fit(job: _Job) -> Any:
    """Fit in a process of the pool; return a :class:`FittedModel`, or the baselines' predictions by name."""
    started = time.monotonic()
    window = [_rows(position) for position in _positions_to_read(job)]
    labelled = [~np.isnan(rows.label) for rows in window]
    label = np.concatenate([rows.label[mask] for rows, mask in zip(window, labelled, strict=True)])
    features = pd.concat([rows.features[mask] for rows, mask in zip(window, labelled, strict=True)], ignore_index=True)
    levels = _window_levels(job, features)
    features = with_levels(features, levels)
    with threadpool_limits(1):
        if job.request.candidate == BASELINES:
            return _baselines(job, features, label, levels)
        moment = np.repeat(np.arange(len(window)), [int(mask.sum()) for mask in labelled])
        try:
            if job.classes is not None:
                check_classes(pd.Series(label, name=job.request.label), job.classes)
            with seed_generators(job.request.seed):
                model = fit_or_search(
                    candidate_of(job.request), job.request, FitRows(features, _cast_label(job, label), moment)
                )[0]
            predictions = {
                position: predict(
                    model, with_levels(_rows(position).features, levels), classifies=job.request.classifies
                )
                for position in job.predicted
            }
        except TrainingError as error:
            return FittedModel(failed=str(error), seconds=time.monotonic() - started)
    return FittedModel(predictions, seconds=time.monotonic() - started)


def _positions_to_read(job: _Job) -> tuple[int, ...]:
    """Return the positions that a fit reads: its window, or for baselines the newest ones with enough rows."""
    if job.request.candidate != BASELINES:
        return job.fitted
    rows = 0
    for place in range(len(job.fitted) - 1, -1, -1):
        rows += int(np.count_nonzero(~np.isnan(_rows(job.fitted[place]).label)))
        if rows >= FITTED_ROWS:
            return job.fitted[place:]
    return job.fitted


def _cast_label(job: _Job, label: Floats) -> Any:
    return label.astype(np.int64) if job.request.classifies else label


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


def _baselines(
    job: _Job, features: pd.DataFrame, label: Floats, levels: Mapping[str, tuple[str, ...]]
) -> dict[str, Floats]:
    chosen = np.zeros(len(label), bool)
    chosen[np.random.default_rng(job.request.seed).permutation(len(label))[:FITTED_ROWS]] = True
    training = ModelRows(pd.DataFrame({job.request.label: label}), features).where(chosen)
    holdout = with_levels(
        pd.concat([_rows(position).features for position in job.predicted], ignore_index=True), levels
    )
    baselines = fit_baselines(
        training, job.request.label, holdout, classifies=job.request.classifies, classes=job.classes
    )
    return dict(baselines.predictions)
