"""Importance of features: a change is found, luck is not, and too few rows are no verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd

from airflow_mlops.core.evaluation.feature_importance import permutation_importance
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks.check_result import CheckResult
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.importance import judge_importance, row_importance
from airflow_mlops.core.watch.sampled_rows import SampledRows

TERMS = CheckTerms(alarm_rate=0.01, metric="mae")


def predict(features: pd.DataFrame) -> Floats:
    """Return 3 a + 2 b + c."""
    predictions: Floats = 3 * features["a"].to_numpy() + 2 * features["b"].to_numpy() + features["c"].to_numpy()
    return predictions


def rows(seed: int, count: int, *, of_a: float = 3.0, of_c: float = 1.0) -> SampledRows:
    """Return rows whose label the model knows, but for noise, while ``of_a`` is 3 and ``of_c`` is 1."""
    source = np.random.default_rng(seed)
    features = pd.DataFrame(source.normal(size=(count, 3)), columns=list("abc"))
    features["kind"] = pd.Categorical(source.choice(["x", "y"], count))
    label = of_a * features["a"] + 2 * features["b"] + of_c * features["c"] + source.normal(size=count)
    return SampledRows("w", np.arange(count), features, label.to_numpy(), predict)


def judge(now: SampledRows, before: SampledRows, terms: CheckTerms = TERMS) -> CheckResult:
    return judge_importance(row_importance(now, "mae"), row_importance(before, "mae"), terms)


def test_a_feature_that_no_longer_says_anything_of_the_label_loses_its_importance() -> None:
    result = judge(rows(1, 500, of_a=0.0), rows(2, 500))
    assert result.verdict == "alarm"
    assert "a 56% -> 0%" in result.message
    assert result.report is not None
    assert result.report["importance"]["a"]["window"] < result.report["importance"]["a"]["holdout"]


def test_rows_as_before_alarm_no_more_often_than_stated() -> None:
    terms = CheckTerms(alarm_rate=0.1, min_effect=0.0)
    alarms = sum(judge(rows(2 * seed, 100), rows(2 * seed + 1, 100), terms).verdict == "alarm" for seed in range(40))
    assert alarms <= 9  # of 40 at 0.1: exceeded once in a hundred such tests


def test_few_rows_cannot_show_a_shift_of_the_least_effect() -> None:
    assert judge(rows(3, 30), rows(4, 500)).verdict == "insufficient data"
    assert judge(rows(3, 500), rows(4, 500)).verdict == "no alarm"


def test_the_mean_over_rows_is_the_importance_that_evaluations_find() -> None:
    sampled = rows(5, 400)
    by_row = row_importance(sampled, "mae")
    by_feature = permutation_importance(predict, sampled.features, sampled.label, "mae", seed=0)
    for name, value in zip(by_row.names, by_row.rises.mean(axis=0), strict=True):
        assert abs(value - by_feature[name]) < 0.25


def test_the_rank_correlation_is_with_what_is_on_record() -> None:
    record = {"a": 3.0, "b": 2.0, "c": 1.0, "kind": 0.0}
    importance = row_importance(rows(6, 500), "mae")
    before = row_importance(rows(7, 500), "mae")
    assert judge_importance(importance, before, TERMS, record=record).numbers["rank_correlation"] == 1.0
    assert judge_importance(importance, before, TERMS).numbers["rank_correlation"] is None


def test_a_model_of_one_feature_has_nothing_else_to_lean_on() -> None:
    sampled = rows(8, 200)
    only = SampledRows("w", sampled.keys, sampled.features[["a"]], sampled.label, lambda frame: frame["a"].to_numpy())
    assert judge(only, only).verdict == "insufficient data"


def test_a_model_that_leans_on_nothing_has_no_importance_to_shift() -> None:
    sampled = rows(9, 200)
    flat = SampledRows("w", sampled.keys, sampled.features, sampled.label, lambda frame: np.zeros(len(frame)))
    assert judge(flat, flat).verdict == "insufficient data"
