"""The AUC: the pairs counted, DeLong's variance, and gates that say how sure they are."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from airflow_mlops.core.declaration.evaluate import Gate
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.gates import GateReport, Holdout, evaluate_gates
from airflow_mlops.core.evaluation.roc_auc import AucEstimate, auc_components, compare_components, roc_auc
from tests.unit.core.toy_loop import toy_loop

# Few values, so that ties are common.
rows = st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=40).filter(
    lambda pairs: 2 <= sum(label for label, *_ in pairs) <= len(pairs) - 2
)


def by_pairs(label: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return DeLong's components by their definition: every pair of a positive and a negative row, ties half."""
    ones, zeros = predicted[label > 0.5], predicted[label < 0.5]
    wins = (ones[:, None] > zeros[None, :]) + 0.5 * (ones[:, None] == zeros[None, :])
    return wins.mean(axis=1), wins.mean(axis=0)


def to_arrays(pairs: list[tuple[bool, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label, first, second = (np.array(column, float) for column in zip(*pairs, strict=True))
    return label, first, second


def difference_of(label: np.ndarray, challenger: np.ndarray, champion: np.ndarray) -> AucEstimate:
    """Return the AUC of the challenger minus that of the champion, with its interval."""
    return compare_components(auc_components(label, challenger), auc_components(label, champion)).difference


@given(rows)
def test_the_auc_is_the_share_of_pairs_in_order_and_its_interval_is_delongs(pairs: list[tuple[bool, int, int]]) -> None:
    label, predicted, _ = to_arrays(pairs)
    above, below = by_pairs(label, predicted)
    deviation = sqrt(np.var(above, ddof=1) / above.size + np.var(below, ddof=1) / below.size)
    reach = NormalDist().inv_cdf(0.975) * deviation
    estimate = roc_auc(label, predicted)
    assert estimate.value == pytest.approx(above.mean())
    assert estimate.value == pytest.approx(roc_auc_score(label, predicted))
    assert (estimate.low, estimate.high) == pytest.approx(
        (max(0.0, estimate.value - reach), min(1.0, estimate.value + reach)), abs=1e-12
    )


@given(rows)
def test_the_difference_of_two_models_counts_their_covariance(pairs: list[tuple[bool, int, int]]) -> None:
    label, challenger, champion = to_arrays(pairs)
    first, second = by_pairs(label, challenger), by_pairs(label, champion)
    above, below = first[0] - second[0], first[1] - second[1]
    deviation = sqrt(np.var(above, ddof=1) / above.size + np.var(below, ddof=1) / below.size)
    estimate = difference_of(label, challenger, champion)
    assert estimate.value == pytest.approx(first[0].mean() - second[0].mean(), abs=1e-12)
    assert estimate.high - estimate.low == pytest.approx(2 * NormalDist().inv_cdf(0.975) * deviation, abs=1e-12)


def test_an_interval_of_95_percent_holds_the_truth_in_95_of_100_samples() -> None:
    random = np.random.default_rng(7)
    truth = NormalDist().cdf(1 / sqrt(2))  # two normal classes, one deviation apart
    label = np.repeat([0.0, 1.0], [300, 200])
    covered = [
        (estimate := roc_auc(label, random.normal(size=500) + label)).low <= truth <= estimate.high for _ in range(1000)
    ]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_equal_models_differ_in_5_of_100_samples() -> None:
    random = np.random.default_rng(8)
    label = np.repeat([0.0, 1.0], [300, 200])
    alarms = []
    for _ in range(1000):
        shared = random.normal(size=500) + label
        estimate = difference_of(label, shared + random.normal(size=500), shared + random.normal(size=500))
        alarms.append(not estimate.low <= 0 <= estimate.high)
    assert 0.035 <= np.mean(alarms) <= 0.068


@pytest.mark.parametrize(
    ("label", "predicted", "message"),
    [
        ([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], "4 rows of class 1 and 0 of class 0; two of each are needed"),
        ([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4], "1 rows of class 1 and 3 of class 0"),
        ([0, 0, 1, 1], [0.1, float("nan"), 0.3, 0.4], "1 of 4 predictions are NaN or infinite"),
        ([0, 0, 1], [0.1, 0.2], r"\(2,\) predictions for \(3,\) labels"),
        ([], [], "0 rows of class 1 and 0 of class 0"),
    ],
)
def test_rows_without_an_auc_are_an_error_with_the_counts(
    label: list[float], predicted: list[float], message: str
) -> None:
    with pytest.raises(GateError, match=message):
        roc_auc(label, predicted)


LABEL = np.repeat([0.0, 1.0], [600, 400])
NOISE = np.random.default_rng(3).normal(size=1000)
PLACE = np.array((["here"] * 5 + ["there"] * 5) * 100)


def judge(
    gate: Gate, candidate: np.ndarray, champion: np.ndarray | None = None, **columns: np.ndarray
) -> list[GateReport]:
    return evaluate_gates([gate], Holdout(LABEL, candidate, champion, columns))


def test_a_gate_on_the_auc_says_value_limit_interval_and_rows() -> None:
    (report,) = judge(Gate(metric="roc_auc", at_least=0.7), LABEL + NOISE)
    assert (report.verdict, report.limit, report.rows) == ("pass", 0.7, 1000)
    assert report.value == pytest.approx(roc_auc_score(LABEL, LABEL + NOISE))
    assert report.low is not None
    assert report.high is not None
    assert report.low < report.value < report.high
    assert judge(Gate(metric="roc_auc", at_least=0.9), LABEL + NOISE)[0].verdict == "fail"


def test_a_holdout_of_one_class_never_passes_and_a_slice_of_one_has_too_little_data() -> None:
    gate = Gate(metric="roc_auc", at_least=0.5)
    (report,) = evaluate_gates([gate], Holdout(np.ones(50), np.linspace(0, 1, 50), None, {}))
    assert (report.verdict, report.value) == ("fail", None)
    assert "50 rows of class 1 and 0 of class 0" in report.reason
    sliced = Gate(metric="roc_auc", at_least=0.5, slices=("place",), min_rows=10)
    pairs = judge(sliced, LABEL + NOISE, None, place=np.where(LABEL > 0.5, "only ones", "only zeros"))
    assert {report.verdict for report in pairs} == {"too little data"}
    assert [report.verdict for report in judge(sliced, LABEL + NOISE, None, place=PLACE)] == ["pass", "pass"]


def test_a_challenger_is_held_against_what_the_champion_leaves_to_1() -> None:
    gate = Gate(metric="roc_auc", no_worse_than_champion_by=0.1)
    better, worse = LABEL * 2 + NOISE, LABEL + NOISE
    assert judge(gate, better, worse)[0].verdict == "pass"
    (report,) = judge(gate, worse, better)
    assert report.verdict == "fail"
    assert report.high is not None
    assert report.high < 0  # the difference of the two, by DeLong
    assert judge(gate, worse)[0].reason.endswith("there is no champion yet; absolute gates decide")


def test_a_loop_gated_on_the_auc_alone_compares_models_row_by_row_by_their_log_loss() -> None:
    loop = toy_loop(gates=[{"metric": "roc_auc", "at_least": 0.6}])
    assert (loop.classifies, loop.metric) == (True, "log_loss")
