"""Requests of rows whose key has several columns: errors, the split of a rollout, the log, keys as in batches."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from airflow_mlops.core.data.enforce_contract import Enforcement, Interval
from airflow_mlops.core.data.shape import shape_from_contract
from airflow_mlops.core.declaration.contract import Contract
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.gateway.row_errors import RowError
from airflow_mlops.gateway.row_shape import request_shape
from airflow_mlops.testing.gateway_process import TELL_TOKEN
from tests.contracts.gateway.toy_project import ToyProject

SECRET = "a secret of its own, long enough"
PARTS: dict[str, dict[str, Any]] = {
    "order_id": {"type": "int"},
    "shop": {"type": "text"},
    "at": {"type": "time"},
    "day": {"type": "date"},
    "price": {"type": "decimal(6, 2)"},
    "paid": {"type": "bool"},
    "person": {"type": "text", "privacy": "personal", "mask": True},
}
ROW: dict[str, Any] = {
    "order_id": 1017,
    "shop": "a+b",
    "at": datetime(2013, 1, 6, 8, 30, tzinfo=UTC),
    "day": date(2013, 1, 5),
    "price": Decimal("12.50"),
    "paid": True,
    "person": "erika",
    "x": 2.0,
}
CONTRACT = {
    "contract": "toy",
    "key": ["order_id", "line"],
    "time": "at",
    "columns": {
        "order_id": {"type": "int"},
        "line": {"type": "int"},
        "at": {"type": "time"},
        "x": {"type": "float"},
        "y": {"type": "float"},
    },
}


def declared(key: list[str]) -> tuple[Data, Contract]:
    """Return the data and the contract of rows with every type."""
    source = {"kind": "parquet", "uri": "in/{partition}.parquet"}
    data = Data.model_validate({"source": source, "key": key, "time": "at", "label": "y", "contract": "c.yaml"})
    columns = {**PARTS, "x": {"type": "float"}, "y": {"type": "float", "optional": True}}
    return data, Contract.model_validate({"contract": "toy", "key": key, "time": "at", "columns": columns})


@pytest.mark.parametrize("names", [["order_id", "shop"], list(PARTS)[::-1], ["paid", "at"], ["person", "order_id"]])
def test_the_key_of_a_request_is_the_key_of_the_row_in_a_snapshot(names: list[str]) -> None:
    data, contract = declared(names)
    shape = request_shape(data, contract, None, secret=SECRET)
    rows, _single = shape.decode_rows(json.dumps(ROW, default=str).encode())
    arriving = pa.Table.from_pylist([ROW]).combine_chunks().to_batches()[0]
    stored = Enforcement(
        shape_from_contract(contract, arriving.schema, typed=True),
        data,
        Interval(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 7, tzinfo=UTC)),
        SECRET,
    )
    batch, reasons = stored.read(arriving)
    assert not reasons
    assert shape.key_of(rows[0]) == batch.column(data.key)[0].as_py()
    frame = shape.to_frame(rows)
    assert frame[data.key].tolist() == [shape.key_of(rows[0])]
    assert "erika" not in frame.to_string()


def test_without_a_contract_the_recorded_columns_give_the_parts() -> None:
    data, _contract = declared(["order_id", "shop"])
    recorded = {"order_id": "int64", "shop": "string", "x": "double", "at": "timestamp[us]", "order_id+shop": "string"}
    shape = request_shape(data.model_copy(update={"contract": None}), None, recorded)
    rows, _single = shape.decode_rows(b'[{"order_id": 7, "shop": "b", "x": 1.0}]')
    assert shape.key_of(rows[0]) == "7+b"
    with pytest.raises(RowError) as raised:
        shape.decode_rows(b'{"order_id": 7, "x": 1.0}')
    assert (raised.value.field, raised.value.reason) == ("shop", "is missing")


def test_requests_split_and_are_logged_by_the_whole_key(tmp_path: Path) -> None:
    project = ToyProject(tmp_path, contract=yaml.safe_dump(CONTRACT), data={"key": ["order_id", "line"]})
    try:
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        for number in (1, 2):
            target.prepare(project.version(number))
        target.apply(Traffic(1, "1", "2", "canary", 30.0, "s"))
        rows = [{"order_id": 1000 + at // 3, "line": at % 3, "x": 1.0} for at in range(150)]
        keys = [f"{row['order_id']:.0f}+{row['line']:.0f}" for row in rows]
        by_challenger = sticky_share(keys, salt="s", percent=30.0).tolist()
        assert gateway.predict(rows)["versions"] == ["2" if challenger else "1" for challenger in by_challenger]
        with gateway.client() as client:
            for wrong, reason in (
                ({"order_id": 7, "x": 1.0}, "is missing"),
                ({"order_id": 7, "line": None, "x": 1.0}, "is null, and must have a value"),
            ):
                answer = client.post("/predict", json=wrong)
                assert (answer.status_code, answer.json()["field"], answer.json()["reason"]) == (422, "line", reason)
            answer = client.post("/predict", json={"order_id": 7, "line": 1, "order_id+line": "7+1", "x": 1.0})
            assert (answer.status_code, answer.json()["field"]) == (422, "order_id+line")
        gateway.stop()
        assert [line["key"] for line in gateway.lines()] == keys
    finally:
        project.close()
