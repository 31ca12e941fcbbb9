"""The verdict on a stage: shown no worse, shown worse, or not shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.evaluation.paired import PairedDifference, paired_difference
from airflow_mlops.core.rollout.verdict import judge_stage


def difference(low: float, high: float, *, rows: int = 1_000, champion: float = 10.0) -> PairedDifference:
    return PairedDifference((low + high) / 2, low, high, rows, champion)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-3, -1, "pass"), (-1, 0.4, "pass"), (-1, 0.5, "pass"), (0.1, 0.5, "pass"), (-1, 0.51, "inconclusive"),
        (0.5, 2, "inconclusive"), (0.51, 2, "fail"), (4, 9, "fail"), (-9, 9, "inconclusive"),
    ],
)  # fmt: skip
def test_the_whole_interval_must_lie_on_one_side_of_the_margin(low: float, high: float, verdict: str) -> None:
    found = judge_stage(difference(low, high), margin=0.05, min_rows=100)
    assert found.verdict == verdict
    assert found.difference is not None
    assert "1,000 rows" in found.reason


bounds = st.tuples(st.floats(-100, 100), st.floats(-100, 100)).map(sorted)


@given(bounds, st.floats(0, 0.5), st.integers(2, 500), st.integers(2, 500))
def test_too_few_rows_are_inconclusive_however_clear_they_seem(
    interval: list[float], margin: float, rows: int, min_rows: int
) -> None:
    found = judge_stage(difference(*interval, rows=rows), margin=margin, min_rows=min_rows)
    assert (found.verdict == "inconclusive") or rows >= min_rows
    if rows < min_rows:
        assert f"{min_rows:,} are needed to say" in found.reason


@given(bounds, st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_margin_never_turns_a_pass_into_anything_else(interval: list[float], one: float, other: float) -> None:
    order = ["fail", "inconclusive", "pass"]
    narrow, wide = (
        judge_stage(difference(*interval), margin=margin, min_rows=2).verdict for margin in sorted((one, other))
    )
    assert order.index(wide) >= order.index(narrow)


def test_an_equal_challenger_is_seldom_failed_and_a_much_worse_one_is_never_passed() -> None:
    source = np.random.default_rng(0)
    equal, worse = [], []
    for _ in range(300):
        champion = source.gamma(2, size=400)
        equal.append(
            judge_stage(paired_difference(champion + source.normal(0, 1, 400), champion), margin=0.0, min_rows=50)
        )
        worse.append(judge_stage(paired_difference(champion * 1.5, champion), margin=0.05, min_rows=50))
    # At a margin of nothing the two-sided 95 % interval fails an equal one in 2.5 % of looks.
    assert sum(each.verdict == "fail" for each in equal) <= 17
    assert {each.verdict for each in worse} == {"fail"}
