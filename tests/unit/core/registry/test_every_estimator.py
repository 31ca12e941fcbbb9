"""Every estimator of scikit-learn is kept, and predicts the same in a process that never saw it."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import skops.io
from scipy import stats
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, TimeSeriesSplit
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from airflow_mlops.core.declaration.user_function import BOOSTERS
from airflow_mlops.core.errors import RegistryError, TrainingError
from airflow_mlops.core.registry.model_file import file_digest, load_model, save_model
from airflow_mlops.core.registry.trusted_types import FUNCTIONS, TRUSTED_TYPES
from tests.unit.core.registry.every_estimator import NOT_KEPT, NUMBERS, X, every, fitted, rows_for

# Fits of scikit-learn, which measuring slows down; the lines of ours that they take are taken by other tests.
pytestmark = pytest.mark.no_cover

LOAD_AND_PREDICT = """
import json, sys, warnings
from pathlib import Path
import numpy as np
from airflow_mlops.core.registry.model_file import load_model
from tests.unit.core.registry.every_estimator import rows_for
warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
for name, digest in json.loads((folder / "digests.json").read_text()).items():
    predictions = load_model(folder / f"{name}.skops", digest).predict(rows_for(name))
    np.save(folder / f"{name}.npy", predictions)
"""
PROCESS = {"env": os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}


@pytest.mark.parametrize(("kind", "count"), [("classifier", 44), ("regressor", 55), ("transformer", 69)])
def test_every_estimator_predicts_the_same_in_another_process(kind: str, count: int, tmp_path: Path) -> None:
    classes, digests, expected, refused = every(kind), {}, {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what scikit-learn says of such few rows is its own business
        for name, cls in classes.items():
            model = fitted(kind, name, cls)
            try:
                digests[name] = save_model(model, tmp_path / f"{name}.skops")
            except TrainingError as error:
                refused[name] = str(error)
                continue
            expected[name] = model.predict(rows_for(name))
    assert set(refused) == NOT_KEPT & set(classes)
    assert all(name in reason for name, reason in refused.items())
    assert len(digests) == count
    (tmp_path / "digests.json").write_text(json.dumps(digests))
    subprocess.run([sys.executable, "-c", LOAD_AND_PREDICT, str(tmp_path)], check=True, **PROCESS)
    different = [name for name in digests if not same(np.load(tmp_path / f"{name}.npy"), expected[name])]
    assert different == []


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Return whether predictions are equal but for the last bits, which the alignment of arrays in memory changes."""
    return left.shape == right.shape and np.allclose(left, right, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(
            make_column_transformer(
                (StandardScaler(), make_column_selector(dtype_include="number")),
                (OneHotEncoder(), make_column_selector(dtype_include=object)),
            ),
            LinearRegression(),
        ),
        GridSearchCV(LinearRegression(), {"fit_intercept": [True, False]}, cv=TimeSeriesSplit(3), scoring="r2"),
        KNeighborsRegressor(metric="manhattan", algorithm="ball_tree"),
        make_pipeline(FunctionTransformer(np.nan_to_num), LinearRegression()),
    ],
    ids=["selector", "search", "ball_tree", "numpy function"],
)
def test_what_estimators_hold_by_reference_is_kept_too(model: object, tmp_path: Path) -> None:
    import pandas as pd

    rows = pd.DataFrame(X, columns=list("abc"))
    digest = save_model(model.fit(rows, NUMBERS), tmp_path / "model.skops")
    assert np.array_equal(load_model(tmp_path / "model.skops", digest).predict(rows), model.predict(rows))


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "numpy.load", "sklearn.datasets._base.load_files"])
def test_a_function_that_is_not_on_the_list_is_refused_wherever_it_lies(name: str, tmp_path: Path) -> None:
    module, _, function = name.rpartition(".")
    path = tmp_path / "model.skops"
    skops.io.dump(FunctionTransformer(getattr(importlib.import_module(module), function)), path)
    with pytest.raises(RegistryError, match="holds types that are not trusted"):
        load_model(path, file_digest(path))


def test_a_distribution_is_refused_since_loading_one_executes_text_of_the_file(tmp_path: Path) -> None:
    model = RandomizedSearchCV(LogisticRegression(), {"C": stats.uniform(0.1, 1)}, n_iter=2, random_state=0)
    with pytest.raises(TrainingError, match=r"not trusted for loading: .*scipy\.stats.*rv_continuous_frozen"):
        save_model(model.fit(X, NUMBERS > 2), tmp_path / "model.skops")


def test_every_name_of_the_list_is_a_class_or_a_function_of_a_library_of_models() -> None:
    assert len(set(TRUSTED_TYPES)) == len(TRUSTED_TYPES)
    for name in TRUSTED_TYPES:
        module, _, attribute = name.rpartition(".")
        thing = getattr(importlib.import_module(module), attribute)
        assert module.partition(".")[0] in {"numpy", "scipy", "sklearn", *BOOSTERS} or name in {
            "airflow_mlops.core.registry.onnx_graph.OnnxClassifier",
            "airflow_mlops.core.registry.onnx_graph.OnnxRegressor",
            "builtins.object",
            "collections.OrderedDict",
            "functools.partial",
        }
        assert inspect.isclass(thing) != (name in FUNCTIONS)
