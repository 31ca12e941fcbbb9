"""Ingest a loop's history from its source by the same stages, for a replay without a lake."""

from __future__ import annotations

from collections.abc import Callable

from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceMissingError
from airflow_mlops.core.validation.judge_in_database import take_judged_snapshot
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.suite import Validator
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace


def history_keys(workspace: Workspace, *, until: str) -> list[str]:
    """Return the keys of the partitions from the declared first one up to ``until``.

    Raises
    ------
    DeclarationError
        If the declaration does not say where its history begins.
    """
    data, schedule = workspace.loop.data, workspace.loop.data.schedule
    if data.first_moment is None:
        raise DeclarationError("is not declared; a replay without a lake needs the first partition", key="data.from")
    key, last = schedule.closing(data.first_moment), min(until, data.last_moment or until)
    keys = []
    while key[: len(last)] <= last:
        keys.append(key)
        key = schedule.next(key)
    return keys


def take_history(
    workspace: Workspace,
    validator: Validator,
    *,
    until: str,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> None:
    """Snapshot, validate and publish every partition; one that is missing or refused is left out, as in the loop.

    Parameters
    ----------
    workspace : Workspace
        On a lake and a ledger of its own.
    until : str
        Key of the last partition.
    progress : callable
        Called after each partition with the number done, the number of partitions, and the outcome.
    """
    keys = history_keys(workspace, until=until)
    for done, key in enumerate(keys, start=1):
        try:
            manifest = take_judged_snapshot(workspace, key)
            publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, validator))
            outcome = "published"
        except SourceMissingError:
            outcome = "nothing is there"
        except PartitionRefusedError as error:
            outcome = f"refused: {error}"
        progress(done, len(keys), f"{key[:10]} {outcome}")
