"""Measure the champion's regret on a scored partition: what it lost against a fresh model, on the same rows.

The fresh model is the one that a training as of the partition before would have made: the champion's candidate,
fitted anew on the window of then. So both have predicted before the labels were known. Added up since the last
promotion, regret is what staleness has cost; :mod:`~airflow_mlops.core.retrain.retrain_policy` holds it against
what a promotion costs. The form is that of the rent-or-buy problem: rent (the old model's loss) until the rent
that was paid is worth the price.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from typing import Any

from airflow_mlops.core.data.labels.labels_of import digest_of_labels
from airflow_mlops.core.data.user_features import features_digest
from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.errors import DataError, NotReadyError, TrainingError
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import TrainingWindow
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, MEASURED, RegretMeasured
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.training.fit_candidate import run_fit
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats, metric_value, relative_loss, row_losses
from airflow_mlops.core.training.window import pin_scored, pin_window, read_window
from airflow_mlops.core.workspace import Workspace


def measure_regret(workspace: Workspace, partition: str, *, as_of: str | None = None) -> RegretMeasured:
    """Return, and record, the regret of the champion that scored a partition.

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
    until = max(as_of or partition, partition)
    state = workspace.state(as_of=until)
    scored = state.require_scored(partition)
    labels = digest_of_labels(state.labels, partition, until)
    known = state.regret.get(partition)
    if known is not None and (known.snapshot, known.labels) == (scored.snapshot, labels):
        return known
    champion = state.versions[scored.champion]
    try:
        measured = _measure(workspace, state, champion, partition)
    except (TrainingError, DataError, NotReadyError) as error:
        measured = RegretMeasured(verdict=INSUFFICIENT_DATA, message=f"no fresh model: {error}", rows=0)
    measured = replace(
        measured,
        metric=workspace.loop.metric,
        snapshot=scored.snapshot,
        labels=labels,
        champion=champion.number,
        historical=workspace.state().is_historical(until),
    )
    operation = f"regret:{partition}:{scored.publication}" + (f":{labels[:16]}" if labels else "")
    return workspace.record_fact(workspace.draft(measured, operation, partition)).details


def measure_regret_again(workspace: Workspace, as_of: str) -> list[tuple[str, RegretMeasured]]:
    """Measure the regret of every partition again whose labels have come, or were corrected, by ``as_of``."""
    if workspace.loop.data.labels is None:
        return []
    state = workspace.state(as_of=as_of)
    changed = [
        key
        for key, known in state.regret.items()
        if key < as_of and key in state.scored and digest_of_labels(state.labels, key, as_of) != known.labels
    ]
    return [(key, measure_regret(workspace, key, as_of=as_of)) for key in changed]


def regret_of(metric: MetricName, champion: Floats, fresh: Floats) -> dict[str, Any]:
    """Return both metrics and the regret of rows with these losses, each of shape (n_rows,).

    >>> import numpy as np
    >>> regret_of("mae", np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    {'champion_value': 1.5, 'fresh_value': 1.0, 'regret': 0.5}
    """
    lost, fresh_lost = metric_value(metric, champion), metric_value(metric, fresh)
    return {"champion_value": lost, "fresh_value": fresh_lost, "regret": relative_loss(metric, lost, fresh_lost)}


def _measure(workspace: Workspace, state: LoopState, champion: Version, partition: str) -> RegretMeasured:
    loop = workspace.loop
    before = state.published.newest(before=partition)
    if before is None:
        raise NotReadyError(f"no partition is published before {partition}")
    own_labels = loop.data.labels is not None
    window = pin_window(workspace.state(as_of=before), loop.train, before, own_labels=own_labels)
    rows = read_window(workspace, [pin_scored(state, partition)])
    count, needed = len(rows.rows), least_rows(loop)
    if count < needed:
        return too_few_labels(count, needed)
    label = rows.rows[loop.data.label].to_numpy(float)

    def losses(model: Any) -> Floats:
        return row_losses(loop.metric, label, predict(model, rows.features, classifies=loop.classifies))

    lost = losses(load_version(workspace, champion))
    # Nothing fresher than the champion could have been made from the same window.
    same = window == champion.details.window
    fresh_lost = lost if same else losses(fresh_model(workspace, champion, window))
    figures = regret_of(loop.metric, lost, fresh_lost)
    message = (
        f"{loop.metric} {figures['champion_value']:.4g}, a fresh model of {before} has {figures['fresh_value']:.4g}"
    )
    measured = RegretMeasured(verdict=MEASURED, message=message, rows=count, fresh_as_of=before)
    return replace(measured, **figures)


def too_few_labels(rows: int, needed: int) -> RegretMeasured:
    """Return that regret cannot be measured on so few labelled rows."""
    message = f"{rows:,} rows have a label, {needed:,} are needed"
    return RegretMeasured(verdict=INSUFFICIENT_DATA, message=message, rows=rows)


def least_rows(loop: Loop) -> int:
    """Return how many labelled rows a loss must rest on."""
    performance = loop.watch.performance
    return performance.min_rows if performance is not None else 100


def fresh_model(workspace: Workspace, champion: Version, window: TrainingWindow) -> Any:
    """Return the champion's candidate, fitted on a window where the declaration says.

    Raises
    ------
    TrainingError, DataError
        If the fit gives no usable model, or the rows are not those that were pinned.
    """
    loop, request = workspace.loop, workspace.evidence.get(str(champion.details.report))["request"]
    candidate = str(champion.details.candidate)
    body = {
        "model": loop.model, "window": window.to_dict(), "candidate": candidate, "seed": loop.train.seed,
        "source": features_digest(workspace, loop.train.function),
    }  # fmt: skip
    operation = hashlib.sha256(canonical_json(body).encode()).hexdigest()[:32]
    file = workspace.scratch / "fresh" / f"{operation}-{uuid.uuid4().hex[:8]}.skops"
    file.parent.mkdir(parents=True, exist_ok=True)
    asked = FitRequest(
        model=loop.model, operation=operation, candidate=candidate, attempt=uuid.uuid4().hex,
        function=loop.train.function, seed=loop.train.seed, classifies=loop.classifies, label=loop.data.label,
        window=tuple(pin.to_dict() for pin in window.fitted), search=request.get("search"),
        file=str(file.absolute()), root=str(workspace.root.absolute()),
    )  # fmt: skip
    try:
        return load_model(file, run_fit(workspace, asked).digest)
    finally:
        file.unlink(missing_ok=True)
