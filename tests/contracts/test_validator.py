"""What every validation engine promises: one result for each expectation, bad rows by position, faults told apart."""

from __future__ import annotations

import pyarrow as pa
import pytest

from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.port import Validator
from airflow_mlops.core.validation.suite import Expectation
from airflow_mlops.testing.in_memory import AcceptingValidator

ROWS = pa.table({"id": ["a", "b", "b", None], "x": [1.0, -5.0, None, 50.0]})


def expect(name: str, **kwargs: object) -> Expectation:
    return Expectation(type=f"expect_{name}", kwargs=kwargs)


NOT_NULL = expect("column_values_to_not_be_null", column="id")
UNIQUE = expect("column_values_to_be_unique", column="id")
BETWEEN = expect("column_values_to_be_between", column="x", min_value=0, max_value=10)
MEAN = expect("column_mean_to_be_between", column="x", min_value=100, max_value=200)


@pytest.fixture(params=["great expectations", "accepting"])
def validator(request: pytest.FixtureRequest) -> Validator:
    return GxValidator() if request.param == "great expectations" else AcceptingValidator()


@pytest.fixture
def engine() -> GxValidator:
    return GxValidator()


def test_there_is_one_result_for_each_expectation_in_order(validator: Validator) -> None:
    asked = [BETWEEN, NOT_NULL, MEAN, UNIQUE]
    assert [result.type for result in validator.check(ROWS, asked)] == [each.type for each in asked]
    assert validator.check(ROWS, []) == []


def test_good_rows_meet_every_expectation(validator: Validator) -> None:
    good = pa.table({"id": ["a", "b"], "x": [1.0, 2.0]})
    assert all(result.success and result.rows == () for result in validator.check(good, [NOT_NULL, UNIQUE, BETWEEN]))


def test_bad_rows_are_named_by_their_position(engine: GxValidator) -> None:
    found = engine.check(ROWS, [NOT_NULL, UNIQUE, BETWEEN])
    assert [set(result.rows) for result in found] == [{3}, {1, 2}, {1, 3}]
    assert [result.unexpected for result in found] == [1, 2, 2]
    assert all(result.by_row and not result.success for result in found)


def test_an_expectation_about_the_whole_names_no_row(engine: GxValidator) -> None:
    (found,) = engine.check(ROWS, [MEAN])
    assert (found.success, found.by_row, found.rows) == (False, False, ())
    assert found.observed.startswith("15.33")


def test_what_the_engine_cannot_evaluate_is_not_taken_for_bad_data(engine: GxValidator) -> None:
    with pytest.raises(PartitionRefusedError, match="could not be evaluated"):
        engine.check(ROWS, [expect("column_values_to_not_be_null", column="no_such_column")])
    with pytest.raises(PartitionRefusedError, match="expect_no_such_thing could not be evaluated"):
        engine.check(ROWS, [expect("no_such_thing", column="x")])
    with pytest.raises(PartitionRefusedError, match="could not be evaluated"):
        engine.check(ROWS, [expect("column_values_to_be_between", column="x", min_value=[1])])


def test_a_check_leaves_the_rows_as_they_were(engine: GxValidator) -> None:
    before = ROWS.to_pydict()
    engine.check(ROWS, [NOT_NULL])
    assert ROWS.to_pydict() == before
