"""Quarantine: every bad row is kept as it arrived, and released after a fix into a new version of its partition."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.release_quarantine import release_quarantine
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import toy_fields, toy_rows, week

KEY = week(0)
SUITE = "expectations:\n  - {{type: expect_column_values_to_be_between, kwargs: {{column: x, max_value: {limit}}}}}\n"
CONTRACT = """
contract: toy
key: id
time: at
evolution: additive
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: none}
  x: {type: float}
  kind: {type: text, nullable: %s}
  y: {type: float}
"""


def open_loop(tmp_path: Path, *, contract: bool = True) -> Workspace:
    """Return a loop of 200 rows: two with an x beyond 10, one without a kind, which the contract forbids."""
    rows = toy_rows(0, rows=200)
    rows.loc[[3, 4], "x"] = [11.5, 12.0]
    if contract:
        rows.loc[7, "kind"] = None
    fields = toy_fields()
    fields["data"] |= {"expectations": "suite.yaml", "tolerance": 0.05}
    if contract:
        fields["data"] |= {"contract": "contract.yaml"}
        (tmp_path / "contract.yaml").write_text(CONTRACT % "false")
    (tmp_path / "suite.yaml").write_text(SUITE.format(limit=10))
    return in_memory_workspace(Loop(**fields), {KEY: rows}, scratch=tmp_path)


def again(workspace: Workspace) -> Workspace:
    """Return the same stores, opened by a new process that reads contract and suite anew."""
    return Workspace(workspace.loop, workspace.root, workspace.scratch, workspace.ports, "person")


def ingest(workspace: Workspace) -> SnapshotPublished:
    manifest = take_snapshot(workspace, KEY)
    return publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator())).details


def quarantined_rows(workspace: Workspace) -> dict[str, list[str]]:
    """Return the reasons of the rows in quarantine by their keys."""
    return {row["key"]: json.loads(row["reasons"]) for row in workspace.quarantine.read(KEY).to_pylist()}


def test_bad_rows_of_contract_and_suite_lie_side_by_side_with_their_reasons(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    published = ingest(workspace)
    assert quarantined_rows(workspace) == {
        "0-3": ["x: expect_column_values_to_be_between"],
        "0-4": ["x: expect_column_values_to_be_between"],
        "0-7": ["kind: is null"],
    }
    assert (published.rows, published.quarantined) == (197, 3)


def test_a_row_is_kept_as_it_arrived(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    ingest(workspace)
    (row,) = [row for row in workspace.quarantine.read(KEY).to_pylist() if row["key"] == "0-3"]
    assert json.loads(row["row"])["x"] == "11.5"


def test_rows_that_meet_the_suite_after_a_fix_join_their_partition_as_a_new_version(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    first = ingest(workspace)
    (tmp_path / "suite.yaml").write_text(SUITE.format(limit=11.8))
    result = release_quarantine(again(workspace), KEY, GxValidator())
    assert (result.released, result.kept) == (1, 2)
    published = workspace.state().published[KEY]
    assert (published.rows, published.quarantined, published.publication) == (198, 2, 2)
    rows = workspace.snapshots.read(KEY, version=published.version)
    assert content_digest(rows) == published.digest
    assert 11.5 in rows.column("x").to_pylist()
    assert workspace.snapshots.read(KEY, version=first.version).num_rows == 197
    assert set(quarantined_rows(workspace)) == {"0-4", "0-7"}


def test_a_released_partition_holds_exactly_what_arrived(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    ingest(workspace)
    (tmp_path / "suite.yaml").write_text(SUITE.format(limit=100))
    (tmp_path / "contract.yaml").write_text(CONTRACT % "true")
    assert release_quarantine(again(workspace), KEY, GxValidator()).released == 3
    arrived = pa.Table.from_pandas(workspace.source.frames[KEY], preserve_index=False)  # type: ignore[attr-defined]
    arrived = arrived.set_column(1, "at", arrived.column("at").cast(pa.timestamp("us")))
    assert workspace.state().published[KEY].digest == content_digest(arrived)
    assert workspace.quarantine.partitions() == []


def test_rows_are_accepted_against_the_suite_only_with_a_reason_that_the_ledger_keeps(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    ingest(workspace)
    assert release_quarantine(again(workspace), KEY, GxValidator()).released == 0
    result = release_quarantine(again(workspace), KEY, GxValidator(), keys=["0-3"], accept="measured by hand")
    assert result.released == 1
    record = list(workspace.ledger.records())[-1]
    assert (record.actor, record.details.accepted_because) == ("person", "measured by hand")


def test_no_reason_releases_a_row_that_breaks_the_contract(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    ingest(workspace)
    result = release_quarantine(again(workspace), KEY, GxValidator(), keys=["0-7"], accept="let it in")
    assert (result.released, result.reasons) == (0, {"kind: is null": 1})


def test_an_ingest_of_the_same_delivery_keeps_what_was_released(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    ingest(workspace)
    release_quarantine(again(workspace), KEY, GxValidator(), keys=["0-3"], accept="measured by hand")
    before = list(workspace.ledger.records())
    ingest(again(workspace))
    assert list(workspace.ledger.records()) == before
    assert workspace.state().published[KEY].rows == 198


def test_a_key_that_is_back_in_the_partition_by_now_is_not_released_twice(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, contract=False)
    rows = workspace.source.frames[KEY]  # type: ignore[attr-defined]
    rows.loc[len(rows)] = rows.loc[9]  # a copy
    rows.loc[len(rows) - 1, "x"] = 99.0
    ingest(workspace)
    assert quarantined_rows(workspace)["0-9"] == ["id: is not unique: '0-9' stands there 2 times with different values"]
    result = release_quarantine(again(workspace), KEY, GxValidator(), keys=["0-9"], accept="which of them?")
    assert result.released == 0


def test_a_partition_that_was_refused_has_to_be_ingested_again(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE.format(limit=0))
    with pytest.raises(DataError, match="rows are bad"):
        ingest(workspace)
    with pytest.raises(DataError, match=r"is not published.*ingest it again"):
        release_quarantine(again(workspace), KEY, GxValidator())
    (tmp_path / "suite.yaml").write_text(SUITE.format(limit=100))
    assert ingest(again(workspace)).rows == 199


def test_rows_of_a_refused_delivery_do_not_join_the_one_that_is_published(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path)
    ingest(workspace)
    workspace.source.frames[KEY] = toy_rows(0, rows=200).assign(x=99.0)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="200 of 200 rows are bad"):
        ingest(again(workspace))
    (tmp_path / "suite.yaml").write_text(SUITE.format(limit=100))
    with pytest.raises(DataError, match=r"the newest delivery .* was refused"):
        release_quarantine(again(workspace), KEY, GxValidator())
    assert workspace.state().published[KEY].rows == 197
