"""Measure the champion's regret on a scored partition: what it lost against a fresh model, on the same rows.

The fresh model is the best one that a training as of the partition before would have made, of all candidates and
windows (:mod:`~airflow_mlops.core.watch.fresh_model`), or the earlier champion that it would have recalled
(:mod:`~airflow_mlops.core.watch.recalled_reference`). So both have predicted before the labels were known. Added up
since the last promotion, regret is what staleness has cost; :mod:`~airflow_mlops.core.retrain.retrain_policy` holds it
against what a promotion costs. The form is that of the rent-or-buy problem: rent (the old model's loss) until the rent
that was paid is worth the price.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.labels.labels_of import digest_of_labels
from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.errors import DataError, NotReadyError, TrainingError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, MEASURED, RegretMeasured
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import DomainError, Floats, metric_value, relative_loss, row_losses
from airflow_mlops.core.training.window import pin_scored, pin_window, read_window
from airflow_mlops.core.watch.estimated_regret import regret_before_labels
from airflow_mlops.core.watch.fresh_model import fresh_model
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
    note_version(champion.number)
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
        too_few = insufficient_labels(labelled)
        try:
            estimated = regret_before_labels(workspace, state, champion, partition, window=window, as_of=before)
        except NotReadyError as error:
            return replace(too_few, message=f"{too_few.message}; {error}")
        return replace(estimated, message=f"{labelled:,} rows have a label; {estimated.message}")
    label = rows.rows[loop.data.label].to_numpy(float)

    def losses(model: Any, features: pd.DataFrame) -> Floats:
        return row_losses(loop.metric, label, predict(model, features, classifies=loop.classifies))

    model = load_version(workspace, champion)
    compared = [ModelWithSchema(schema, lambda: model)]
    champion_losses = fresh_losses = losses(model, rows.features)
    fresh = fresh_model(workspace, champion, window, before)
    if fresh is not None:
        fresher = fresh.model
        compared.append(ModelWithSchema(fresh.schema, lambda: fresher))
        if fresh.schema != schema:  # the same rows, as the fresh model sees them
            rows = read_window(workspace, [pin_scored(state, partition)], schema=fresh.schema)
        fresh_losses = losses(fresh.model, rows.features)
    recalled = recalled_reference(workspace, state, champion, window.holdout, as_of=before, beside=compared)
    if recalled is not None:
        rows = read_window(workspace, [pin_scored(state, partition)], schema=recalled.schema)
        fresh_losses = losses(recalled.load(), rows.features)
    figures = regret_of(loop.metric, champion_losses, fresh_losses)
    version = None if recalled is None else recalled.version
    name = None if fresh is None or version is not None else fresh.candidate
    message = f"{loop.metric} {figures['champion_value']:.4g}, {_reference(before, name, version)} has "
    message += f"{figures['fresh_value']:.4g}"
    measured = RegretMeasured(verdict=MEASURED, message=message, rows=labelled, fresh_as_of=before)
    return replace(measured, fresh_candidate=name, recalled=version, **figures)


def _reference(before: str, candidate: str | None, recalled: str | None) -> str:
    """Return in words what the champion is compared with."""
    if recalled is not None:
        return f"version {recalled}, the best one to recall as of {before},"
    return f"a fresh model of {before}{f', {candidate},' if candidate else ''}"


def insufficient_labels(rows: int) -> RegretMeasured:
    """Return the details of a measurement with too few labelled rows."""
    message = f"{rows:,} rows have a label, {MIN_ROWS} are needed"
    return RegretMeasured(verdict=INSUFFICIENT_DATA, message=message, rows=rows)
