"""Boosted trees of LightGBM, XGBoost and CatBoost are kept, load in another process, and come out the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier, CatBoostRanker, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from sklearn.ensemble import VotingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRanker, XGBRegressor, XGBRFClassifier, XGBRFRegressor
from xgboost.callback import EvaluationMonitor

from airflow_mlops.core.declaration.user_function import BOOSTERS, build_candidates
from airflow_mlops.core.errors import RegistryError, TrainingError
from airflow_mlops.core.registry.model_file import load_model, save_model
from airflow_mlops.core.training.inspect_candidates import refusal_of
from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.predict import predict

LIGHT = {
    "n_estimators": 8,
    "n_jobs": 1,
    "deterministic": True,
    "force_row_wise": True,
    "random_state": 0,
    "verbose": -1,
}
XG = {"n_estimators": 8, "n_jobs": 1, "random_state": 0, "enable_categorical": True}
CAT = {"iterations": 8, "thread_count": 1, "random_seed": 0, "verbose": False, "allow_writing_files": False}
READS = {**CAT, "cat_features": ["shop"]}
PREDICT = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.training.predict import predict
folder = Path(sys.argv[1])
model = load_model(folder / "model.skops", sys.argv[2])
rows = pd.read_parquet(folder / "rows")
np.save(folder / "predictions.npy", predict(model, rows, classifies=sys.argv[3] == "True"))
"""


def rows_and_label(*, category: bool) -> tuple[pd.DataFrame, Any]:
    """Return rows whose label depends on a number and, if there is one, on a category that two rows lack."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(300, 2)), columns=["a", "b"])
    shops = pd.Series(pd.Categorical(random.choice(["p", "q", "r"], 300), categories=["p", "q", "r"]))
    label = rows["a"] + 3.0 * (shops == "q")
    shops[[3, 7]] = None
    return (rows.assign(shop=shops) if category else rows), label


def after_scaling(model: Any) -> Any:
    return make_pipeline(StandardScaler().set_output(transform="pandas"), model)


MODELS: dict[str, tuple[Any, bool]] = {
    "lightgbm": (LGBMRegressor(**LIGHT), True),
    "lightgbm classes": (LGBMClassifier(**LIGHT), True),
    "lightgbm in a pipeline": (after_scaling(LGBMRegressor(**LIGHT)), False),
    "xgboost": (XGBRegressor(**XG), True),
    "xgboost classes": (XGBClassifier(**XG), True),
    "xgboost in a pipeline": (after_scaling(XGBRegressor(**XG)), False),
    "xgboost forest": (XGBRFRegressor(**XG), True),
    "xgboost forest of classes": (XGBRFClassifier(**XG), True),
    "catboost": (CatBoostRegressor(**READS), True),
    "catboost classes": (CatBoostClassifier(**READS), True),
    "catboost in a pipeline": (after_scaling(CatBoostRegressor(**CAT)), False),
    "catboost in a vote": (VotingRegressor([("one", CatBoostRegressor(**CAT))]), False),
}


@pytest.mark.parametrize(("model", "category"), MODELS.values(), ids=MODELS)
def test_a_booster_predicts_the_same_in_another_process_and_is_the_same_file_again(
    tmp_path: Path, model: Any, category: bool
) -> None:
    classifies = "Classifier" in type(model).__name__
    rows, label = rows_and_label(category=category)
    label = (label > 1).astype(int) if classifies else label
    judged = {"classifies": classifies, "probability_metrics": ("log_loss",) if classifies else ()}
    assert refusal_of(model, **judged) is None
    given = model_input(model, rows)
    digests = {save_model(model.fit(given, label), tmp_path / "model.skops") for _ in range(2)}
    assert len(digests) == 1
    rows.to_parquet(tmp_path / "rows")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [str(tmp_path), *digests, str(classifies)]
    subprocess.run([sys.executable, "-c", PREDICT, *arguments], check=True, env=environment)
    expected = predict(model, rows, classifies=classifies)
    assert np.array_equal(np.load(tmp_path / "predictions.npy"), expected)
    # Whatever the order of the columns, and with a column that the model has never seen.
    others = rows.assign(z=1.0)[["b", "z", "a", *rows.columns[2:]]]
    assert np.array_equal(
        predict(load_model(tmp_path / "model.skops", *digests), others, classifies=classifies), expected
    )
    if category:
        moved = rows.assign(shop=pd.Categorical(["r"] * len(rows), categories=["p", "q", "r"]))
        assert not np.array_equal(predict(model, moved, classifies=classifies), expected)


class OwnLoss:
    """A loss as CatBoost takes one."""

    def calc_ders_range(self, approximations: Any, targets: Any, weights: Any) -> list[tuple[float, float]]:
        return [(target - guess, -1.0) for guess, target in zip(approximations, targets, strict=True)]


REFUSED = {
    "LGBMRanker": LGBMRanker(),
    "XGBRanker": XGBRanker(),
    "CatBoostRanker": CatBoostRanker(),
    "test_boosters.rows_and_label": LGBMRegressor(objective=rows_and_label),
    "test_boosters.after_scaling": XGBRegressor(objective=after_scaling),
    "xgboost.callback.EvaluationMonitor": XGBRegressor(callbacks=[EvaluationMonitor()]),
    "test_boosters.OwnLoss": CatBoostRegressor(loss_function=OwnLoss()),
}


@pytest.mark.parametrize(("name", "model"), REFUSED.items(), ids=REFUSED)
def test_a_ranker_an_objective_of_ones_own_and_callbacks_are_refused_before_the_fit(name: str, model: Any) -> None:
    assert name in str(refusal_of(model, classifies=False, probability_metrics=()))


class Missing:
    """A finder by which a package is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Raise as Python does where a package is missing."""
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("package", BOOSTERS)
def test_where_the_package_is_missing_loading_and_fitting_name_it_and_the_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, label = rows_and_label(category=False)
    model, _ = MODELS[f"{package} in a pipeline"]
    digest = save_model(model.fit(rows, label), tmp_path / "model.skops")
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(package), *sys.meta_path])
    words = rf"needs the package '{package}.*', which is not installed here; install 'airflow-mlops\[{package}\]'"
    with pytest.raises(RegistryError, match=rf"model\.skops {words}"):
        load_model(tmp_path / "model.skops", digest)
    for place, code in {
        "above": f"import {package}\n",
        "within": f"def candidates(seed):\n    import {package}\n",
    }.items():
        (tmp_path / f"{package}_{place}.py").write_text(code)
        with pytest.raises(TrainingError, match=rf"No module named '{package}'; install 'airflow-mlops\[{package}\]'"):
            build_candidates(f"{package}_{place}:candidates", tmp_path, 0)
