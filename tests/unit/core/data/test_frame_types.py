"""The types of a frame follow from the contract, whatever the rows at hand hold."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.data.frame_types import as_floats, as_objects, frame_of, never_null, values_of
from airflow_mlops.core.declaration.contract import Column, Contract
from airflow_mlops.core.evaluation.metrics_by_slice import Slices

COLUMNS: dict[str, tuple[str, Any]] = {
    "words": ("text", st.text(max_size=3)),
    "whole": ("int", st.integers(-(2**63), 2**63 - 1)),
    "number": ("float", st.floats(allow_nan=False)),
    "truth": ("bool", st.booleans()),
    "day": ("date", st.dates()),
    "moment": ("time", st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))),  # noqa: DTZ001
    "money": ("decimal(10, 2)", st.decimals(-1000, 1000, places=2)),
}
CONTRACT = Contract(
    contract="types",
    key="id",
    time="at",
    columns={
        "id": Column(type="int"),
        "at": Column(type="time"),
        **{name: Column(type=kind) for name, (kind, _) in COLUMNS.items()},
        **{f"every_{name}": Column(type=kind, nullable=False) for name, (kind, _) in COLUMNS.items()},
    },
)
ROW = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**63), 2**63 - 1),
        "at": st.just(datetime(2013, 1, 6, tzinfo=UTC)),
        **{name: st.none() | values for name, (_, values) in COLUMNS.items()},
        **{f"every_{name}": values for name, (_, values) in COLUMNS.items()},
    }
)
EXPECTED = {
    "whole": "Int64",
    "every_whole": "int64",
    "truth": "boolean",
    "every_truth": "bool",
    "id": "int64",
    "number": "float64",
    "every_number": "float64",
    "moment": "datetime64[us, UTC]",
    "money": "object",
    "day": "object",
}


def frame(rows: list[dict[str, Any]], contract: Contract | None = CONTRACT) -> pd.DataFrame:
    return frame_of(pa.Table.from_pylist(rows, CONTRACT.schema), never_null(contract, "id"))


@given(st.lists(ROW, min_size=1, max_size=5), st.data())
def test_no_row_changes_a_type_or_a_value_of_another(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    together = frame(rows)
    number = data.draw(st.integers(0, len(rows) - 1))
    alone = frame([rows[number]])
    pd.testing.assert_frame_equal(together.iloc[[number]].reset_index(drop=True), alone, check_exact=True)
    assert {name: str(kind) for name, kind in together.dtypes.items() if name in EXPECTED} == EXPECTED
    assert frame([]).dtypes.equals(together.dtypes)


@given(ROW)
def test_values_arrive_as_they_are_stored(row: dict[str, Any]) -> None:
    made = frame([row]).iloc[0]
    for name in ("whole", "truth", "words", "day", "money"):
        assert (made[name] == row[name]) if row[name] is not None else pd.isna(made[name])


def test_without_a_contract_every_column_but_the_key_may_be_null() -> None:
    rows = [{"id": 2**62 + 1, "whole": 1, "every_whole": 1, "truth": True, "every_truth": False}]
    types = frame(rows, None).dtypes.astype(str)
    assert types[["id", "whole", "every_whole", "truth", "every_truth"]].tolist() == [
        *("int64", "Int64", "Int64", "boolean", "boolean")
    ]


def test_an_optional_column_may_be_null_even_if_its_values_may_not() -> None:
    columns = {**CONTRACT.columns, "every_whole": Column(type="int", nullable=False, optional=True)}
    assert "every_whole" not in never_null(CONTRACT.model_copy(update={"columns": columns}))


def test_a_frame_without_columns_keeps_its_rows() -> None:
    assert len(frame_of(pa.table({"a": [1, 2, 3]}).select([]))) == 3


def test_objects_are_exact_and_floats_have_nan() -> None:
    made = frame(
        [{"id": 1, "whole": 2**60 + 1, "truth": True}, {"id": 2, "day": date(2013, 1, 6), "money": Decimal(1)}]
    )
    exact, floats = as_objects(made), as_floats(made)
    assert exact["whole"].tolist()[0] == 2**60 + 1
    assert exact["truth"].tolist()[0] is True
    assert exact["whole"].isna().tolist() == floats["whole"].isna().tolist() == [False, True]
    assert floats.dtypes[["whole", "truth"]].astype(str).tolist() == ["float64", "float64"]
    assert made["whole"].dtype == "Int64"


@pytest.mark.parametrize("missing", [False, True])
def test_a_slice_has_one_name_whether_a_value_is_missing_or_not(missing: bool) -> None:
    rows = [{"id": 1, "whole": 104}, {"id": 2, "whole": None if missing else 105}, {"id": 3, "truth": True}]
    assert Slices.from_column(values_of(frame(rows)["whole"])).names[-1] == ("104" if missing else "105")
    assert "104" in Slices.from_column(values_of(frame(rows)["whole"])).names
    assert Slices.from_column(values_of(frame(rows)["truth"])).names == ("(missing)", "True")
