"""A stage that a partition's size cannot decide is named before it starts, with what would do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.declaration.rollout import Rollout
from airflow_mlops.core.rollout.plan_of_rollout import describe_wait, waits_of_rollout


def rollout(percent: int, *, min_rows: int, max_wait: int | None = None) -> Rollout:
    """Return a rollout whose first stage is a canary of some percent."""
    canary = {"canary": percent} if max_wait is None else {"canary": percent, "max_wait": max_wait}
    return Rollout(stages=[canary, {"live": 100}], min_rows=min_rows)


@pytest.mark.parametrize(
    ("declared", "rows", "sentence"),
    [
        (
            rollout(10, min_rows=100),
            720,
            "canary_10: 72 of the 720 rows of a partition are in its share, so min_rows (100) takes 2 partitions; "
            "a share of 14 % or min_rows: 72 would take one",
        ),
        (
            rollout(10, min_rows=100, max_wait=1),
            720,
            "canary_10: 72 of the 720 rows of a partition are in its share, so min_rows (100) takes 2 partitions, and "
            "max_wait (1) takes it back before that; a share of 14 % or min_rows: 72 would take one",
        ),
        (
            rollout(50, min_rows=100),
            60,
            "canary_50: 30 of the 60 rows of a partition are in its share, so min_rows (100) takes 4 partitions; "
            "min_rows: 30 would take one",
        ),
        (
            rollout(1, min_rows=100),
            60,
            "canary_1: no row of the 60 of a partition is in its share, so it never passes; raise the share",
        ),
        (rollout(10, min_rows=72), 720, None),
    ],
)
def test_a_stage_with_too_few_rows_in_a_partition_says_what_would_do(
    declared: Rollout, rows: int, sentence: str | None
) -> None:
    assert describe_wait(declared, declared.stages[0], rows) == sentence


@given(percent=st.integers(1, 99), min_rows=st.integers(2, 5_000), rows=st.integers(1, 100_000))
def test_what_it_says_would_do_does(percent: int, min_rows: int, rows: int) -> None:
    declared = rollout(percent, min_rows=min_rows)
    sentence = describe_wait(declared, declared.stages[0], rows)
    assert (sentence is None) == (rows * percent // 100 >= min_rows)
    if sentence is not None and "a share of" in sentence:
        better = int(sentence.partition("a share of ")[2].partition(" %")[0])
        assert rows * better // 100 >= min_rows


def test_stages_that_compare_nothing_wait_for_no_rows() -> None:
    on_batch = Rollout(stages=[{"canary": 10}, {"live": 100}])
    assert [sentence.partition(":")[0] for sentence in waits_of_rollout(on_batch, 720)] == ["canary_10"]
    assert waits_of_rollout(on_batch, 1_000) == []
