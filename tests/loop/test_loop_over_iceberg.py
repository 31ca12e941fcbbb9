"""A whole loop over one Iceberg table, from backfill to predictions; the same backfill again changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog

from tests.loop.invariants import assert_invariants, versions_in_registry
from tests.loop.project import KEYS, Project, make_project, week

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

HISTORY, NEW = KEYS[:3], KEYS[3:5]


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A catalogue in a file of SQLite, which Airflow knows as ``lake``."""
    address, warehouse = f"sqlite:///{tmp_path}/catalogue.db", (tmp_path / "warehouse").as_uri()
    extra = {"type": "sql", "uri": address, "warehouse": warehouse}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "iceberg", "extra": extra}))
    catalog = load_catalog("lake", **extra)
    catalog.create_namespace("shop")
    return catalog


def append(catalog: Catalog, keys: list[str]) -> int:
    """Append the rows of some weeks to the table in one commit, and return the id of its snapshot."""
    rows = pa.concat_tables([week(key) for key in keys])
    table = catalog.create_table_if_not_exists("shop.sales", schema=rows.schema)
    table.append(rows)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def everything(project: Project) -> object:
    """Return the records, versions, aliases and predictions, which a second backfill must not change."""
    workspace = project.workspace
    state = workspace.state()
    return (
        project.records,
        {key: (details.version, details.digest) for key, details in state.published.items()},
        workspace.registry.aliases(),
        versions_in_registry(project.model),
        {key: details.digest for key, details in state.scored.items()},
        {key: workspace.predictions.read(key).to_pydict() for key in NEW},
    )


def test_a_loop_over_one_iceberg_table_backfilled_twice_changes_nothing_the_second_time(
    tmp_path: Path, start_scheduler: SchedulerFactory, lake: Catalog
) -> None:
    project = make_project(tmp_path)
    project.fields["data"]["source"] = {"kind": "iceberg", "conn_id": "lake", "table": "shop.sales"}
    declared = tmp_path / "include" / "loops" / f"{project.model}.yaml"
    declared.write_text(json.dumps(project.fields))
    scheduler = start_scheduler(project.dags)

    def backfill(keys: list[str]) -> None:
        for key in keys:
            scheduler.trigger(project.dag("ingest"), partition_key=key)
        scheduler.run_until_idle()

    first = append(lake, HISTORY)
    backfill(HISTORY)
    project.at_night(scheduler, HISTORY[-1])
    assert scheduler.failures() == []
    assert project.workspace.registry.aliases() == {"champion": "1"}
    second = append(lake, NEW)
    backfill(NEW)
    assert scheduler.failures() == []

    state = project.workspace.state()
    assert {key: details.rows for key, details in state.published.items()} == dict.fromkeys(HISTORY + NEW, 120)
    origins = {key: details.origin for key, details in state.published.items()}
    assert {key: origin["snapshot"] for key, origin in origins.items()} == {
        **dict.fromkeys(HISTORY, first),
        **dict.fromkeys(NEW, second),
    }
    assert {origin["table"] for origin in origins.values()} == {"shop.sales"}
    assert sorted(state.scored) == sorted(state.drift) == sorted(state.performance) == NEW
    for key in HISTORY + NEW:
        assert project.workspace.snapshots.read(key).sort_by("id")["id"] == week(key)["id"]
    assert_invariants(project.workspace)

    # The table has another snapshot by now, without a new row for any of these weeks.
    append(lake, KEYS[5:6])
    before, runs = everything(project), len(scheduler.dag_runs())
    backfill(HISTORY + NEW)
    assert scheduler.failures() == []
    assert everything(project) == before
    again = [run.dag_id.removeprefix(f"{project.model}_") for run in scheduler.dag_runs()[runs:]]
    assert again.count("ingest") == 5
    assert set(again) == {"ingest", "score", "watch"}
    assert_invariants(project.workspace)
