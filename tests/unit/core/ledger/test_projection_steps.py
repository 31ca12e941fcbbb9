"""Steps of the projection that random histories meet only now and then."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.testing.in_memory import InMemoryLedger
from tests.unit.core.ledger.histories import History, week
from tests.unit.core.ledger.test_projection import assert_projection_is_fold


@pytest.fixture(params=["sqlite", "in memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return (
        SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}", "toy") if request.param == "sqlite" else InMemoryLedger("toy")
    )


@pytest.mark.parametrize("together", [True, False])
def test_removing_twice_at_one_partition_brings_no_earlier_value_back(ledger: Ledger, together: bool) -> None:
    history = History(ledger)
    history.add("partitions_expired", 0, tables={"snapshots": [week(0), week(1)]})
    for _ in range(2):
        history.publish(1)
        if not together:
            assert week(1) not in ledger.state().expired("snapshots")
    assert week(1) in ledger.state(as_of=week(0)).expired("snapshots")
    assert_projection_is_fold(ledger)


def test_keys_of_many_tables_and_records_are_applied_in_one_batch(ledger: Ledger) -> None:
    history = History(ledger)
    for number in range(4):
        history.publish(number).promote(number, str(number)).judge(number, str(number))
    history.publish(2).add("partitions_expired", 3, tables={"snapshots": [week(0)], "predictions": [week(0)]})
    assert_projection_is_fold(ledger)
    history.publish(0, 2).promote(2, "0").judge(1, "2")
    assert_projection_is_fold(ledger)
