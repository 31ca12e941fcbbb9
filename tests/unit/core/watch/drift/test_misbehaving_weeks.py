"""Weeks that misbehave by themselves: no more alarms than stated, and otherwise insufficient data with the reason."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from airflow_mlops.core.watch.drift.column_drift import measure_column
from airflow_mlops.core.watch.drift.drift_verdict import DriftVerdict, judge_columns
from airflow_mlops.core.watch.drift.drift_words import describe_doubt, describe_usual_distance
from airflow_mlops.core.watch.drift.heavy_tails import HeavyWindows
from airflow_mlops.core.watch.drift.judge_window import WindowJudgement
from airflow_mlops.core.watch.drift.reference_spread import RestlessWindows
from airflow_mlops.core.watch.drift.window_effects import (
    HEAVIEST,
    are_known,
    careful_tails,
    independent_columns,
    order_p_value,
    squared_distances,
    tail_of,
)
from benchmarks.drift_weeks import SIZE, UNORDERED, Weeks, common, heavy, normal, season, trend

ROWS = 2_000
EDGES = np.linspace(-1.5, 1.5, 10)
Counts = npt.NDArray[np.int64]


def week(source: np.random.Generator, mean: float, rows: int = ROWS) -> Counts:
    """Return the counts of normal rows about a mean, in eleven bins and the two odd ones."""
    shares = np.diff(np.concatenate([[0.0], ndtr(EDGES - mean), [1.0]]))
    return source.multinomial(rows, np.append(shares, [0.0, 0.0]))


def weeks(source: np.random.Generator, means: npt.ArrayLike) -> Counts:
    return np.array([week(source, mean) for mean in np.asarray(means)])


def judge(process: Weeks, source: np.random.Generator, *, min_effect: float = 0.0) -> DriftVerdict:
    past, now = process.draw(source, rows=ROWS)
    return judge_columns(past, now, alarm_rate=0.05, min_effect=min_effect, unordered=UNORDERED)


@pytest.mark.parametrize(
    "process",
    [
        Weeks("tails_t2", heavy(2)),
        Weeks("tails_t3_26_weeks", heavy(3), 26),
        Weeks("common_factor_t3", common(3)),
        Weeks("few_5_t3", heavy(3), 5),
        Weeks("few_1", normal(), 1),
    ],
    ids=lambda process: process.name,
)
def test_weeks_with_far_ones_among_them_do_not_alarm_more_often_than_stated(process: Weeks) -> None:
    # Judged as normal weeks, those with two degrees of freedom gave 0.38 alarms at a stated 0.05; one week, 0.99.
    repeats, source = 40, np.random.default_rng(21)
    alarms = sum(judge(process, source).verdict == "alarm" for _ in range(repeats))
    assert alarms <= binom.ppf(0.999, repeats, 1.5 * 0.05)


@pytest.mark.parametrize(
    ("process", "doubt"),
    [
        (Weeks("trend", trend), "order"),
        (Weeks("season_4_weeks", season(4)), "order"),
        (Weeks("common_factor", common()), "tails"),
        (Weeks("few_3", normal(), 3), "few"),
        (Weeks("few_1", normal(), 1), "one"),
    ],
    ids=lambda case: getattr(case, "name", str(case)),
)
def test_weeks_that_cannot_say_what_is_new_are_insufficient_data_and_say_why(process: Weeks, doubt: str) -> None:
    source, verdicts, doubts = np.random.default_rng(22), Counter[str](), Counter[str]()
    for _ in range(8):
        verdict = judge(process, source)
        verdicts[verdict.verdict] += 1
        doubts.update(column.doubt for column in verdict.columns)
        assert bool(describe_doubt(verdict.columns)) == any(column.doubt for column in verdict.columns)
    assert verdicts["no alarm"] <= 1
    assert doubts.most_common(1)[0][0] == doubt


@pytest.mark.parametrize("degrees", [2.0, 3.0])
def test_the_chance_of_a_further_window_is_right_for_the_tails_it_is_computed_for(degrees: float) -> None:
    source, repeats, rate = np.random.default_rng(23), 300, 0.05
    below = {degrees: 0, 30.0: 0}
    for _ in range(repeats):
        counts = weeks(source, 0.3 * source.standard_t(degrees, 9))
        shift = measure_column("x", counts[:8], counts[8])
        for assumed in below:
            windows = HeavyWindows([shift.spread], [shift.rows], [shift.freedom], ((assumed, 1.0),))
            below[assumed] += windows.p_values([shift.statistic])[0] <= rate
    assert binom.ppf(0.001, repeats, 0.5 * rate) <= below[degrees] <= binom.ppf(0.999, repeats, 1.5 * rate)
    assert below[degrees] <= below[30.0]


def test_a_limit_is_the_statistic_whose_chance_is_the_rate() -> None:
    source = np.random.default_rng(24)
    counts = weeks(source, 0.3 * source.standard_t(3, 9))
    shift = measure_column("x", counts[:8], counts[8])
    windows = HeavyWindows([shift.spread], [shift.rows], [shift.freedom], ((3.0, 1.0),))
    (limit,) = windows.limits(0.01)
    assert windows.p_values([limit])[0] == pytest.approx(0.01, rel=0.5)
    assert windows.p_values([2 * limit])[0] < windows.p_values([limit])[0] < windows.p_values([limit / 2])[0]


def test_tails_are_told_by_many_independent_columns_and_not_by_one_or_by_copies() -> None:
    source = np.random.default_rng(25)
    light, far = source.normal(size=(20, 26)), source.standard_t(2, (20, 26))
    of_light, of_far = tail_of(list(light)), tail_of(list(far))
    assert are_known(of_light)
    assert min(degrees for degrees, _ in of_light) >= 4.0
    assert are_known(of_far)
    assert max(of_far, key=lambda pair: pair[1])[0] in (2.0, 3.0)
    for few in ([light[0, :8]], list(np.outer(source.uniform(0.5, 1.5, 20), light[0, :8]))):
        unknown = tail_of(few)
        assert sum(weight for _, weight in unknown) == pytest.approx(1.0)
        assert not are_known(unknown)
        assert careful_tails(unknown) == HEAVIEST


def test_tails_that_twenty_columns_of_normal_weeks_rule_out_are_not_assumed() -> None:
    source = np.random.default_rng(31)
    for _ in range(20):
        assert careful_tails(tail_of(list(source.normal(size=(20, 8))))) != HEAVIEST


def test_tails_without_a_bound_on_their_degrees_are_those_of_normal_weeks() -> None:
    source = np.random.default_rng(32)
    counts = weeks(source, 0.3 * source.normal(size=9))
    shift = measure_column("x", counts[:8], counts[8])
    model = ([shift.spread], [shift.rows], [shift.freedom])
    normal_weeks, students = RestlessWindows(*model), HeavyWindows(*model, ((np.inf, 1.0),))
    for statistic in (20.0, 200.0, 2_000.0):
        assert students.p_values([statistic]) == pytest.approx(normal_weeks.p_values([statistic]), rel=0.15)


def test_a_shift_of_ten_times_what_normal_weeks_do_is_found_in_most_windows() -> None:
    source, process, repeats = np.random.default_rng(33), Weeks("normal", normal()), 50
    hits = 0
    for _ in range(repeats):
        past, now = process.draw(source, shift=10 * SIZE)
        hits += "x00" in judge_columns(past, now, alarm_rate=0.01, min_effect=0.0, unordered=UNORDERED).drifted
    # With the heaviest tails wherever eight weeks do not rule them out it was found in half of them.
    assert hits >= binom.ppf(0.01, repeats, 0.75)


def test_columns_that_move_as_one_count_as_one() -> None:
    factor = np.random.default_rng(26).normal(size=8)
    assert independent_columns(np.outer([1.0, -2.0, 0.5], factor)) == pytest.approx(1.0)
    assert independent_columns(np.random.default_rng(27).normal(size=(20, 8))) > 10


def test_windows_in_order_are_told_from_the_same_windows_in_disorder() -> None:
    source = np.random.default_rng(28)
    rising = np.arange(8.0)[:, None]
    assert order_p_value(squared_distances(rising)) <= 0.01
    chances = [order_p_value(squared_distances(source.permutation(rising))) for _ in range(200)]
    assert np.mean(np.array(chances) <= 0.05) <= 0.12
    assert np.mean(chances) > 0.4


def test_a_large_distance_says_that_the_references_own_windows_go_as_far() -> None:
    source = np.random.default_rng(29)
    past, now = weeks(source, source.normal(size=8)), week(source, 1.2)
    judged = judge_columns({"temperature": past}, {"temperature": now}, alarm_rate=0.01, min_effect=0.1)
    (column,) = judged.columns
    sentence = describe_usual_distance(judged.columns, 0.1)
    assert sentence == (
        f"'temperature' moved by {column.distance:.2f}, the reference's own windows move by up to "
        f"{max(column.reference_distances):.2f}"
    )
    assert sentence in WindowJudgement(judged, (), {}, ROWS, 8 * ROWS, 0.1).message
    calm = judge_columns({"x": weeks(source, [0.0] * 8)}, {"x": week(source, 0.0)}, alarm_rate=0.01, min_effect=0.1)
    assert describe_usual_distance(calm.columns, 0.1) == ""


def test_a_reference_that_trends_says_by_how_much_a_window() -> None:
    source = np.random.default_rng(30)
    past = weeks(source, 0.2 * np.arange(8))
    judged = judge_columns({"x": past}, {"x": week(source, 1.6)}, alarm_rate=0.01, min_effect=0.0)
    assert judged.verdict == "insufficient data"
    message = WindowJudgement(judged, (), {}, ROWS, 8 * ROWS, 0.0).message
    assert f"those of 'x' move by about {judged.columns[0].step:.2g} a window" in message
    assert 0.04 <= judged.columns[0].step <= 0.1  # 0.2 standard deviations move 8 % of the rows
