"""A lake that fails says nothing about the rows: the partition is not refused, and the next attempt publishes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.core.fault_point import VARIABLE, InjectedError
from tests.integration.test_killed_ingest import POINTS, deliver, ingest, opened
from tests.unit.core.toy_loop import week


@pytest.mark.parametrize("point", POINTS)
def test_an_error_of_the_lake_refuses_no_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    deliver(tmp_path)
    ingest(tmp_path, 0)
    monkeypatch.setenv(VARIABLE, f"{point}:raise")
    with pytest.raises(InjectedError, match=point):
        ingest(tmp_path, 1)
    monkeypatch.delenv(VARIABLE)
    assert {record.kind for record in opened(tmp_path).ledger.records()} == {"snapshot_published"}
    assert ingest(tmp_path, 1).rows == 118
    assert sorted(opened(tmp_path).state().published) == [week(0), week(1)]
