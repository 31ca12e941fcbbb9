"""An ONNX graph as an estimator: what any framework exports, kept in a model file and run by onnxruntime.

A graph brings no code: it is checked for its size and its operators before it is kept, and again before it is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from airflow_mlops.core.errors import TrainingError

LARGEST_GRAPH = 256 * 2**20
"""Bytes of the largest graph that is kept."""
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""The standard's own operators; others would be a library that the runtime loads."""
ENDLESS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators with graphs inside, which may run for ever."""
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that give other predictions the next time."""
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}
"""Types of the input and of the predictions."""


def check_graph(content: bytes) -> None:
    """Raise TrainingError unless a graph may be kept and run.

    Raises
    ------
    TrainingError
        If it is no ONNX, too large, refers to files, or has operators that are not allowed.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if len(content) > LARGEST_GRAPH:
        raise TrainingError(
            f"the ONNX graph has {len(content):,} bytes, and at most {LARGEST_GRAPH:,} are kept; export fewer or "
            "smaller weights"
        )
    try:
        model = onnx.load_model_from_string(content)
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors_of(model)):
            raise TrainingError("the ONNX graph keeps weights in other files; export it as one file")
        check_operators(model)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise TrainingError(f"the ONNX graph is not valid: {str(error).splitlines()[0]}") from error


def tensors_of(model: Any) -> Iterator[Any]:
    """Yield the constants of a graph: its initial values, and those in attributes of operators."""
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in model.graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def check_operators(model: Any) -> None:
    """Raise TrainingError if a graph has functions, or operators that are not allowed; names the first three."""
    operators = {(node.domain, node.op_type) for node in model.graph.node}
    reasons = {
        "are no operators of ONNX": {name for domain, name in operators if domain not in DOMAINS},
        "have a graph of their own, which may not end": {name for _, name in operators if name in ENDLESS},
        "give other predictions the next time": {name for _, name in operators if name in RANDOM},
        "are functions": {function.name for function in model.functions},
    }
    for reason, names in reasons.items():
        if names:
            listed = ", ".join(sorted(names)[:3])
            raise TrainingError(f"the ONNX graph holds {listed}, which {reason}; export it without them")


class OnnxGraph(BaseEstimator):  # type: ignore[misc]
    """A graph with one input of shape (n_rows, n_features), of 32-bit or 64-bit floats.

    Parameters
    ----------
    graph : ndarray of uint8, shape (n_bytes,)
        The file's bytes.
    """

    def __init__(self, graph: npt.NDArray[np.uint8]) -> None:
        self.graph = graph

    def fit(self, X: Any, y: Any = None) -> OnnxGraph:  # noqa: ARG002
        """Raise TypeError: a graph is fitted by the framework that exported it."""
        raise TypeError("an ONNX graph cannot be fitted; fit the estimator that exports it")

    def __sklearn_is_fitted__(self) -> bool:
        """Return True."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the session, which is opened anew where it is needed."""
        return {name: value for name, value in super().__getstate__().items() if name != "session"}

    @cached_property
    def session(self) -> Any:
        """The session of onnxruntime, on one thread of the CPU.

        Raises
        ------
        TrainingError
            If the graph may not be run, or onnxruntime refuses it.
        """
        import onnxruntime  # type: ignore[import-untyped]

        content = self.graph.tobytes()
        check_graph(content)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no public base
            raise TrainingError(f"onnxruntime refuses the ONNX graph: {error}") from error
        kinds = [given.type for given in session.get_inputs()]
        if len(kinds) != 1 or kinds[0] not in TYPES:
            raise TrainingError(
                f"the ONNX graph has the inputs {', '.join(kinds) or 'none'}; give it one input of shape "
                "(rows, features) of floats"
            )
        return session

    def run(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the output of the graph, shape (n_rows, n_outputs).

        It is the output ``probabilities`` where there is one, otherwise the last.
        """
        (given,) = self.session.get_inputs()
        names = [output.name for output in self.session.get_outputs()]
        name = "probabilities" if "probabilities" in names else names[-1]
        values = np.ascontiguousarray(np.asarray(X, TYPES[given.type]))
        (output,) = self.session.run([name], {given.name: values})
        if not isinstance(output, np.ndarray):
            raise TypeError(f"output {name!r} of the ONNX graph is no tensor; export it without ZipMap")
        return output.astype(np.float64).reshape(len(values), -1)


class OnnxRegressor(RegressorMixin, OnnxGraph):  # type: ignore[misc]
    """A graph with one number for each row."""

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the predictions, shape (n_rows,)."""
        output = self.run(X)
        if output.shape[1] != 1:
            raise ValueError(f"the ONNX graph gives {output.shape[1]} numbers for each row, and a prediction is one")
        return output[:, 0]


class OnnxClassifier(ClassifierMixin, OnnxGraph):  # type: ignore[misc]
    """A graph with the probability of each class, or of the second of two.

    Parameters
    ----------
    graph : ndarray of uint8, shape (n_bytes,)
        The file's bytes.
    classes : ndarray of int, shape (n_classes,)
        The classes in the order of the probabilities.
    """

    def __init__(self, graph: npt.NDArray[np.uint8], classes: npt.NDArray[np.int64]) -> None:
        super().__init__(graph)
        self.classes = classes

    @property
    def classes_(self) -> npt.NDArray[np.int64]:
        """The classes, shape (n_classes,)."""
        return self.classes

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probabilities, shape (n_rows, n_classes)."""
        output = self.run(X)
        if output.shape[1] == 1 and len(self.classes) == 2:
            output = np.hstack([1 - output, output])
        if output.shape[1] != len(self.classes):
            raise ValueError(f"the ONNX graph gives {output.shape[1]} probabilities for {len(self.classes)} classes")
        return output

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Return the most likely class of each row, shape (n_rows,)."""
        chosen: npt.NDArray[np.int64] = self.classes[self.predict_proba(X).argmax(axis=1)]
        return chosen
