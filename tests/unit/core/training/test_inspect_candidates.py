"""Candidates that cannot be judged or kept are refused before the fit; no other estimator of scikit-learn is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch, KMeans
from sklearn.ensemble import IsolationForest, StackingClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.training.inspect_candidates import inspect_candidates, refusal_of
from airflow_mlops.core.training.predict import predict
from tests.unit.core.registry.every_estimator import CLASSES, NOT_KEPT, SEVERAL_LABELS, X, every, unfitted

NUMBERS: dict[str, Any] = {"classifies": False, "probability_metrics": ()}
DECISIONS: dict[str, Any] = {"classifies": True, "probability_metrics": ()}
PROBABILITIES: dict[str, Any] = {"classifies": True, "probability_metrics": ("roc_auc", "log_loss")}


class OwnModel(LinearRegression):
    """An estimator of a user's."""


class Unwritable:
    """A parameter that cannot be written."""

    def __reduce__(self) -> str:
        """Raise instead of the state of the object."""
        raise ValueError("it is held by a device")


@pytest.mark.parametrize(
    ("estimator", "judged", "words"),
    [
        (KMeans(), NUMBERS, "KMeans is a clusterer, and the declared metrics judge numbers; give a regressor"),
        (KMeans(), PROBABILITIES, "KMeans is a clusterer, and the declared metrics judge classes, 0 and 1; give a"),
        (IsolationForest(), DECISIONS, "IsolationForest is an outlier detector"),
        (OneClassSVM(), NUMBERS, "OneClassSVM is an outlier detector"),
        (
            make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)),
            NUMBERS,
            "Factor is an outlier",
        ),
        (make_pipeline(StandardScaler(), LogisticRegression()), NUMBERS, "LogisticRegression is a classifier"),
        (GridSearchCV(Ridge(), {"alpha": [1, 2]}), DECISIONS, "GridSearchCV is a regressor, and the declared metrics"),
        (make_pipeline(StandardScaler(), SVC()), PROBABILITIES, "SVC gives decisions and no probabilities, which"),
        (LinearSVC(), PROBABILITIES, "which roc_auc and log_loss need; wrap it in CalibratedClassifierCV, or"),
        (VotingClassifier([("a", LogisticRegression())]), PROBABILITIES, "VotingClassifier gives decisions"),
        (OwnModel(), NUMBERS, r"not trusted for loading: .*OwnModel; use classes of scikit-learn"),
        (make_pipeline(FunctionTransformer(lambda rows: rows), Ridge()), NUMBERS, "not trusted .*lambda"),
        (make_pipeline(FunctionTransformer(np.load), Ridge()), NUMBERS, r"not trusted for loading: numpy\.load"),
        (make_pipeline(Birch(), Ridge()), NUMBERS, "a Birch cannot be kept as a file: UnsupportedType"),
        (Ridge(alpha=Unwritable()), NUMBERS, "a Unwritable cannot be kept as a file: ValueError: it is held by"),
    ],
)
def test_a_candidate_is_refused_by_name_and_reason(estimator: Any, judged: dict[str, Any], words: str) -> None:
    reason = refusal_of(estimator, **judged)
    assert reason is not None
    assert re.search(words, reason)


@pytest.mark.parametrize(
    ("estimator", "judged"),
    [
        (SVC(), DECISIONS),
        (make_pipeline(StandardScaler(), Perceptron()), DECISIONS),
        (CalibratedClassifierCV(LinearSVC()), PROBABILITIES),
        (StackingClassifier([("a", LogisticRegression())]), PROBABILITIES),
        (VotingClassifier([("a", LogisticRegression())], voting="soft"), PROBABILITIES),
        (GridSearchCV(Ridge(), {"alpha": [1, 2]}), NUMBERS),
        (make_pipeline(FunctionTransformer(np.log1p), Ridge()), NUMBERS),
    ],
)
def test_a_candidate_that_can_be_judged_and_kept_is_not_refused(estimator: Any, judged: dict[str, Any]) -> None:
    assert refusal_of(estimator, **judged) is None


