"""The verdict on a stage from those of its metrics: one failure fails it, and only all together pass it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook, Verdict
from airflow_mlops.core.rollout.analysis.judge_values import judge_paired
from airflow_mlops.core.rollout.verdict import insufficient_data, stage_verdict

VERDICTS: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")
FIRST = Look(1, (0.2,), 5)
LAST = Look(5, (0.2, 0.4, 0.6, 0.8, 1.0), 5)


def results_of(*verdicts: Verdict) -> list[MetricLook]:
    return [MetricLook(f"metric {index}", verdict, f"{verdict} {index}") for index, verdict in enumerate(verdicts)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_stage_passes_only_if_every_metric_does_and_fails_if_any_does(count: int) -> None:
    for verdicts in product(VERDICTS, repeat=count):
        judged = stage_verdict(results_of(*verdicts), FIRST, rows=100)
        expected = "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"
        assert judged.verdict == expected, verdicts
        assert [each["verdict"] for each in judged.metrics] == list(verdicts)
        # The reason is about those metrics that made it so.
        for index, verdict in enumerate(verdicts):
            assert (f"{verdict} {index}" in judged.reason) == (verdict == expected), judged.reason


def test_what_is_undecided_after_the_last_planned_look_has_failed_and_says_so() -> None:
    assert stage_verdict(results_of("pass", "inconclusive"), FIRST, rows=100).verdict == "inconclusive"
    verdict = stage_verdict(results_of("pass", "inconclusive"), LAST, rows=500)
    assert (verdict.verdict, verdict.reason) == ("fail", "undecided at the last look, 5 of 5: inconclusive 1")
    assert stage_verdict(results_of("pass", "pass"), LAST, rows=500).verdict == "pass"


def test_a_pass_waits_for_the_stage_to_have_baked_and_a_failure_does_not() -> None:
    verdict = stage_verdict(results_of("pass"), FIRST, rows=100, remaining_bake="bakes for 5 more minutes")
    assert (verdict.verdict, verdict.reason) == ("inconclusive", "pass 0; bakes for 5 more minutes")
    assert (
        stage_verdict(results_of("fail"), FIRST, rows=100, remaining_bake="bakes for 5 more minutes").verdict == "fail"
    )


def test_too_little_to_look_at_is_no_look() -> None:
    verdict = insufficient_data("3 rows", 3)
    assert (verdict.verdict, verdict.look, verdict.metrics) == ("inconclusive", 0, ())


@given(st.integers(0, 2**32), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.5, 2))
def test_a_wider_margin_never_turns_a_pass_into_anything_else(
    seed: int, first_margin: float, second_margin: float, factor: float
) -> None:
    source = np.random.default_rng(seed)
    champion = source.gamma(2, size=200)
    challenger = champion * factor + source.normal(0, 0.5, 200)
    order = ["fail", "inconclusive", "pass"]
    narrow, wide = (
        judge_paired(challenger, champion, FIRST, margin=margin).verdict
        for margin in sorted((first_margin, second_margin))
    )
    assert order.index(wide) >= order.index(narrow)


def test_an_equal_challenger_is_seldom_failed_and_a_much_worse_one_is_never_passed() -> None:
    source = np.random.default_rng(0)
    alone = Look(1, (1.0,), 1, alpha=0.05)
    equal, worse = [], []
    for _ in range(300):
        champion = source.gamma(2, size=400)
        equal.append(judge_paired(champion + source.normal(0, 1, 400), champion, alone, margin=0.0).verdict)
        worse.append(judge_paired(champion * 1.5, champion, alone, margin=0.05).verdict)
    # Exactly at its margin one in twenty is failed, and one in twenty passed.
    assert 5 <= equal.count("fail") <= 27
    assert 5 <= equal.count("pass") <= 27
    assert set(worse) == {"fail"}
