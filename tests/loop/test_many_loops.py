"""Many loops in one Airflow: the benchmark takes each through its turns, and would find one that did not end."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.testing.own_executor import cpu_seconds
from benchmarks.loops_300 import list_row, many_loops


def test_each_of_several_loops_takes_its_turn_in_one_airflow(tmp_path: Path, airflow_home: Path) -> None:
    assert airflow_home.is_dir()
    with many_loops(tmp_path, 3) as fleet:
        fleet.declare(3)
        assert len(fleet.scheduler.dag_ids) == 21
        before = cpu_seconds()
        turns = fleet.turn_at_once(fleet.projects[1:2])
        assert 0 < turns.task_seconds < turns.each < cpu_seconds() - before
        fleet.publish(fleet.projects[2:])

        fleet.verify([2, 2, 0])
        with pytest.raises(RuntimeError, match=r"loop_002 has . records and 0 champions, not 1"):
            fleet.verify([2, 2, 1])
        page = list_row(3)
        assert page.ours > page.peer
