"""Profile a partition on the champion's bins and keep the profile as evidence; profiles on the same bins add up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.profiles.observe_rows import ObservedRows
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.training.reference_profile import ReferenceProfile, observe_features
from airflow_mlops.core.training.window import pin_published, read_partition
from airflow_mlops.core.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy import URL


def profile_partition(workspace: Workspace, partition: str) -> dict[str, Any]:
    """Profile the features of a published partition, keep the profile as evidence, and return its digest and numbers.

    Idempotent: the digest is that of the counts.

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
    observed = observe_features(
        FeatureMaker(workspace, version_schema(workspace, champion)).make(rows, partition, pin.version), bins
    )
    return keep_profile(workspace, partition, champion, observed, {"snapshot": pin.digest})


def profile_table(
    workspace: Workspace,
    partition: str,
    url: str | URL,
    table: str,
    *,
    schema: str | None = None,
    time: str | None = None,
) -> dict[str, Any]:
    """Profile a table in its database, keep the profile as evidence, and return its digest and numbers.

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
    DataError
        If rows are taken by their time and the partition is no tick of ``data.every``.
    """
    from airflow_mlops.core.data.profiles.sql_profile import TableRows, observe_table

    champion, bins = champion_bins(workspace)
    rows, source = TableRows(table, schema), {"table": table, "schema": schema, "time": time}
    if time is not None:
        partition = workspace.loop.data.schedule.require_tick(partition)
        ticks = workspace.loop.data.schedule.previous(partition), partition
        since, until = (datetime.fromisoformat(tick).replace(tzinfo=UTC) for tick in ticks)
        rows = TableRows(table, schema, time, since, until)
    return keep_profile(workspace, partition, champion, observe_table(url, rows, bins), source)


def champion_bins(workspace: Workspace) -> tuple[Version, ProfileBins]:
    """Return the champion, and the bins of its training window.

    Raises
    ------
    NotReadyError
        If there is no champion.
    """
    champion = workspace.state().champion
    if champion is None:
        raise NotReadyError("there is no champion whose bins a profile could be taken on")
    digest = str(champion.details.profile)
    return champion, ReferenceProfile.from_dict(workspace.evidence.get(digest)).bins


def keep_profile(
    workspace: Workspace, partition: str, champion: Version, observed: ObservedRows, source: dict[str, Any]
) -> dict[str, Any]:
    """Keep a profile as evidence, and return its digest and the numbers that are small enough for an XCom."""
    summary = {"partition": partition, "champion": champion.number, "rows": observed.profile.rows}
    digest = workspace.evidence.put({**summary, "of": source, **observed.to_dict()})
    return {
        **summary,
        "profile": digest,
        "missing": list(observed.missing),
        "new": list(observed.new),
        "retyped": sorted(observed.retyped or {}),
    }
