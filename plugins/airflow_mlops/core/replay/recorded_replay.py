"""Replay policies over the history of a loop's own lake, and keep the answer: a record, its figures and a picture."""

from __future__ import annotations

import base64
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.replay_details import PolicyReplayed
from airflow_mlops.core.replay.compare_policies import PolicyComparison, policy_of
from airflow_mlops.core.replay.fit_history import fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.replay.replay_picture import draw_replay
from airflow_mlops.core.replay.replay_report import ReplayReport, describe_replay, report_replay
from airflow_mlops.core.replay.replay_request import ReplayRequest, split_position
from airflow_mlops.core.workspace import Workspace

PNG = "image/png"
Progress = Callable[[str], None]


def replay_history(
    workspace: Workspace,
    request: ReplayRequest,
    *,
    processes: int = 1,
    progress: Progress = lambda _: None,
) -> ReplayReport:
    """Fit the history of the published partitions once, replay policies over it, and return the report.

    Parameters
    ----------
    request : ReplayRequest
        The policies, and the windows and partitions that they are replayed on.
    processes : int
        Number of fits at once, each with one thread.
    progress : callable
        Called with a line about what is done.

    Raises
    ------
    DeclarationError
        If there is no policy of a name, or candidates are fitted elsewhere than on a worker.
    NotReadyError
        If too few partitions are published, or the split leaves none on one side.
    """
    workspace = replace(workspace, loop=request.loop(workspace.loop))
    partitions = past_partitions(workspace, until=request.until)
    # What is wrong fails before hours of fits, not after.
    for name in request.policies:
        policy_of(workspace.loop, name)
    needed = workspace.loop.train.partitions_needed
    split_position([partition.key for partition in partitions], needed, request.split)
    history = fit_history(
        workspace,
        partitions,
        processes=processes,
        progress=lambda done, total, name: progress(f"fit {done}/{total}: {name}"),
    )
    return report_replay(
        PolicyComparison(history),
        request.policies,
        split=request.split,
        progress=lambda name: progress(f"replay {name}"),
    )


def replay_and_record(
    workspace: Workspace,
    request: ReplayRequest,
    *,
    reason: str,
    attempt: str,
    processes: int = 1,
    progress: Progress = lambda _: None,
) -> Record[PolicyReplayed]:
    """Replay policies and record the answer; the loop, its models and its traffic are left as they are.

    Idempotent: an attempt that was recorded is not made again.

    Parameters
    ----------
    reason : str
        Why, for the ledger.
    attempt : str
        Name of the attempt, such as the run of a task.

    Raises
    ------
    DeclarationError, NotReadyError
        As :func:`replay_history`.
    """
    operation = f"{PolicyReplayed.KIND}:{attempt}"
    recorded = workspace.ledger.recorded(operation)
    if recorded is not None:
        return recorded
    began = time.monotonic()
    report = replay_history(workspace, request, processes=processes, progress=progress)
    digest = workspace.evidence.put(replay_document(report))
    details = PolicyReplayed(
        policies=request.policies,
        window=request.window,
        until=request.until,
        split=request.split,
        first=report.partitions[0],
        last=report.partitions[-1],
        advice=report.advice,
        report=digest,
        suggested=report.suggested,
        reason=reason,
        seconds=round(time.monotonic() - began, 1),
    )
    draft = workspace.draft(details, operation, report.partitions[-1], evidence=(digest,))
    return workspace.record_fact(draft)


def replay_document(report: ReplayReport) -> dict[str, Any]:
    """Return the evidence of a replay: its figures, the notes on them as lines, and the picture."""
    with tempfile.TemporaryDirectory(prefix="replay-picture-") as folder:
        path = Path(folder) / "replay.png"
        draw_replay(report, path)
        picture = base64.b64encode(path.read_bytes()).decode("ascii")
    return {
        "figures": finite(report.to_dict()),
        "notes": describe_replay(report),
        "picture": {"media_type": PNG, "base64": picture},
    }


def finite(value: Any) -> Any:
    """Return JSON values with None for each number that is not finite, which JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
