"""Keep an estimator that exports an ONNX graph as that graph.

An estimator, bare or as the last step of a pipeline, says so by a method ``to_onnx``, which returns the graph as bytes
or as an object of the package ``onnx``. Its own class is then not in the version, and need not be trusted.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.training.predict import predict

TOLERANCE = 1e-4
"""Allowed difference of graph and estimator, relative to the largest prediction: a network may add 32-bit floats."""
NEEDED = ("onnx", "onnxruntime")


def exports_graph(estimator: Any) -> bool:
    """Return whether an estimator, or the last step of a pipeline, exports an ONNX graph."""
    steps = getattr(estimator, "steps", None)
    return callable(getattr(steps[-1][1] if steps else estimator, "to_onnx", None))


def kept_parts(estimator: Any) -> list[Any]:
    """Return the parts of an unfitted estimator that a version would hold as they are."""
    if not exports_graph(estimator):
        return [estimator]
    return [part for _, part in getattr(estimator, "steps", [])[:-1]]


def missing_packages(estimator: Any) -> str | None:
    """Return the reason why a graph cannot be kept here; None if it can, or the estimator exports none."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if not exports_graph(estimator) or not missing:
        return None
    return f"it exports an ONNX graph, and {' and '.join(missing)} is not installed here; install airflow-mlops[onnx]"


def as_kept(model: Any, trial: pd.DataFrame, *, classifies: bool) -> Any:
    """Return a fitted model as its version holds it: with the graph in the place of an estimator that exports one.

    Parameters
    ----------
    trial : DataFrame, shape (n_rows, n_features)
        Rows on which both must agree.

    Raises
    ------
    TrainingError
        If the export fails, the graph is not allowed, or predicts otherwise than the estimator.
    """
    from airflow_mlops.core.registry.onnx_graph import OnnxClassifier, OnnxRegressor, check_graph

    if not exports_graph(model):
        return model
    steps = getattr(model, "steps", None)
    estimator = steps[-1][1] if steps else model
    content = exported_bytes(estimator)
    check_graph(content)
    graph = np.frombuffer(content, np.uint8)
    kept: Any = OnnxClassifier(graph, np.asarray(estimator.classes_, np.int64)) if classifies else OnnxRegressor(graph)
    if steps:
        kept = type(model)([*steps[:-1], (steps[-1][0], kept)])
    elif hasattr(model, "feature_names_in_"):
        kept.feature_names_in_ = np.asarray(model.feature_names_in_, object)
    require_agreement(predict(model, trial, classifies=classifies), predict(kept, trial, classifies=classifies))
    return kept


def exported_bytes(estimator: Any) -> bytes:
    """Return the graph of an estimator as bytes.

    Raises
    ------
    TrainingError
        If ``to_onnx`` raises, or returns something else.
    """
    try:
        graph = estimator.to_onnx()
    except Exception as error:  # a user's method may raise anything
        raise TrainingError(f"to_onnx raised {type(error).__name__}: {error}") from error
    content = graph.SerializeToString() if hasattr(graph, "SerializeToString") else graph
    if not isinstance(content, bytes):
        raise TrainingError(f"to_onnx returned {type(graph).__name__}; return the bytes of the graph")
    return content


def require_agreement(expected: Any, given: Any) -> None:
    """Raise TrainingError unless a graph predicts as its estimator does."""
    allowed = TOLERANCE * max(1e-300, float(np.abs(expected).max(initial=0.0)))
    difference = float(np.abs(expected - given).max(initial=0.0))
    if difference > allowed:
        raise TrainingError(
            f"the ONNX graph is up to {difference:.3g} away from the estimator that exported it, and {allowed:.3g} is "
            "allowed; export it in the state in which it predicts, without dropout"
        )