@pytest.mark.filterwarnings("ignore:Class PassiveAggressive:FutureWarning")
@pytest.mark.parametrize(("kind", "judged"), [("classifier", DECISIONS), ("regressor", NUMBERS)])
def test_of_all_estimators_those_of_several_labels_are_refused(kind: str, judged: dict[str, Any]) -> None:
    reasons = {name: refusal_of(unfitted(name, cls), **judged) for name, cls in every(kind).items()}
    refused = {name for name, reason in reasons.items() if reason is not None}
    assert refused == SEVERAL_LABELS & set(reasons)
    assert all("predicts several labels at once" in str(reasons[name]) for name in refused)


def test_of_all_transformers_those_that_are_not_kept_are_refused() -> None:
    reasons = {
        name: refusal_of(make_pipeline(unfitted(name, cls), LogisticRegression()), **DECISIONS)
        for name, cls in every("transformer").items()
    }
    assert {name for name, reason in reasons.items() if reason is not None} == NOT_KEPT


def test_the_names_the_searches_and_the_refusals_of_a_function_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "made_candidates.py").write_text(
        "from sklearn.linear_model import LogisticRegression, Ridge\nfrom sklearn.svm import SVC\n"
        "def candidates(seed):\n"
        "    return {'b': LogisticRegression(), 'a': (SVC(), {'C': [1.0, 2.0]}), 'c': Ridge()}\n"
    )
    judged = {"classifies": True, "probability_metrics": ["log_loss"]}
    listed = inspect_candidates("made_candidates:candidates", tmp_path, 0, **judged)
    assert (listed["names"], listed["searched"], sorted(listed["refused"])) == (["b"], False, ["a", "c"])
    judged["probability_metrics"] = []
    listed = inspect_candidates("made_candidates:candidates", tmp_path, 0, **judged)
    assert (listed["names"], listed["searched"], sorted(listed["refused"])) == (["a", "b"], True, ["c"])


def test_what_cannot_stop_early_is_refused_where_that_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "early_candidates.py").write_text(
        "from lightgbm import LGBMRegressor\nfrom xgboost import XGBRFRegressor\n"
        "from sklearn.linear_model import Ridge\nfrom sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "class XGBRegressor(Ridge):\n    pass\n"
        "def candidates(seed):\n"
        "    return {'named': XGBRegressor(), 'line': Ridge(), 'forest': XGBRFRegressor(), 'fit': LGBMRegressor(),\n"
        "        'steps': make_pipeline(StandardScaler(), LGBMRegressor()),\n"
        "        'searched': (LGBMRegressor(), {'max_depth': [1, 2]})}\n"
    )
    listed = inspect_candidates("early_candidates:candidates", tmp_path, 0, **NUMBERS, stops_early=True)
    assert listed["names"] == ["fit", "steps"]
    assert not listed["searched"]
    assert listed["refused"]["line"].startswith(
        "Ridge cannot stop early, and train.early_stopping is declared; end with"
    )
    assert "XGBRegressor cannot stop early" in listed["refused"]["named"]
    assert "XGBRFRegressor cannot stop early" in listed["refused"]["forest"]
    assert "search space, which train.early_stopping excludes" in listed["refused"]["searched"]


def test_a_model_without_probabilities_predicts_its_decision_as_0_or_1() -> None:
    rows = pd.DataFrame(X, columns=list("abc"))
    model = SVC().fit(rows, CLASSES)
    predictions = predict(model, rows, classifies=True)
    assert predictions.dtype == np.float64
    assert predictions.tolist() == model.predict(rows).tolist()
    assert set(predictions) == {0.0, 1.0}


def test_a_model_without_classes_is_no_classifier() -> None:
    rows = pd.DataFrame(X, columns=list("abc"))
    with pytest.raises(TrainingError, match="raised AttributeError in predict"):
        predict(LinearRegression().fit(rows, CLASSES), rows, classifies=True)
