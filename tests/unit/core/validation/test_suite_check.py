"""A suite is checked against Great Expectations before any data is there, by file, line and expectation."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.validation.gx_validator import check_suite_file

HOUSE = Path(__file__).parents[4]
GOOD = "  - {type: expect_column_values_to_not_be_null, kwargs: {column: id}}\n"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            "{type: expect_column_values_to_be_beetween, kwargs: {column: x, min_value: 1}}",
            ["expectations[1].type", "did you mean 'expect_column_values_to_be_between'?"],
        ),
        ("{type: expect_zzz, kwargs: {column: x}}", ["expect_zzz is no expectation of Great Expectations"]),
        (
            "{type: expect_column_values_to_be_between, kwargs: {colum: x, min_value: 1}}",
            ["expectations[1].kwargs", "expect_column_values_to_be_between", "colum extra fields not permitted"],
        ),
        ("{type: expect_column_values_to_be_between, kwargs: {column: x}}", ["cannot both be None"]),
    ],
)
def test_a_wrong_expectation_is_named_with_its_file_and_line(tmp_path: Path, wrong: str, words: list[str]) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(f"expectations:\n{GOOD}  - {wrong}\n")
    with pytest.raises(DeclarationError) as refused:
        check_suite_file(file)
    for word in [f"{file}:3: ", *words]:
        assert word in str(refused.value)


def test_the_suite_of_the_flights_is_one_that_great_expectations_knows() -> None:
    assert check_suite_file(HOUSE / "include" / "expectations" / "flights.yaml") == 15
