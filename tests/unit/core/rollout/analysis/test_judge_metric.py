"""A look has the boundaries of its alpha; the reason and the numbers of a metric can always be recorded."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm
from scipy.stats import t as student

from airflow_mlops.core.rollout.analysis.evidence import (
    counts_above,
    counts_below,
    log_choose,
    z_of,
    z_of_t,
    z_without_spread,
)
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook, Verdict, combine_results


def test_alpha_is_shared_by_what_can_fail_a_stage_and_not_by_what_has_to_pass() -> None:
    alone, four = (Look(1, (1.0,), 1, alpha=0.05, metrics=metrics) for metrics in (1, 4))
    assert alone.fail_boundary == pytest.approx(norm.isf(0.05), abs=1e-6)
    assert four.fail_boundary == pytest.approx(norm.isf(0.0125), abs=1e-6)
    assert four.pass_boundary == pytest.approx(alone.pass_boundary)
    assert alone.split(4).fail_boundary == pytest.approx(four.fail_boundary)


def test_each_planned_look_asks_for_less_than_the_one_before() -> None:
    looks = [Look(number, tuple(k / 10 for k in range(1, number + 1)), 10) for number in range(1, 11)]
    fail_boundaries = [look.fail_boundary for look in looks]
    assert fail_boundaries == sorted(fail_boundaries, reverse=True)
    assert [look.is_last for look in looks] == [False] * 9 + [True]


def test_the_last_planned_look_spends_what_is_left_if_the_sample_did_not_come_in() -> None:
    early = Look(2, (0.1, 0.3), 5)
    last = Look(2, (0.1, 0.3), 2)
    assert last.fail_boundary == pytest.approx(norm.isf(0.05), abs=0.01)
    assert early.fail_boundary > last.fail_boundary + 1


def test_a_look_at_more_than_was_planned_is_the_last() -> None:
    assert Look(2, (0.5, 1.4), 10).is_last


@pytest.mark.parametrize(
    ("number", "shares", "planned", "metrics"),
    [(0, (), 5, 1), (2, (0.2,), 5, 1), (6, (0.1,) * 6, 5, 1), (1, (0.2,), 5, 0)],
)
def test_a_look_that_was_not_planned_is_refused(
    number: int, shares: tuple[float, ...], planned: int, metrics: int
) -> None:
    with pytest.raises(ValueError, match="look"):
        Look(number, shares, planned, metrics=metrics)


def test_no_number_that_the_ledger_could_not_read_gets_into_a_result() -> None:
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="errors: share must be finite"):
            MetricLook("errors", "pass", "fine", {"share": number})
    result = MetricLook("errors", "pass", "fine", {"share": 0.5})
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == {
        "metric": "errors",
        "verdict": "pass",
        "reason": "fine",
        "numbers": {"share": 0.5},
    }


def test_several_pass_only_if_each_does_and_fail_if_any_does() -> None:
    verdicts: tuple[Verdict, ...] = ("pass", "fail", "inconclusive")
    for three in product(verdicts, repeat=3):
        combined = combine_results(
            "all", [MetricLook(str(place), verdict, f"{place} {verdict}") for place, verdict in enumerate(three)]
        )
        expected = "fail" if "fail" in three else "inconclusive" if "inconclusive" in three else "pass"
        assert combined.verdict == expected
        assert combined.reason.split()[1].startswith(expected)
    assert combine_results("all", []).verdict == "inconclusive"


@given(st.integers(0, 400), st.integers(1, 400), st.floats(1e-4, 0.999))
def test_exact_evidence_is_that_of_the_binomial_distribution(hits: int, of: int, share: float) -> None:
    hits = min(hits, of)
    above, below = counts_above(hits, of, share), counts_below(hits, of, share)
    for evidence, tail in ((above, binom.sf(hits - 1, of, share)), (below, binom.cdf(hits, of, share))):
        assert math.isfinite(evidence)
        if 1e-200 < tail < 1 - 1e-9:
            assert evidence == pytest.approx(norm.isf(tail), abs=1e-6)


@given(st.floats(-50, 50), st.floats(0.1, 1e6))
def test_students_t_is_as_improbable_as_the_normal_value_it_becomes(t: float, degrees: float) -> None:
    z = z_of_t(t, degrees)
    assert abs(z) <= abs(t) + 1e-6
    assert norm.sf(z) == pytest.approx(student.sf(t, degrees), rel=1e-6)


def test_values_that_do_not_vary_say_as_much_as_their_arrangements() -> None:
    # Three units of one version above three of the other: one of twenty arrangements.
    assert z_without_spread(1.0, log_choose(6, 3)) == pytest.approx(norm.isf(1 / 20))
    assert z_without_spread(-1.0, log_choose(6, 3)) == pytest.approx(-norm.isf(1 / 20))
    assert z_without_spread(0.0, log_choose(6, 3)) == 0
    assert z_without_spread(1.0, 0.0) == 0
    assert np.isfinite(z_without_spread(1.0, log_choose(1e6, 5e5)))
    assert np.isfinite(z_of(0.0))
