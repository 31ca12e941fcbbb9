"""The training functions of the flights: what they return can be fitted, and bears what a week may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from include.flights.training import CATEGORIES, NUMBERS, air_time_candidates, arrival_candidates, delay_candidates

KINDS = {"air_time": air_time_candidates, "delay": delay_candidates, "arrival": arrival_candidates}
MODELS = [(kind, name) for kind, make in KINDS.items() for name in sorted(make(0))]


def flights(rows: int, seed: int) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """Return features of flights and minutes in the air that depend on the distance."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({name: random.normal(size=rows) for name in NUMBERS})
    frame["distance"], frame["hour"] = random.uniform(100, 2500, rows), random.integers(5, 24, rows)
    frame = frame.assign(**{name: random.choice(["A", "B", "C"], rows) for name in CATEGORIES})
    return frame, frame["distance"] / 8 + random.normal(size=rows)


def label_of(kind: str, minutes: pd.Series[Any]) -> pd.Series[Any]:
    """Return the label of a kind of model: the minutes, or a class that is higher where they are many."""
    if kind == "arrival":
        return pd.Series(np.digitize(minutes, minutes.quantile([0.3, 0.7])), minutes.index)
    return minutes if kind == "air_time" else (minutes > minutes.median()).astype(int)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_candidate_is_unfitted_and_another_call_gives_another_object(kind: str) -> None:
    first, second = KINDS[kind](0), KINDS[kind](0)
    assert first.keys() == second.keys()
    for name, model in first.items():
        assert model is not second[name]
        assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize(("kind", "name"), MODELS)
def test_a_candidate_finds_that_the_distance_matters(kind: str, name: str) -> None:
    features, minutes = flights(600, 1)
    model = KINDS[kind](0)[name].fit(features, label_of(kind, minutes))
    short, far = features.assign(distance=300.0), features.assign(distance=2300.0)
    predicted = model.predict if kind == "air_time" else lambda rows: model.predict_proba(rows)[:, -1]
    assert predicted(far).mean() > predicted(short).mean()


@pytest.mark.parametrize(("kind", "name"), MODELS)
def test_unknown_categories_and_missing_weather_are_predicted_too(kind: str, name: str) -> None:
    features, minutes = flights(600, 1)
    model = KINDS[kind](0)[name].fit(features, label_of(kind, minutes))
    strange = features.assign(carrier="??", dest="??", temp=np.nan, visib=np.nan)
    assert np.isfinite(np.asarray(model.predict(strange), float)).all()


@pytest.mark.parametrize(("kind", "name"), MODELS)
def test_the_same_seed_gives_the_same_model_and_columns_are_taken_by_name(kind: str, name: str) -> None:
    features, minutes = flights(600, 1)
    label = label_of(kind, minutes)
    model = KINDS[kind](0)[name]
    first, second = clone(model).fit(features, label), clone(model).fit(features, label)
    turned = features[features.columns[::-1]].assign(unused=1.0)
    assert np.array_equal(first.predict(features), second.predict(features))
    assert np.array_equal(first.predict(features), first.predict(turned))
