"""A scikit-learn model as ONNX, made from the verified model when it is loaded; nothing else is ever read as ONNX."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from airflow_mlops.core.errors import RolloutError


def converted(model: Any, columns: int, *, classifies: bool, nulls: bool) -> Callable[[Any], Any]:
    """Return what predicts an array of shape (n_rows, ``columns``) by ONNX Runtime, on one thread.

    ONNX gives a number for what scikit-learn refuses. So numbers beyond floats of 32 bits are refused here too, and
    null, unless ``nulls`` says that the model takes it.

    Raises
    ------
    RolloutError
        If the extra ``onnx`` is not installed, or the model has no counterpart in ONNX.
    """
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
            made = skl2onnx.to_onnx(model, initial_types=[("X", kind)], options=options)
    except Exception as error:  # a converter may raise anything about a model that it does not know
        raise RolloutError(f"it does not convert: {type(error).__name__}: {str(error)[:200]}") from error
    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = threads.inter_op_num_threads = 1
    threads.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.SerializeToString(), threads, providers=["CPUExecutionProvider"])
    wanted = [session.get_outputs()[1 if classifies else 0].name]
    place = list(model.classes_).index(1) if classifies else 0

    def by_onnx(matrix: Any) -> Any:
        with np.errstate(over="ignore"):
            floats = matrix.astype(np.float32)
        if np.isinf(floats).any() or not (nulls or np.isfinite(floats).all()):
            raise ValueError("a value is null or too large, and the model does not take that")
        found = session.run(wanted, {"X": floats})[0]
        return found[:, place] if classifies else found.reshape(len(matrix))

    return by_onnx
