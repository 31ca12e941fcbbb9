"""Convert a verified scikit-learn model to ONNX when it is loaded; no ONNX file is ever read."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.training.predict import gives_decisions, probability_columns


def convert_to_onnx(model: Any, columns: int, *, classifies: bool, nulls: bool) -> Callable[[Any], Any]:
    """Return a predict function over arrays of shape (n_rows, ``columns``) by ONNX Runtime on one thread.

    ONNX gives numbers for input that scikit-learn refuses. Numbers beyond 32-bit floats are therefore refused here, and
    null as well unless ``nulls`` is true.

    Raises
    ------
    RolloutError
        If the extra ``onnx`` is not installed, or the model has no counterpart in ONNX, or gives no probabilities.
    """
    if classifies and gives_decisions(model):
        raise RolloutError("it gives decisions and no probabilities")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnxruntime, skl2onnx = (importlib.import_module(name) for name in ("onnxruntime", "skl2onnx"))
    except ImportError as error:
        raise RolloutError(f"ONNX needs the extra onnx: {error}") from None
    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    options = {id(model): {"zipmap": False}} if classifies else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = skl2onnx.common.data_types.FloatTensorType([None, columns])
            graph = skl2onnx.to_onnx(model, initial_types=[("X", kind)], options=options)
    except Exception as error:  # a converter may raise anything for an unknown model
        raise RolloutError(f"it does not convert: {type(error).__name__}: {str(error)[:200]}") from error
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), session_options, providers=["CPUExecutionProvider"]
    )
    outputs = [session.get_outputs()[1 if classifies else 0].name]
    columns_of_codes = probability_columns(model) if classifies else 0

    def predict_onnx(matrix: Any) -> Any:
        with np.errstate(over="ignore"):
            floats = matrix.astype(np.float32)
        if np.isinf(floats).any() or not (nulls or np.isfinite(floats).all()):
            raise ValueError("a value is null or too large, and the model does not take that")
        predictions = session.run(outputs, {"X": floats})[0]
        return predictions[:, columns_of_codes] if classifies else predictions.reshape(len(matrix))

    return predict_onnx
