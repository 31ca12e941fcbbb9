"""Every classifier, regressor and transformer of scikit-learn, and small rows that each can be fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators

RANDOM = np.random.default_rng(0)
X = np.abs(RANDOM.normal(size=(80, 3)))
CLASSES = (X[:, 0] + X[:, 1] > 1.4).astype(int)
NUMBERS = X.sum(axis=1) + 0.1
TEXTS = ["red green" if value else "green blue blue" for value in CLASSES]
MAPPINGS = [{"a": float(row[0]), "b": float(row[1])} for row in X]

SETTINGS = {"n_estimators": 3, "max_iter": 40, "random_state": 0}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "CCA": {"n_components": 1},
    "ColumnTransformer": {"transformers": [("scaled", StandardScaler(), [0, 1])]},
    "FeatureUnion": {"transformer_list": [("scaled", StandardScaler())]},
    "GaussianRandomProjection": {"n_components": 2},
    "HashingVectorizer": {"n_features": 8},
    "MissingIndicator": {"features": "all"},
    "MultiOutputRegressor": {"estimator": Ridge()},
    "OrthogonalMatchingPursuitCV": {"max_iter": 2},
    "PLSCanonical": {"n_components": 1},
    "RegressorChain": {"estimator": Ridge()},
    "SelfTrainingClassifier": {"estimator": LogisticRegression()},
    "SparseCoder": {"dictionary": np.eye(3)},
    "SparseRandomProjection": {"n_components": 2},
    "StackingClassifier": {"estimators": [("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=2))]},
    "StackingRegressor": {"estimators": [("a", LinearRegression()), ("b", DecisionTreeRegressor(max_depth=2))]},
    "TSNE": {},
    "VotingClassifier": {"estimators": [("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=2))]},
    "VotingRegressor": {"estimators": [("a", LinearRegression()), ("b", DecisionTreeRegressor(max_depth=2))]},
}
SEVERAL_LABELS = {
    "ClassifierChain",
    "MultiOutputClassifier",
    "MultiOutputRegressor",
    "MultiTaskElasticNet",
    "MultiTaskElasticNetCV",
    "MultiTaskLasso",
    "MultiTaskLassoCV",
    "RegressorChain",
}
NOT_IN_A_PIPELINE = {
    "CCA": "gives labels beside the features",
    "IsotonicRegression": "gives an array of one dimension",
    "LabelBinarizer": "is for labels",
    "LabelEncoder": "is for labels",
    "MultiLabelBinarizer": "is for labels",
    "PLSCanonical": "gives labels beside the features",
    "PLSRegression": "gives labels beside the features",
    "PLSSVD": "gives labels beside the features",
    "PatchExtractor": "is for images",
    "StackingClassifier": "is a classifier",
    "StackingRegressor": "is a regressor",
    "TSNE": "has no transform",
    "VotingClassifier": "is a classifier",
    "VotingRegressor": "is a regressor",
}
"""Transformers that cannot stand before a model of one label, and why."""

NOT_KEPT = {"Birch"}
"""Estimators that skops does not write."""


def every(kind: str) -> dict[str, type]:
    """Return the classes of a kind by name, without the transformers that no pipeline holds."""
    left_out = NOT_IN_A_PIPELINE if kind == "transformer" else {}
    return {name: cls for name, cls in all_estimators(type_filter=kind) if name not in left_out}


def unfitted(name: str, cls: type) -> Any:
    """Return an estimator of a class, with the arguments that it needs."""
    if name in ARGUMENTS:
        return cls(**ARGUMENTS[name])
    try:
        estimator = cls()
        estimator.get_params()
    except (TypeError, AttributeError):
        return cls(LogisticRegression())
    wanted = {key: value for key, value in SETTINGS.items() if key in estimator.get_params()}
    return estimator.set_params(**wanted)


def rows_for(name: str) -> Any:
    """Return the rows that an estimator of a name is fitted on."""
    if name == "IsotonicRegression":
        return X[:, :1]
    if name in {"DictVectorizer", "FeatureHasher"}:
        return MAPPINGS
    if name in {"CountVectorizer", "HashingVectorizer", "TfidfVectorizer"}:
        return TEXTS
    return X @ X.T if name == "KernelCenterer" else X


def fitted(kind: str, name: str, cls: type) -> Any:
    """Return a fitted estimator; a transformer stands in a pipeline before a linear model."""
    if kind == "transformer":
        return make_pipeline(unfitted(name, cls), LogisticRegression()).fit(rows_for(name), CLASSES)
    label = CLASSES if kind == "classifier" else NUMBERS
    if name in SEVERAL_LABELS:
        label = np.column_stack([label, label[::-1]])
    return unfitted(name, cls).fit(rows_for(name), label)
