"""Measure the champion's regret on a scored partition: what it lost against a fresh model, on the same rows.

The fresh model is the one that a training as of the partition before would have made: the champion's candidate,
fitted anew on the window of then, or the earlier champion that it would have recalled
(:mod:`~airflow_mlops.core.watch.recalled_reference`). So both have predicted before the labels were known. Added up
since the last
promotion, regret is what staleness has cost; :mod:`~airflow_mlops.core.retrain.retrain_policy` holds it against
what a promotion costs. The form is that of the rent-or-buy problem: rent (the old model's loss) until the rent
that was paid is worth the price.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from typing import Any

import pandas as pd

from airflow_mlops.core.data.input_schema import InputSchema, version_schema
from airflow_mlops.core.data.labels.labels_of import digest_of_labels
from airflow_mlops.core.data.user_features import features_digest
from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.own_types import own_code
from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.errors import DataError, NotReadyError, TrainingError
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import TrainingWindow
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, MEASURED, RegretMeasured
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.training.fit_candidate import run_fit
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import DomainError, Floats, metric_value, relative_loss, row_losses
from airflow_mlops.core.training.window import fit_schema, pin_scored, pin_window, read_window
from airflow_mlops.core.watch.recalled_reference import ModelWithSchema, recalled_reference
from airflow_mlops.core.workspace import Workspace

MIN_ROWS = 20
"""Labelled rows of a partition that its regret needs. They are few, as regrets are added up before they decide."""


def measure_regret(workspace: Workspace, partition: str, *, as_of: str | None = None) -> RegretMeasured:
    """Measure the regret of the champion that scored a partition, record it and return it.

    ``regret`` is (champion - fresh) / fresh, of the loop's metric; None where it could not be measured, which
    ``reason`` explains. A partition older than the newest one decided on is ``historical`` and never counts.

    Parameters
    ----------
    as_of : str, optional
        Up to which delivery labels count, where they come from a source of their own: the partition by default.

    Raises
    ------
    NotReadyError
        If nothing was scored, or the declared policy does not ask for regret.
    """
    if not isinstance(workspace.loop.retrain.policy, Regret):
        raise NotReadyError("the retrain policy does not ask for regret")
    as_of_key = max(as_of or partition, partition)
    state = workspace.state(as_of=as_of_key)
    scored = state.require_scored(partition)
    labels = digest_of_labels(state.labels, partition, as_of_key)
    recorded = state.regret.get(partition)
    is_current = recorded is not None and (recorded.snapshot, recorded.labels) == (scored.snapshot, labels)
    if recorded is not None and is_current and workspace.keeps(recorded):
        return recorded
    champion = state.versions[scored.champion]
    try:
        details = _measure(workspace, state, champion, partition)
    except (TrainingError, DataError, NotReadyError, DomainError) as error:
        details = RegretMeasured(verdict=INSUFFICIENT_DATA, message=f"no fresh model: {error}", rows=0)
    details = replace(
        details,
        metric=workspace.loop.metric,
        snapshot=scored.snapshot,
        labels=labels,
        champion=champion.number,
        historical=workspace.is_historical(as_of_key),
    )
    operation = f"regret:{partition}:{scored.publication}" + (f":{labels[:16]}" if labels else "")
    operation += ":in order" if workspace.in_order else ""
    return workspace.record_fact(workspace.draft(details, operation, partition)).details


def measure_regret_again(workspace: Workspace, as_of: str) -> list[tuple[str, RegretMeasured]]:
    """Measure regret again for every partition whose labels arrived or were corrected by ``as_of``.

    Returns
    -------
    list of (str, RegretMeasured)
        Each partition that was measured, and its new regret.
    """
    if workspace.loop.data.labels is None:
        return []
    state = workspace.state(as_of=as_of)
    changed = [
        key
        for key, recorded in state.regret.items()
        if key < as_of and key in state.scored and digest_of_labels(state.labels, key, as_of) != recorded.labels
    ]
    return [(key, measure_regret(workspace, key, as_of=as_of)) for key in changed]


def regret_of(metric: MetricName, champion: Floats, fresh: Floats) -> dict[str, Any]:
    """Return both metrics and the regret of rows with these losses, each of shape (n_rows,).

    >>> import numpy as np
    >>> regret_of("mae", np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    {'champion_value': 1.5, 'fresh_value': 1.0, 'regret': 0.5}
    """
    champion_value, fresh_value = metric_value(metric, champion), metric_value(metric, fresh)
    regret = relative_loss(metric, champion_value, fresh_value)
    return {"champion_value": champion_value, "fresh_value": fresh_value, "regret": regret}


def _measure(workspace: Workspace, state: LoopState, champion: Version, partition: str) -> RegretMeasured:
    loop = workspace.loop
    before = state.published.newest(before=partition)
    if before is None:
        raise NotReadyError(f"no partition is published before {partition}")
    separate_labels = loop.data.labels is not None
    window = pin_window(workspace.state(as_of=before), loop.train, before, own_labels=separate_labels)
    schema = version_schema(workspace, champion)
    rows = read_window(workspace, [pin_scored(state, partition)], schema=schema)
    labelled = len(rows.rows)
    if labelled < MIN_ROWS:
        return insufficient_labels(labelled)
    label = rows.rows[loop.data.label].to_numpy(float)

    def losses(model: Any, features: pd.DataFrame) -> Floats:
        return row_losses(loop.metric, label, predict(model, features, classifies=loop.classifies))

    model = load_version(workspace, champion)
    compared = [ModelWithSchema(schema, lambda: model)]
    champion_losses = fresh_losses = losses(model, rows.features)
    # Nothing fresher than the champion could have been made from the same window.
    if window != champion.details.window:
        fresh_schema = fit_schema(workspace, window.fitted)
        fresh = fit_fresh_model(workspace, champion, window, fresh_schema)
        compared.append(ModelWithSchema(fresh_schema, lambda: fresh))
        if fresh_schema != schema:  # the same rows, as the fresh model sees them
            rows = read_window(workspace, [pin_scored(state, partition)], schema=fresh_schema)
        fresh_losses = losses(fresh, rows.features)
    recalled = recalled_reference(workspace, state, champion, window.holdout, as_of=before, beside=compared)
    if recalled is not None:
        rows = read_window(workspace, [pin_scored(state, partition)], schema=recalled.schema)
        fresh_losses = losses(recalled.load(), rows.features)
    figures = regret_of(loop.metric, champion_losses, fresh_losses)
    reference = "a fresh model of" if recalled is None else f"version {recalled.version}, the best one to recall as of"
    message = f"{loop.metric} {figures['champion_value']:.4g}, {reference} {before} has {figures['fresh_value']:.4g}"
    measured = RegretMeasured(verdict=MEASURED, message=message, rows=labelled, fresh_as_of=before)
    return replace(measured, **figures, recalled=None if recalled is None else recalled.version)


def insufficient_labels(rows: int) -> RegretMeasured:
    """Return the details of a measurement with too few labelled rows."""
    message = f"{rows:,} rows have a label, {MIN_ROWS} are needed"
    return RegretMeasured(verdict=INSUFFICIENT_DATA, message=message, rows=rows)


def fit_fresh_model(workspace: Workspace, champion: Version, window: TrainingWindow, schema: InputSchema) -> Any:
    """Fit the champion's candidate on a window in an input schema, where the declaration runs fits; return the model.

    Raises
    ------
    TrainingError, DataError
        If the fit gives no usable model, or the rows are not those that were pinned.
    """
    loop, request = workspace.loop, workspace.evidence.get(str(champion.details.report))["request"]
    candidate = str(champion.details.candidate)
    identity = {
        "model": loop.model,
        "window": window.to_dict(),
        "candidate": candidate,
        "seed": loop.train.seed,
        "source": features_digest(workspace, loop.train.function),
    }
    operation = hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32]
    file = workspace.scratch / "fresh" / f"{operation}-{uuid.uuid4().hex[:8]}.skops"
    file.parent.mkdir(parents=True, exist_ok=True)
    fit_request = FitRequest(
        model=loop.model,
        operation=operation,
        candidate=candidate,
        attempt=uuid.uuid4().hex,
        function=loop.train.function,
        seed=loop.train.seed,
        classifies=loop.classifies,
        label=loop.data.label,
        window=tuple(pin.to_dict() for pin in window.fitted),
        search=request.get("search"),
        file=str(file.absolute()),
        root=str(workspace.root.absolute()),
        early_stopping=request.get("early_stopping"),
        own_types=loop.train.own_types,
        own_code=own_code(loop.train.own_types, workspace.root),
        weights=request.get("weights"),
        quantiles=request.get("quantiles"),
    )
    try:
        digest = run_fit(workspace, fit_request, schema=schema).digest
        return load_own_model(workspace, file, digest, fit_request.own_code, f"candidate {candidate!r}")
    finally:
        file.unlink(missing_ok=True)
