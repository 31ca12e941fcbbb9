"""Answer the requests of a batch transform job of SageMaker: a file of features in, a file of predictions out.

    GET /ping            200 once the model is loaded
    POST /invocations    a Parquet file of keys and features in, one of keys and predictions out

The folder of the model holds ``model.skops``, this code as ``code.zip``, and ``version.json`` with the digest of the
model, the user's own types that it may hold, and whether it predicts classes.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.errors import TransformError
from airflow_mlops.core.ports.fit_rows import feature_table, features_of
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.registry.own_code import verified_own_types
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats

log = logging.getLogger(__name__)

KEY = "__key__"
"""Column of the key of a row, in both files."""
PARQUET = "application/vnd.apache.parquet"
MODEL, CODE, VERSION = "model.skops", "code.zip", "version.json"
"""The files of a model's folder."""


def write_features(path: Path, keys: Sequence[str], features: pd.DataFrame) -> None:
    """Write keys and features as the Parquet file of a request.

    Raises
    ------
    TransformError
        If a feature has the name of the column of keys.
    """
    if KEY in features.columns:
        raise TransformError(f"a feature is called {KEY!r}, which the file of the rows needs; rename it")
    pq.write_table(feature_table(features).append_column(KEY, pa.array(keys, pa.string())), path)


def prediction_table(keys: pa.ChunkedArray, predictions: Floats) -> pa.Table:
    """Return the Parquet table of an answer: the key of each row, and ``p0``, ``p1``, ... with its predictions."""
    columns = predictions.reshape(len(predictions), -1)
    values = {f"p{place}": pa.array(np.ascontiguousarray(columns[:, place])) for place in range(columns.shape[1])}
    return pa.table({KEY: keys, **values})


class VersionAnswers:
    """The version in a folder, which answers requests."""

    def __init__(self, folder: Path, root: Path) -> None:
        version: dict[str, Any] = json.loads((folder / VERSION).read_text(encoding="utf-8"))
        self.classifies = bool(version["classifies"])
        own_types = verified_own_types(version["own_types"], version["own_code"], root, "the version")
        self.model = load_model(folder / MODEL, version["digest"], own_types)

    def answer(self, body: bytes) -> bytes:
        """Return the file of predictions for a file of features."""
        table = pq.read_table(pa.BufferReader(body))
        predictions = predict(self.model, features_of(table.drop_columns([KEY])), classifies=self.classifies)
        sink = pa.BufferOutputStream()
        pq.write_table(prediction_table(table[KEY], predictions), sink)
        return bytes(sink.getvalue())


def serve(folder: Path, root: Path, host: str, port: int) -> None:
    """Answer requests until the process is ended.

    Parameters
    ----------
    folder : Path
        Of the model.
    root : Path
        Folder of the user's code.
    """
    answers = VersionAnswers(folder, root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200 if self.path == "/ping" else 404, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                status, content = 200, answers.answer(body)
            except Exception as error:  # whatever a model raises is the answer to this request
                traceback.print_exc()
                status, content = 400, f"{type(error).__name__}: {error}".encode()
            self._send(status, content)

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", PARQUET if status == 200 else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    HTTPServer((host, port), Handler).serve_forever()
