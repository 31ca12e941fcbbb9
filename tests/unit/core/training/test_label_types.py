"""A label is fitted in one encoding, however it is stored and whatever is missing."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.fit_candidate import encode_label
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.window import pin_published, read_partition
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week

STORED = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}


def classes(seed: int) -> dict[str, Any]:
    """Return one unfitted classifier."""
    return {"logistic": make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), LogisticRegression())}


def labelled_week(number: int, kind: str, missing: int) -> pa.Table:
    """Return the rows of a week whose label is of a kind, and missing in the first rows."""
    frame = toy_rows(number)
    labels = [None if row < missing else STORED[kind].to_pandas_dtype()(y > 0) for row, y in enumerate(frame["y"])]
    rows = pa.Table.from_pandas(frame.drop(columns="y"), preserve_index=False)
    return rows.append_column("y", pa.array(labels, STORED[kind]))


def trained(tmp_path: Path, kind: str, missing: int) -> tuple[Workspace, str]:
    """Return a loop of four weeks, of which the first lacks labels, and the number of its version."""
    loop = toy_loop(
        train={"function": f"{__name__}:classes", "window": 2}, gates=[{"metric": "log_loss", "at_most": 5}]
    )
    weeks = {week(number): labelled_week(number, kind, missing if number == 0 else 0) for number in range(4)}
    workspace = in_memory_workspace(loop, weeks, scratch=tmp_path)
    for key in weeks:
        ingest(workspace, key)
    return workspace, train(workspace, week(2))


@pytest.mark.parametrize("kind", list(STORED))
@pytest.mark.parametrize("missing", [0, 1, 40])
def test_a_label_of_two_classes_is_learned_however_it_is_stored_and_whatever_is_missing(
    tmp_path: Path, kind: str, missing: int
) -> None:
    workspace, number = trained(tmp_path, kind, missing)
    version = workspace.state().versions[number]
    model = load_version(workspace, version)
    assert [type(value) for value in model.classes_.tolist()] == [int, int]
    assert model.classes_.tolist() == [0, 1]
    pin = pin_published(workspace.state(), week(3))
    rows = read_partition(workspace, pin, label=True)
    predicted = predict(model, FeatureMaker(workspace).make(rows, pin.partition, pin.version), classifies=True)
    assert np.mean((predicted > 0.5) == rows["y"].to_numpy(float)) > 0.8


def test_a_bool_label_gives_the_same_model_as_a_label_of_0_and_1(tmp_path: Path) -> None:
    models = []
    for kind in STORED:
        workspace, number = trained(tmp_path / kind, kind, 1)
        models.append(load_version(workspace, workspace.state().versions[number])[-1])
    assert len({model.coef_.tobytes() + model.intercept_.tobytes() for model in models}) == 1


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([True, False], dtype=bool),
        pd.Series([True, False], dtype="boolean"),
        pd.Series([True, False], dtype=object),
        pd.Series([1, 0], dtype="Int64"),
        pd.Series([1.0, 0.0]),
        pd.Series([Decimal(1), Decimal(0)]),
    ],
)
def test_classes_are_integers_and_values_are_floats(values: pd.Series[Any]) -> None:
    as_classes, as_values = (encode_label(values, classifies=classifies) for classifies in (True, False))
    assert (as_classes.dtype, as_classes.tolist()) == (np.int64, [1, 0])
    assert (as_values.dtype, as_values.tolist()) == (np.float64, [1.0, 0.0])


def test_a_label_that_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(TrainingError, match=r"label 'y' must be a number or a truth value: .*'late'"):
        encode_label(pd.Series(["late"], name="y"), classifies=False)
