"""Take a loop's history in from its source, by the same stages, where its own lake holds none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.partition_key import next_tick
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceMissingError
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.suite import Validator
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace


def ticks(workspace: Workspace, *, until: str) -> list[str]:
    """Return the keys of the partitions from the declared first one up to ``until``.

    Raises
    ------
    DeclarationError
        If the declaration does not say where its history begins.
    """
    data = workspace.loop.data
    if data.from_ is None:
        raise DeclarationError("is not declared, so nobody knows where the history begins", key="data.from")
    key, last = datetime.fromisoformat(data.from_).isoformat(), min(until, data.until or until)
    found = []
    while key[: len(last)] <= last:
        found.append(key)
        key = next_tick(data.every, key)
    return found


def take_history(
    workspace: Workspace,
    validator: Validator,
    *,
    until: str,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> None:
    """Take, validate and publish every partition; one that is missing or refused is left out, as it would have been.

    Parameters
    ----------
    workspace : Workspace
        On a lake and a ledger of its own.
    until : str
        Key of the last partition to ask for.
    progress : callable
        Told after each partition: how many are done, of how many, and what became of it.
    """
    keys = ticks(workspace, until=until)
    for done, key in enumerate(keys, start=1):
        try:
            manifest = take_snapshot(workspace, key)
            publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, validator))
            said = "published"
        except SourceMissingError:
            said = "nothing is there"
        except PartitionRefusedError as error:
            said = f"refused: {error}"
        progress(done, len(keys), f"{key[:10]} {said}")
