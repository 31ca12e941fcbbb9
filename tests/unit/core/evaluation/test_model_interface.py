"""The interface of a model is kept where the model predicts alike through it, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from airflow_mlops.core.evaluation.model_interface import EXAMPLE_ROWS, column_type, interface_of_model
from airflow_mlops.core.training.model_input import model_input

RANDOM = np.random.default_rng(0)
FEATURES = pd.DataFrame(
    {
        "big": pd.array([2**53 + number for number in range(30)] + [None] * 10, "Int64"),
        "flag": pd.array([True, False, None, True] * 10, "boolean"),
        "kind": pd.Categorical(["a", "b", None, "a"] * 10, ["a", "b", "c"]),
        "text": pd.Series(["x", "y", "x", "z"] * 10, dtype="str"),
        "whole": RANDOM.integers(0, 9, 40),
        "x": RANDOM.normal(size=40),
    }
)
LABEL = RANDOM.normal(size=40)


def fit(model: Any, *names: str, label: Any = LABEL) -> tuple[Any, pd.DataFrame]:
    """Return a model that is fitted on some features, and the features in another order."""
    return model.fit(model_input(model, FEATURES[list(names)]), label), FEATURES[sorted(names, reverse=True)]


def test_numbers_truth_values_and_nulls_have_the_types_that_the_model_gets() -> None:
    model, features = fit(HistGradientBoostingRegressor(), "flag", "whole", "x")
    interface = interface_of_model(model, features, with_example=True)
    assert interface is not None
    assert dict(interface.inputs) == {"flag": "double", "whole": "long", "x": "double"}
    assert list(interface.inputs) == ["flag", "whole", "x"]
    assert interface.output == "double"
    assert interface.example is not None
    assert len(interface.example) == EXAMPLE_ROWS
    expected = model.predict(model_input(model, FEATURES[list(interface.inputs)].head(EXAMPLE_ROWS)))
    assert model.predict(interface.example).tolist() == expected.tolist()


def test_an_encoder_takes_categories_and_texts_as_texts() -> None:
    encode = ColumnTransformer([("e", OneHotEncoder(handle_unknown="ignore"), ["kind", "text"])])
    model, features = fit(make_pipeline(encode, LinearRegression()), "kind", "text")
    interface = interface_of_model(model, features, with_example=False)
    assert interface is not None
    assert dict(interface.inputs) == {"kind": "string", "text": "string"}
    assert interface.example is None


def test_classes_are_whole_numbers() -> None:
    model, features = fit(HistGradientBoostingClassifier(), "x", label=(LABEL > 0).astype(int))
    interface = interface_of_model(model, features, with_example=True)
    assert interface is not None
    assert interface.output == "long"


def test_a_model_that_reads_categories_of_pandas_takes_them_as_texts() -> None:
    model, features = fit(HistGradientBoostingRegressor(categorical_features="from_dtype"), "kind", "x")
    interface = interface_of_model(model, features, with_example=True)
    assert interface is not None
    assert dict(interface.inputs) == {"kind": "string", "x": "double"}


def test_a_model_that_tells_integers_apart_which_floats_do_not_has_no_interface() -> None:
    encode = ColumnTransformer([("e", OneHotEncoder(handle_unknown="ignore"), ["big"])])
    model, features = fit(make_pipeline(encode, LinearRegression()), "big")
    assert interface_of_model(model, features, with_example=True) is None


def test_without_rows_or_with_another_feature_there_is_no_interface() -> None:
    model, features = fit(LinearRegression(), "x")
    assert interface_of_model(model, features.head(0), with_example=True) is None
    assert interface_of_model(model, FEATURES[["whole"]], with_example=True) is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.Series([True]), "boolean"),
        (pd.Series([1.5], dtype="float32"), "double"),
        (pd.Series(["a", None], dtype=object), "string"),
        (pd.Series(pd.to_datetime(["2013-01-06"])), "datetime"),
        (pd.Series([b"a"], dtype=object), None),
        (pd.Series([[1.0]], dtype=object), None),
    ],
)
def test_a_type_without_a_name_in_mlflow_has_none(values: pd.Series[Any], kind: str | None) -> None:
    assert column_type(values) == kind
