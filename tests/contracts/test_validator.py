"""The contract of every validation engine: one result for each expectation, bad rows by position, faults told apart."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.suite import Expectation, Validator, columns_read
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
    expectations = [BETWEEN, NOT_NULL, MEAN, UNIQUE]
    assert [result.type for result in validator.check(ROWS, expectations)] == [
        expectation.type for expectation in expectations
    ]
    assert validator.check(ROWS, []) == []


def test_good_rows_meet_every_expectation(validator: Validator) -> None:
    good = pa.table({"id": ["a", "b"], "x": [1.0, 2.0]})
    assert all(result.success and result.rows == () for result in validator.check(good, [NOT_NULL, UNIQUE, BETWEEN]))


def test_bad_rows_are_named_by_their_position(engine: GxValidator) -> None:
    results = engine.check(ROWS, [NOT_NULL, UNIQUE, BETWEEN])
    assert [set(result.rows) for result in results] == [{3}, {1, 2}, {1, 3}]
    assert [result.unexpected for result in results] == [1, 2, 2]
    assert all(result.by_row and not result.success for result in results)


def test_an_expectation_about_the_whole_names_no_row(engine: GxValidator) -> None:
    (results,) = engine.check(ROWS, [MEAN])
    assert (results.success, results.by_row, results.rows) == (False, False, ())
    assert results.observed.startswith("15.33")


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


def test_every_one_of_ten_thousand_bad_rows_is_named_by_every_kind_of_expectation(engine: GxValidator) -> None:
    count, bad = 30_000, 10_000
    places = list(range(7, 7 + bad))
    a = [float(number) for number in range(count)]
    b = [value - 1 if 7 <= number < 7 + bad else value for number, value in enumerate(a)]
    half = [7 + (number - 7) % (bad // 2) if 7 <= number < 7 + bad else number for number in range(count)]
    text = [None if 7 <= number < 7 + bad else "x" for number in range(count)]
    rows = pa.table({"a": a, "b": b, "half": half, "text": text, "one": [1] * count})
    expectations = [
        expect("column_values_to_be_between", column="b", min_value=7, max_value=count),
        expect("column_values_to_not_be_null", column="text"),
        expect("column_values_to_be_unique", column="half"),
        expect("column_pair_values_to_be_equal", column_A="a", column_B="b"),
        expect("column_pair_values_a_to_be_greater_than_b", column_A="b", column_B="a", or_equal=True),
        expect("compound_columns_to_be_unique", column_list=["half", "one"]),
    ]
    between, *others = engine.check(rows, expectations)
    assert between.rows == tuple(range(8))
    for result in others:
        assert (result.type, sorted(result.rows), result.unexpected) == (result.type, places, bad)
        assert result.by_row


def test_what_several_columns_must_meet_is_told_of_all_of_them(engine: GxValidator) -> None:
    rows = pa.table({"a": [1, 2], "b": [1, 3]})
    (results,) = engine.check(rows, [expect("column_pair_values_to_be_equal", column_A="a", column_B="b")])
    assert results.reason == "a, b: expect_column_pair_values_to_be_equal"


def test_the_same_expectation_may_stand_twice_with_two_severities(engine: GxValidator) -> None:
    twice = [BETWEEN, BETWEEN.model_copy(update={"severity": "info"})]
    results = engine.check(ROWS, twice)
    assert [(result.severity, set(result.rows)) for result in results] == [("critical", {1, 3}), ("info", {1, 3})]


def test_every_fault_of_the_engine_is_named_and_failed_data_beside_it_is_not(engine: GxValidator) -> None:
    absent = [expect("column_values_to_not_be_null", column=name) for name in ("first", "second")]
    with pytest.raises(PartitionRefusedError) as refused:
        engine.check(ROWS, [BETWEEN, *absent])
    assert "on first" in str(refused.value)
    assert "on second" in str(refused.value)
    assert "on x" not in str(refused.value)


def test_an_expectation_of_the_table_sees_columns_that_no_other_one_mentions(engine: GxValidator) -> None:
    columns = expect("table_columns_to_match_set", column_set=["id", "x"])
    exists = expect("column_to_exist", column="x")
    count = expect("table_row_count_to_equal", value=4)
    assert [result.success for result in engine.check(ROWS, [NOT_NULL, columns])] == [False, True]
    assert [result.success for result in engine.check(ROWS, [exists, columns])] == [True, True]
    assert [result.success for result in engine.check(ROWS, [count])] == [True]
    (wrong,) = engine.check(ROWS, [expect("table_row_count_to_equal", value=5)])
    assert (wrong.success, wrong.by_row, wrong.observed, wrong.declared) == (False, False, "4", "value 5")


def test_only_the_columns_that_are_mentioned_are_read() -> None:
    pair = expect("column_pair_values_to_be_equal", column_A="x", column_B="y")
    several = expect("compound_columns_to_be_unique", column_list=["z", "id"])
    assert columns_read([NOT_NULL, BETWEEN, pair, several]) == ["id", "x", "y", "z"]
    assert columns_read([expect("table_row_count_to_equal", value=4), NOT_NULL]) == ["id"]
    assert columns_read([]) == []
    for result in (
        expect("table_column_count_to_equal", value=2),
        expect("column_to_exist", column="x"),
        expect("column_values_to_not_be_null", column="x", row_condition="y > 1", condition_parser="pandas"),
    ):
        assert columns_read([NOT_NULL, result]) is None


WHOLE = pa.table(
    {
        "id": pa.array([*(2**60 + number for number in range(8)), None, 2**60], pa.int64()),
        "few": pa.array([1, 2, None, 1, 2, None, 1, 2, 1, 2], pa.int64()),
        "many": pa.array([2, 2, 2, 2, 2, 2, None, 2, 0, 9], pa.int64()),
        "truth": pa.array([True, None] * 5, pa.bool_()),
    }
)


def test_whole_numbers_of_64_bits_are_told_apart_although_one_is_null(engine: GxValidator) -> None:
    (unique,) = engine.check(WHOLE, [expect("column_values_to_be_unique", column="id")])
    assert unique.rows == (0, 9)


@pytest.mark.parametrize(
    ("name", "kwargs", "rows"),
    [
        ("column_pair_values_a_to_be_greater_than_b", {"column_A": "many", "column_B": "few"}, {1, 4, 7, 2, 5, 6, 8}),
        ("compound_columns_to_be_unique", {"column_list": ["id", "truth"]}, set()),
        ("column_values_to_match_regex", {"column": "few", "regex": "^1$"}, {1, 4, 7, 9}),
    ],
)
def test_null_whole_numbers_can_be_compared(engine: GxValidator, name: str, kwargs: dict, rows: set[int]) -> None:
    (result,) = engine.check(WHOLE, [expect(name, **kwargs)])
    assert set(result.rows) == rows


def test_each_result_stands_at_its_expectation_however_they_are_evaluated(engine: GxValidator) -> None:
    pair = expect("column_pair_values_to_be_equal", column_A="few", column_B="many")
    kind = expect("column_values_to_be_in_type_list", column="few", type_list=["int64"])
    one = expect("column_values_to_be_of_type", column="few", type_="int64")
    mean = expect("column_mean_to_be_between", column="few", min_value=0, max_value=2)
    wanted = [pair, mean, kind, pair, one, mean]
    results = engine.check(WHOLE, wanted)
    assert [result.type for result in results] == [expectation.type for expectation in wanted]
    assert [result.success for result in results] == [False, True, True, False, True, True]


TYPED = pa.table(
    {
        "at": pa.array(["2025-11-01T00:00Z", "2025-12-01T00:00Z", None]).cast(pa.timestamp("us", tz="UTC")),
        "clock": pa.array(["2025-11-01", "2025-12-01", None]).cast(pa.timestamp("us")),
        "day": pa.array([date(2025, 11, 1), date(2025, 12, 1), None], pa.date32()),
        "price": pa.array([Decimal("1.25"), Decimal("10.00"), None], pa.decimal128(9, 2)),
        "n": pa.array([1, 10, None], pa.int64()),
    }
)


@pytest.mark.parametrize(
    ("column", "limit"),
    [
        ("at", "2025-12-01"),
        ("at", "2025-12-01T01:00:00+01:00"),
        ("at", "2025-12-01 00:00:00"),
        ("clock", "2025-12-01"),
        ("day", "2025-12-01"),
        ("price", 10),
        ("price", "10.00"),
        ("n", "10"),
    ],
)
def test_a_limit_has_the_type_of_its_column(engine: GxValidator, column: str, limit: object) -> None:
    between = expect("column_values_to_be_between", column=column, min_value=limit)
    in_set = expect("column_values_to_be_in_set", column=column, value_set=[limit])
    results = engine.check(TYPED, [between, in_set])
    assert [set(result.rows) for result in results] == [{0}, {0}]


@pytest.mark.parametrize(
    ("name", "kwargs", "success"),
    [
        ("column_mean_to_be_between", {"min_value": 5.6, "max_value": 5.7}, True),
        ("column_mean_to_be_between", {"min_value": "6", "max_value": "7"}, False),
        ("column_sum_to_be_between", {"min_value": 11.25, "max_value": 11.25}, True),
        ("column_max_to_be_between", {"max_value": 9.99}, False),
        ("column_median_to_be_between", {"min_value": 5, "max_value": 6}, True),
    ],
)
def test_decimals_with_a_null_have_a_mean_and_a_sum(
    engine: GxValidator, name: str, kwargs: dict[str, object], success: bool
) -> None:
    (result,) = engine.check(TYPED, [expect(name, column="price", **kwargs)])
    assert result.success is success


def test_decimals_of_nothing_but_nulls_are_evaluated_like_floats(engine: GxValidator) -> None:
    nothing = pa.table({"price": pa.nulls(3, pa.decimal128(9, 2)), "x": pa.nulls(3, pa.float64())})
    means = [expect("column_mean_to_be_between", column=name, min_value=1) for name in ("price", "x")]
    price, x = engine.check(nothing, means)
    assert price.success == x.success


@pytest.mark.parametrize(("column", "limit"), [("at", "soon"), ("at", 5), ("day", "1.12.2025"), ("price", "cheap")])
def test_a_limit_that_is_no_value_of_the_column_is_no_bad_data(engine: GxValidator, column: str, limit: object) -> None:
    with pytest.raises(PartitionRefusedError, match=rf"on {column}: min_value is .*, and the column holds"):
        engine.check(TYPED, [expect("column_values_to_be_between", column=column, min_value=limit)])
