"""An estimator gets plain types, which depend on the columns and on the estimator and never on the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.model_input import encodes_categories, model_input

FRAME = pd.DataFrame(
    {
        "whole": pd.array([2**60 + 1, None], "Int64"),
        "truth": pd.array([True, None], "boolean"),
        "number": pd.array([0.5, None], "Float64"),
        "plain": [1, 2],
        "words": ["a", None],
    }
)


def nested(encoder: Any) -> Any:
    return make_pipeline(ColumnTransformer([("all", make_pipeline(encoder), ["whole"])]), Ridge())


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder(), TargetEncoder()])
def test_an_encoder_of_categories_gets_exact_values(encoder: Any) -> None:
    for model in (encoder, nested(encoder)):
        assert encodes_categories(model)
        made = model_input(model, FRAME)
        assert made["whole"].tolist()[0] == 2**60 + 1
        assert made["truth"].tolist()[0] is True
        assert made.dtypes.astype(str).tolist()[:4] == ["object", "object", "float64", "int64"]


def test_any_other_estimator_gets_floats() -> None:
    made = model_input(HistGradientBoostingRegressor(), FRAME)
    assert made.dtypes.astype(str).tolist()[:4] == ["float64", "float64", "float64", "int64"]
    assert made["truth"].tolist()[0] == 1.0
    assert made[["whole", "truth", "number"]].isna().to_numpy().tolist() == [[False] * 3, [True] * 3]


def test_a_selection_by_type_sees_numbers_as_numbers() -> None:
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")), remainder="passthrough"
    )
    model = make_pipeline(columns, HistGradientBoostingRegressor(max_iter=2))
    assert not encodes_categories(model)
    made = model_input(model, FRAME)
    assert made.dtypes.astype(str).tolist()[:2] == ["float64", "float64"]
    fitted = model.fit(made, [0.0, 1.0])
    assert columns.transformers[0][2](made) == ["words"]
    assert fitted.predict(model_input(fitted, FRAME.head(1))).tolist() == fitted.predict(made)[:1].tolist()


def test_rows_without_a_null_are_of_the_same_types() -> None:
    for model in (Ridge(), OneHotEncoder()):
        assert model_input(model, FRAME.head(1)).dtypes.equals(model_input(model, FRAME).dtypes)


def test_a_frame_of_plain_types_is_handed_on_as_it_is() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan], "n": [1, 2], "words": ["a", None]})
    assert model_input(OneHotEncoder(), frame) is frame


def test_another_process_gets_rows_of_the_same_types(tmp_path: Path) -> None:
    FitRows(FRAME, np.array([0.0, 1.0])).write(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(FitRows.read(tmp_path / "rows.parquet").features, FRAME)
