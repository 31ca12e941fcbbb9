"""Boosted trees of LightGBM are kept, load in another process, and come out the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.registry.model_file import load_model, save_model
from airflow_mlops.core.training.inspect_candidates import refusal_of

SAME = {"n_estimators": 8, "n_jobs": 1, "deterministic": True, "force_row_wise": True, "random_state": 0, "verbose": -1}
PREDICT = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from airflow_mlops.core.registry.model_file import load_model
folder = Path(sys.argv[1])
model = load_model(folder / "model.skops", sys.argv[2])
np.save(folder / "predictions.npy", model.predict(pd.read_parquet(folder / "rows")))
"""


def rows_and_label(*, category: bool) -> tuple[pd.DataFrame, Any]:
    """Return rows whose label depends on a number and, if there is one, on a category."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(300, 2)), columns=["a", "b"])
    shops = pd.Categorical(random.choice(["p", "q", "r"], 300), categories=["p", "q", "r"])
    label = rows["a"] + 3.0 * (shops == "q")
    return (rows.assign(shop=shops) if category else rows), label


MODELS = [
    (LGBMRegressor(**SAME), True),
    (LGBMClassifier(**SAME), True),
    (make_pipeline(StandardScaler().set_output(transform="pandas"), LGBMRegressor(**SAME)), False),
]


@pytest.mark.parametrize(("model", "category"), MODELS, ids=["regressor", "classifier", "pipeline"])
def test_a_booster_predicts_the_same_in_another_process_and_is_the_same_file_again(
    tmp_path: Path, model: Any, category: bool
) -> None:
    classifies = isinstance(model, LGBMClassifier)
    rows, label = rows_and_label(category=category)
    label = (label > 1).astype(int) if classifies else label
    judged = {"classifies": classifies, "probability_metrics": ("log_loss",) if classifies else ()}
    assert refusal_of(model, **judged) is None
    digests = {save_model(model.fit(rows, label), tmp_path / "model.skops") for _ in range(2)}
    assert len(digests) == 1
    rows.to_parquet(tmp_path / "rows")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", PREDICT, str(tmp_path), *digests], check=True, env=environment)
    assert np.array_equal(np.load(tmp_path / "predictions.npy"), model.predict(rows))
    if category:
        assert model.booster_.pandas_categorical == [["p", "q", "r"]]


def test_a_ranker_and_an_objective_of_ones_own_are_refused_before_the_fit() -> None:
    judged: dict[str, Any] = {"classifies": False, "probability_metrics": ()}
    assert "LGBMRanker" in str(refusal_of(LGBMRanker(), **judged))
    assert "rows_and_label" in str(refusal_of(LGBMRegressor(objective=rows_and_label), **judged))


def test_where_the_package_is_missing_loading_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, label = rows_and_label(category=False)
    digest = save_model(LGBMRegressor(**SAME).fit(rows, label), tmp_path / "model.skops")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightgbm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(RegistryError, match=r"model\.skops needs the package 'lightgbm', which is not installed here"):
        load_model(tmp_path / "model.skops", digest)


class Missing:
    """A finder by which LightGBM is not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Raise as Python does where a package is missing."""
        if name.partition(".")[0] == "lightgbm":
            raise ModuleNotFoundError(f"No module named {name!r}", name="lightgbm")
