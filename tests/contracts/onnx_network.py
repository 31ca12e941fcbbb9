"""A small network of one's own that is fitted without scikit-learn and leaves as an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

HIDDEN = 16
IR_VERSION, OPSET = 10, 21


class Network(BaseEstimator):  # type: ignore[misc]
    """A hidden layer of fixed random weights, and an output layer by ridge regression, in 32-bit floats."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Any, y: Any) -> Any:
        """Fit the output layer."""
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.asarray(X.columns, object)
        values = np.asarray(X, np.float32)
        random = np.random.default_rng(self.seed)
        self.hidden_ = random.normal(size=(values.shape[1], HIDDEN)).astype(np.float32)
        layer = self._layer(values).astype(np.float64)
        penalised = layer.T @ layer + np.eye(HIDDEN)
        self.output_ = np.linalg.solve(penalised, layer.T @ self._targets(y)).astype(np.float32)
        return self

    def _layer(self, values: Any) -> Any:
        return np.maximum(values @ self.hidden_, 0)

    def _outputs(self, X: Any) -> Any:
        return self._layer(np.asarray(X, np.float32)) @ self.output_

    def _targets(self, y: Any) -> Any:
        return np.asarray(y, np.float32).reshape(-1, 1)

    def to_onnx(self) -> Any:
        """Return the graph."""
        nodes = [
            helper.make_node("MatMul", ["rows", "hidden"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "output"], ["c"]),
            helper.make_node(self.last, ["c"], ["probabilities"]),
        ]
        return graph_of(nodes, self.hidden_.shape[0], hidden=self.hidden_, output=self.output_)


class RegressorNetwork(RegressorMixin, Network):  # type: ignore[misc]
    """A network for a number."""

    last = "Identity"

    def predict(self, X: Any) -> Any:
        """Return predictions, shape (n_rows,)."""
        return self._outputs(X)[:, 0]


class ClassifierNetwork(ClassifierMixin, Network):  # type: ignore[misc]
    """A network for classes."""

    last = "Softmax"

    def _targets(self, y: Any) -> Any:
        self.classes_, codes = np.unique(y, return_inverse=True)
        return 4 * np.eye(len(self.classes_), dtype=np.float32)[codes]

    def predict_proba(self, X: Any) -> Any:
        """Return probabilities, shape (n_rows, n_classes)."""
        exponents = np.exp(self._outputs(X))
        return exponents / exponents.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> Any:
        """Return the most likely classes, shape (n_rows,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def graph_of(nodes: list[Any], width: int, **weights: Any) -> onnx.ModelProto:
    """Return a graph of nodes from ``rows``, shape (n, width), to ``probabilities``."""
    given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])
    result = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, None])
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "network", [given], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return model
