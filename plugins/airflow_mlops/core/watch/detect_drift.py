"""Detect drift: the inputs of a partition against the training window of the champion that scored it."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.training.window import PinnedPartition, read_partition
from airflow_mlops.core.watch.column_drift import drift_verdict
from airflow_mlops.core.watch.measure_performance import is_historical
from airflow_mlops.core.watch.profile_window import ReferenceProfile, count_columns
from airflow_mlops.core.workspace import Workspace


def detect_drift(workspace: Workspace, partition: str) -> dict[str, Any]:
    """Return, and record, the drift verdict of a scored partition.

    The counts and each column's numbers are kept as evidence. A partition older than the newest one
    decided on is ``historical``: recorded, never alarming.

    Raises
    ------
    NotReadyError
        If nothing was scored, or no drift is declared.
    """
    declared = workspace.loop.watch.drift
    if declared is None:
        raise NotReadyError("no drift is declared to be watched")
    state = workspace.state(as_of=partition)
    scored = state.scored.get(partition)
    if scored is None:
        raise NotReadyError(f"partition {partition} was not scored")
    known = state.drift.get(partition)
    if known is not None and known["snapshot"] == scored["snapshot"]:
        return {"partition": partition, **known}
    champion = state.versions[scored["champion"]]
    profile = ReferenceProfile.from_dict(workspace.evidence.get(champion.details["profile"]))
    pin = PinnedPartition(partition, int(scored["snapshot_version"]), str(scored["snapshot"]))
    rows = read_partition(workspace, pin, label=False)
    counts = count_columns(FeatureMaker(workspace).of(rows, pin.partition, pin.version), profile.bins)
    reference = {name: [window[name] for window in profile.windows.values()] for name in profile.bins}
    found = drift_verdict(reference, counts, alarm_rate=declared.alarm_rate, min_effect=declared.min_effect)
    report = workspace.evidence.put({
        "partition": partition, "champion": champion.number, **found,
        "counts": {name: of.tolist() for name, of in counts.items()},
    })  # fmt: skip
    historical = is_historical(workspace, partition)
    verdict = "no alarm" if historical and found["verdict"] == "alarm" else found["verdict"]
    record = workspace.record_fact(
        workspace.draft(
            "drift_judged", f"drift:{partition}:{scored['publication']}", partition, evidence=(report,),
            verdict=verdict, drifted=found.get("drifted", []), missing=found["missing"], rows=found["rows"],
            snapshot=scored["snapshot"], champion=champion.number, historical=historical, report=report,
            alarm_rate=declared.alarm_rate,
        )
    )  # fmt: skip
    return {"partition": partition, **record.details}
