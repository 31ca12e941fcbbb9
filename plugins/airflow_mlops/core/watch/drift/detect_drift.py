"""Detect drift: the inputs of a partition against the training window of the champion that scored it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.profiles.observe_rows import ObservedRows
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.watch import Drift
from airflow_mlops.core.errors import DataError, NotReadyError, TrainingError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, NO_ALARM, DriftJudged
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.training.reference_profile import ReferenceProfile, observe_features
from airflow_mlops.core.training.window import pin_scored, read_partition
from airflow_mlops.core.watch.drift.column_findings import column_findings
from airflow_mlops.core.watch.drift.judge_window import WindowJudgement, judge_window
from airflow_mlops.core.workspace import Workspace


def detect_drift(workspace: Workspace, partition: str) -> DriftJudged:
    """Judge the drift of a scored partition, record the verdict and return it.

    The counts and each column's numbers are kept as evidence. A partition older than the newest one
    decided on is ``historical``: recorded, never alarming. Where its features cannot be made there is
    ``insufficient data``, with the reason.

    Raises
    ------
    NotReadyError
        If nothing was scored, or no drift is declared.
    """
    declared = workspace.loop.watch.drift
    if declared is None:
        raise NotReadyError("no drift is declared to be watched")
    state = workspace.state(as_of=partition)
    scored = state.require_scored(partition)
    note_version(scored.champion)
    recorded = state.drift.get(partition)
    if recorded is not None and recorded.snapshot == scored.snapshot and workspace.keeps(recorded):
        return recorded
    champion = state.versions[scored.champion]
    pin = pin_scored(state, partition)
    evidence: dict[str, Any] = {}
    try:
        details, evidence = _judge(workspace, champion, pin, declared)
    except (TrainingError, DataError) as error:
        details = DriftJudged(verdict=INSUFFICIENT_DATA, message=f"the features cannot be made: {error}", rows=0)
    report = workspace.evidence.put(
        {"partition": partition, "champion": champion.number, **details.to_json(), **evidence}
    )
    historical = workspace.is_historical(partition)
    details = replace(
        details,
        verdict=NO_ALARM if historical and details.alarms else details.verdict,
        snapshot=scored.snapshot,
        champion=champion.number,
        historical=historical,
        report=report,
        alarm_rate=declared.alarm_rate if declared.engine == "calibrated" else None,
    )
    operation = f"drift:{partition}:{scored.publication}" + (":in order" if workspace.in_order else "")
    return workspace.record_fact(workspace.draft(details, operation, partition, evidence=(report,))).details


def drift_of_window(profile: ReferenceProfile, features: pd.DataFrame, declared: Drift) -> WindowJudgement:
    """Return the drift verdict on a partition's features against the profile of a training window."""
    return drift_of_rows(profile, observe_features(features, profile.bins), declared)


def drift_of_rows(profile: ReferenceProfile, observed: ObservedRows, declared: Drift) -> WindowJudgement:
    """Return the drift verdict on rows that were counted on the bins of a training window."""
    return judge_window(profile, observed, alarm_rate=declared.alarm_rate, min_effect=declared.min_effect)


def _judge(
    workspace: Workspace, champion: Version, pin: PinnedPartition, declared: Drift
) -> tuple[DriftJudged, dict[str, Any]]:
    """Return the details of the drift record of a partition, and the contents of its evidence."""
    profile = ReferenceProfile.from_dict(workspace.evidence.get(str(champion.details.profile)))
    rows = read_partition(workspace, pin, label=False)
    features = FeatureMaker(workspace, version_schema(workspace, champion)).make(rows, pin.partition, pin.version)
    observed = observe_features(features, profile.bins)
    if declared.engine == "evidently":
        from airflow_mlops.core.watch.drift.evidently_drift import WindowOfRows, judge_by_evidently

        findings = column_findings(profile, observed, rate=declared.alarm_rate)
        return judge_by_evidently(workspace, champion, WindowOfRows(pin, features, findings), declared)
    judgement = drift_of_rows(profile, observed, declared)
    counts = {name: column.bin_counts.tolist() for name, column in observed.profile.columns.items()}
    return judgement.summary(), {**judgement.details(), "counts": counts}
