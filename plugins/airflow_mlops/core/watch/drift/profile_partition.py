"""Profile a partition on the champion's bins and keep it: counts that add up, for whoever compares or merges them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.data.profiles.observe_rows import ObservedRows
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.partition_key import previous_tick
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.training.reference_profile import ReferenceProfile, observe_features
from airflow_mlops.core.training.window import pin_published, read_partition
from airflow_mlops.core.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy import URL


def profile_partition(workspace: Workspace, partition: str) -> dict[str, Any]:
    """Return the digest of the profile of a published partition's features, now kept as evidence, and its numbers.

    Doing it again keeps the same: the digest is of what was counted.

    Raises
    ------
    NotReadyError
        If the partition is not published, or there is no champion whose bins it could be counted on.
    """
    champion, bins = champion_bins(workspace)
    state = workspace.state()
    if partition not in state.published:
        raise NotReadyError(f"partition {partition} is not published")
    pin = pin_published(state, partition)
    rows = read_partition(workspace, pin, label=False)
    observed = observe_features(FeatureMaker(workspace).make(rows, partition, pin.version), bins)
    return kept(workspace, partition, champion, observed, {"snapshot": pin.digest})


def profile_table(
    workspace: Workspace,
    partition: str,
    url: str | URL,
    table: str,
    *,
    schema: str | None = None,
    time: str | None = None,
) -> dict[str, Any]:
    """Return the digest of the profile of a table, counted by its database, now kept as evidence, and its numbers.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        Address of the database, with its driver.
    table, schema : str
        The table, whose columns are the features.
    time : str, optional
        Column by which a row belongs to the partition: from the tick before its key up to the key. All rows if not
        given.

    Raises
    ------
    NotReadyError
        If there is no champion whose bins the table could be counted on.
    """
    from airflow_mlops.core.data.profiles.sql_profile import TableRows, observe_table

    champion, bins = champion_bins(workspace)
    rows, source = TableRows(table, schema), {"table": table, "schema": schema, "time": time}
    if time is not None:
        ticks = previous_tick(workspace.loop.data.every, partition), partition
        since, until = (datetime.fromisoformat(tick).replace(tzinfo=UTC) for tick in ticks)
        rows = TableRows(table, schema, time, since, until)
    return kept(workspace, partition, champion, observe_table(url, rows, bins), source)


def champion_bins(workspace: Workspace) -> tuple[Version, ProfileBins]:
    """Return the champion, and the bins of the training window that it comes from."""
    champion = workspace.state().champion
    if champion is None:
        raise NotReadyError("there is no champion whose bins a profile could be taken on")
    digest = str(champion.details.profile)
    return champion, ReferenceProfile.from_dict(workspace.evidence.get(digest)).bins


def kept(
    workspace: Workspace, partition: str, champion: Version, observed: ObservedRows, of: dict[str, Any]
) -> dict[str, Any]:
    """Keep a profile as evidence, and return what is small enough to be told."""
    told = {"partition": partition, "champion": champion.number, "rows": observed.profile.rows}
    digest = workspace.evidence.put({**told, "of": of, **observed.to_dict()})
    return {
        **told, "profile": digest, "missing": list(observed.missing), "new": list(observed.new),
        "retyped": sorted(observed.retyped or {}),
    }  # fmt: skip
