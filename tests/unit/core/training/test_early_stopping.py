"""Boosting stops early: the newest rows choose the number of iterations, and are no part of the fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.registry.model_file import load_model, save_model
from airflow_mlops.core.training.early_stopping import fit_with_early_stopping
from airflow_mlops.core.training.predict import predict
from tests.unit.core.toy_loop import toy_loop

SETTINGS = {"rounds": 5, "validation": 20}
MOST = 400
LIGHT = {"n_jobs": 1, "deterministic": True, "force_row_wise": True, "verbose": -1, "learning_rate": 0.2}
XG = {"n_jobs": 1, "learning_rate": 0.2}
CAT = {"thread_count": 1, "allow_writing_files": False, "verbose": False, "learning_rate": 0.2}
REGRESSORS = {"lightgbm": (LGBMRegressor, LIGHT), "xgboost": (XGBRegressor, XG), "catboost": (CatBoostRegressor, CAT)}
CLASSIFIERS = {
    "lightgbm": (LGBMClassifier, LIGHT),
    "xgboost": (XGBClassifier, XG),
    "catboost": (CatBoostClassifier, CAT),
}


def noisy_rows() -> FitRows:
    """Return rows, of which more iterations learn the noise, in an order that is not that of time."""
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.normal(size=(500, 3)), columns=["a", "b", "c"])
    label = features["a"].to_numpy() + random.normal(size=500)
    return FitRows(features, label, random.permutation(500))


def older_rows(rows: FitRows) -> tuple[pd.DataFrame, Any]:
    """Return the features and labels of the older four fifths of the rows."""
    assert rows.moment is not None
    older = rows.moment < 400
    return rows.features[older], rows.label[older]


@pytest.mark.parametrize(("kind", "settings"), REGRESSORS.values(), ids=REGRESSORS)
def test_a_stopped_model_is_that_of_the_older_rows_with_the_chosen_number(
    kind: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    rows = noisy_rows()
    model = kind(n_estimators=MOST, **settings)
    iterations = fit_with_early_stopping(model, SETTINGS, rows)
    assert 1 < iterations < MOST
    digest = save_model(model, tmp_path / "model.skops")
    loaded = load_model(tmp_path / "model.skops", digest)
    expected = kind(n_estimators=iterations, **settings).fit(*older_rows(rows))
    assert np.allclose(predict(loaded, rows.features, classifies=False), expected.predict(rows.features), rtol=1e-6)

    again = kind(n_estimators=MOST, **settings)
    fit_with_early_stopping(again, SETTINGS, rows)
    assert save_model(again, tmp_path / "again.skops") == digest


@pytest.mark.parametrize(("kind", "settings"), REGRESSORS.values(), ids=REGRESSORS)
def test_the_steps_before_are_fitted_on_the_older_rows(kind: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    rows = noisy_rows()
    for memory in (None, str(tmp_path)):
        scaler = StandardScaler().set_output(transform="pandas")
        model = make_pipeline(make_pipeline(scaler), kind(n_estimators=MOST, **settings), memory=memory)
        iterations = fit_with_early_stopping(model, SETTINGS, rows)
        assert 1 < iterations < MOST
        fitted = model.steps[0][1].steps[0][1]
        assert np.allclose(fitted.mean_, older_rows(rows)[0].mean())
        assert np.isfinite(predict(model, rows.features, classifies=False)).all()


@pytest.mark.parametrize(("kind", "settings"), CLASSIFIERS.values(), ids=CLASSIFIERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_learned_from_the_older_rows_and_one_that_they_lack_is_named(
    kind: Any, settings: dict[str, Any], classes: int
) -> None:
    rows = noisy_rows()
    label = np.digitize(rows.label, [0.0, 1.0][: classes - 1])
    model = kind(n_estimators=MOST, **settings)
    assert 0 < fit_with_early_stopping(model, SETTINGS, FitRows(rows.features, label, rows.moment)) < MOST
    chances = predict(model, rows.features, classifies=True)
    assert chances.shape == ((500,) if classes == 2 else (500, 3))

    assert rows.moment is not None
    late = np.where(rows.moment >= 450, classes, label)
    with pytest.raises(TrainingError, match=f"class with the code {classes} is only in the newest 20 % of the rows"):
        fit_with_early_stopping(model, SETTINGS, FitRows(rows.features, late, rows.moment))


def test_predictions_of_the_held_out_rows_are_no_part_of_a_model_of_catboost() -> None:
    model = CatBoostRegressor(iterations=MOST, **CAT)
    fit_with_early_stopping(model, SETTINGS, noisy_rows())
    assert not [name for name in model.__getstate__() if "test_eval" in name]


def test_boosting_that_cannot_choose_a_number_is_an_error_that_says_so() -> None:
    model = LGBMRegressor(n_estimators=9, boosting_type="dart", **LIGHT)
    with (
        pytest.warns(UserWarning, match="Early stopping is not available in dart mode"),
        pytest.raises(TrainingError, match="LGBMRegressor chose no number of iterations"),
    ):
        fit_with_early_stopping(model, SETTINGS, noisy_rows())


def test_rows_of_one_moment_cannot_be_split() -> None:
    rows = noisy_rows()
    with pytest.raises(TrainingError, match="all of one moment"):
        fit_with_early_stopping(
            LGBMRegressor(**LIGHT), SETTINGS, FitRows(rows.features, rows.label, np.zeros(500, np.int64))
        )


def weighted_rows() -> FitRows:
    """Return the noisy rows, of which those with much weight have little noise."""
    rows, random = noisy_rows(), np.random.default_rng(1)
    heavy = random.random(500) < 0.5
    label = 2 * rows.features["a"].to_numpy() + np.where(heavy, 0.3, 4.0) * random.normal(size=500)
    return FitRows(rows.features, label, rows.moment, np.where(heavy, 8.0, 0.25))


@pytest.mark.parametrize(("kind", "settings"), REGRESSORS.values(), ids=REGRESSORS)
def test_weights_count_in_the_fit_and_in_the_score_that_stops_it(kind: Any, settings: dict[str, Any]) -> None:
    rows = weighted_rows()
    assert rows.moment is not None
    assert rows.weight is not None
    model = kind(n_estimators=MOST, **settings)
    iterations = fit_with_early_stopping(model, SETTINGS, rows)
    expected = kind(n_estimators=iterations, **settings)
    expected.fit(*older_rows(rows), sample_weight=rows.weight[rows.moment < 400])
    assert np.allclose(model.predict(rows.features), expected.predict(rows.features), rtol=1e-6)
    # Of all numbers of iterations, the chosen one has the least weighted error on the newest rows.
    most = kind(n_estimators=iterations + SETTINGS["rounds"], **settings)
    most.fit(*older_rows(rows), sample_weight=rows.weight[rows.moment < 400])
    newer = rows.moment >= 400
    features, label, weight = rows.features[newer], rows.label[newer], rows.weight[newer]
    errors = [
        float(np.average((staged(most, features, count) - label) ** 2, weights=weight))
        for count in range(1, iterations + SETTINGS["rounds"] + 1)
    ]
    assert int(np.argmin(errors)) + 1 == iterations
    unweighted = kind(n_estimators=MOST, **settings)
    assert fit_with_early_stopping(unweighted, SETTINGS, FitRows(rows.features, rows.label, rows.moment)) != iterations


def staged(model: Any, features: pd.DataFrame, count: int) -> Any:
    """Return the predictions of the first iterations of a model."""
    if isinstance(model, LGBMRegressor):
        return model.predict(features, num_iteration=count)
    if isinstance(model, XGBRegressor):
        return model.predict(features, iteration_range=(0, count))
    return model.predict(features, ntree_end=count)


def test_a_part_without_any_weight_is_refused_by_name() -> None:
    rows = noisy_rows()
    assert rows.moment is not None
    for name, mask in (("newest 20", rows.moment < 400), ("oldest 80", rows.moment >= 400)):
        weighted = FitRows(rows.features, rows.label, rows.moment, mask.astype(float))
        with pytest.raises(TrainingError, match=f"the weight of the {name} % of the rows is 0"):
            fit_with_early_stopping(LGBMRegressor(**LIGHT), SETTINGS, weighted)


def test_catboost_stops_by_weighted_rows_with_categories() -> None:
    rows = weighted_rows()
    features = rows.features.assign(kind=np.random.default_rng(2).choice(["a", "b"], 500))
    model = CatBoostRegressor(iterations=MOST, cat_features=["kind"], **CAT)
    assert 1 < fit_with_early_stopping(model, SETTINGS, FitRows(features, rows.label, rows.moment, rows.weight)) < MOST


@pytest.mark.parametrize(("key", "value"), [("weight", "tickets"), ("half_life_days", 30)])
def test_weights_of_rows_may_be_declared_beside_early_stopping(key: str, value: Any) -> None:
    train = {"function": "shop:candidates", "window": 2, "early_stopping": {"rounds": 5}, key: value}
    loop = toy_loop(train=train)
    assert loop.train.early_stopping is not None
    assert loop.train.weights == {"column" if key == "weight" else key: value}
