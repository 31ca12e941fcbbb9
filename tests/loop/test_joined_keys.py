"""A loop over lines of orders through the real scheduler: the key is ``[order_id, line]``, labels come a week later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import yaml

from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, week

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

KEY = ["order_id", "line"]
CONTRACT = {
    "contract": "lines",
    "key": KEY,
    "time": "at",
    "columns": {
        "order_id": {"type": "text"},
        "line": {"type": "int"},
        "at": {"type": "time", "zone": "none"},
        "x1": {"type": "float"},
        "x2": {"type": "float"},
        "place": {"type": "text"},
    },
}


def lines_of(key: str) -> pa.Table:
    """Return the rows of a week as lines of orders, three of each."""
    rows = week(key).drop_columns("id")
    orders = [f"{partition_slug(key)}/{number // 3}" for number in range(len(rows))]
    return rows.append_column("order_id", pa.array(orders)).append_column(
        "line", pa.array([number % 3 + 1 for number in range(len(rows))])
    )


def deliver(project: Project, tick: str, of: str) -> None:
    """Put the labels of a week where they are delivered with another one's tick."""
    folder = project.root / "include" / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    labels = lines_of(of).select([*KEY, "y"]).rename_columns(["order", "pos", "y"])
    labels.to_pandas().sample(frac=1.0, random_state=1).to_csv(folder / f"{partition_slug(tick)}.csv", index=False)


def test_a_loop_runs_on_rows_with_a_key_of_two_columns(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project = make_project(tmp_path)
    source = {"kind": "csv", "uri": "include/labels/{partition}.csv"}
    project.fields["data"] |= {
        "key": KEY,
        "contract": "include/contract.yaml",
        "labels": {"source": source, "delay": 1, "key": ["order", "pos"]},
    }
    (tmp_path / "include" / "contract.yaml").write_text(yaml.safe_dump(CONTRACT))
    declared = tmp_path / "include" / "loops" / f"{project.model}.yaml"
    declared.write_text(json.dumps(project.fields, indent=1))
    scheduler = start_scheduler(project.dags)
    for number in range(5):
        rows = lines_of(KEYS[number]).drop_columns("y")
        project.put(KEYS[number], pa.concat_tables([rows, rows.slice(7, 1)]) if number == 4 else rows)
        if number:
            deliver(project, KEYS[number], KEYS[number - 1])
        project.ingest(scheduler, KEYS[number])
        if number < 3:
            project.at_night(scheduler, KEYS[number])
    assert scheduler.failures() == []
    state = project.workspace.state()
    assert state.champion is not None
    assert (state.champion.number, max(state.scored)) == ("1", KEYS[4])
    orders = lines_of(KEYS[4]).select(KEY).to_pylist()
    assert sorted(project.served(KEYS[4])["key"]) == sorted(f"{row['order_id']}+{row['line']}" for row in orders)
    assert (state.published[KEYS[4]].rows, state.published[KEYS[4]].quarantined) == (120, 1)
    judged = state.performance[KEYS[3]]
    assert (judged.verdict, judged.rows) == ("no alarm", 120)
    assert project.details_of("labels_arrived", KEYS[4]).touches == {KEYS[3]: 120}
    assert reproduce_version(project.workspace, "1").verdict == "identical"
    assert_invariants(project.workspace)
