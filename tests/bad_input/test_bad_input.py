"""Bad input: the promised outcome, nothing downstream, no row lost, and the next week goes on."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.compute as pc
import pytest

from airflow_mlops.core.errors import DataError, DeclarationError, NotReadyError
from airflow_mlops.core.ledger.data_details import PartitionRefused, SnapshotPublished
from airflow_mlops.core.ledger.record import verify_chain
from tests.bad_input.case import Case
from tests.bad_input.cases import CASES
from tests.bad_input.conftest import Open
from tests.bad_input.world import BAD, HISTORY, NEXT, ROWS, World, good_rows

ERRORS: dict[str, type[Exception]] = {
    "refused": DataError,
    "not ready": NotReadyError,
    "declaration error": DeclarationError,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line.replace(" ", "_"))
@pytest.mark.bad_input
def test_what_arrives_has_the_outcome_that_is_promised(case: Case, open_world: Open) -> None:
    world = open_world(case)
    usual = world.contract
    case.deliver(world)
    if case.changed:
        world.contract = {**(usual or {}), **case.changed}
    if case.outcome in ERRORS:
        with pytest.raises(ERRORS[case.outcome]) as raised:
            world.ingest(BAD)
        assert_nothing_downstream(case, world, str(raised.value))
        world.contract = usual
        world.texts.clear()
        if case.outcome == "declaration error":
            world.data = {}
    else:
        assert_conserved(case, world, world.ingest(BAD))
    if case.check is not None:
        case.check(world)
    assert_goes_on(case, world)


def assert_nothing_downstream(case: Case, world: World, message: str) -> None:
    """Assert that nothing was published, and that the ledger says why, unless there was nothing to say yet."""
    assert BAD not in world.reader.state().published
    for word in case.words:
        assert word in message
    records = world.records("partition_refused", BAD)
    assert len(records) == (case.outcome == "refused")
    for record in records:
        personal = record.details.personal
        assert personal is not None
        assert record.details == PartitionRefused(stage=case.stage, reason=message, personal=personal)
    assert len(world.quarantined(BAD)) == case.bad


def assert_conserved(case: Case, world: World, record: SnapshotPublished) -> None:
    """Assert that every row is published or in quarantine, and the good ones are what was published."""
    quarantined = world.quarantined(BAD)
    if case.arrived is not None:
        assert record.rows + record.quarantined + record.erased == case.arrived
    assert len(quarantined) == record.quarantined == case.bad
    published = world.reader.snapshots.read(BAD, version=record.version)
    assert published.num_rows == record.rows
    if case.outcome == "quarantined":
        reasons = [reason for row in quarantined for reason in json.loads(row["reasons"])]
        for word in case.words:
            assert any(word in reason for reason in reasons), reasons
        good = good_rows(BAD)
        untouched = good.filter(pc.is_in(good["id"], published["id"].combine_chunks())).sort_by("id")
        assert published.select(good.column_names).sort_by("id").equals(untouched)
    else:
        assert case.bad == 0
        for word in case.words:
            assert any(word in warning for warning in record.warnings), record.warnings


def assert_goes_on(case: Case, world: World) -> None:
    """Assert that the next week is published whole, and the ledger's chain holds."""
    world.put(NEXT, after(case, world))
    record = world.ingest(NEXT)
    assert (record.rows, record.quarantined) == (ROWS, 0)
    state = world.reader.state()
    history = [] if case.fresh else HISTORY
    assert sorted(state.published) == sorted([*history, NEXT, *([BAD] if case.outcome not in ERRORS else [])])
    assert verify_chain(list(world.reader.ledger.records())) == state.sequence


def after(case: Case, world: World) -> Any:
    """Return the good rows of the next week, with the columns that a changed contract asks for."""
    rows = good_rows(NEXT)
    for name, declared in (world.contract or {"columns": {}})["columns"].items():
        if name not in rows.column_names and not declared.get("optional"):
            assert case.changed
            rows = rows.append_column(name, rows.column("x"))
    return rows
