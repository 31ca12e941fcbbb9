"""The compared servers: the gateway and its peers, each a process of its own with the same model.

Each has its best settings for this test: one worker, one thread for a prediction (several would wait for each other
over a single row), no access log. The gateway asks for its token, holds rows to their contract, splits them,
counts them by unit and logs each, as it always does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, GatewayProcess
from benchmarks.gateway_clients import Request, ask

HERE = Path(__file__).resolve().parent
MLSERVER = HERE.parent / ".venv-mlserver" / "bin"
COLUMNS = [f"x{number}" for number in range(20)]
VALUES = [round(0.1 * number - 1, 3) for number in range(20)]
ROW = json.dumps({"id": "a", **dict(zip(COLUMNS, VALUES, strict=True))}).encode()
TENSORS = json.dumps(
    {
        "inputs": [
            {"name": "id", "datatype": "BYTES", "shape": [1], "data": ["a"]},
            *(
                {"name": name, "datatype": "FP64", "shape": [1], "data": [value]}
                for name, value in zip(COLUMNS, VALUES, strict=True)
            ),
        ]
    }
).encode()
"""The same row by the Open Inference Protocol."""


@dataclass(frozen=True)
class Server:
    """A running server and its request."""

    name: str
    pid: int
    request: Request

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of its processes until now."""
        leader = psutil.Process(self.pid)
        processes = [leader, *leader.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    def cost(self, requests: int) -> float:
        """Return the mean CPU milliseconds of ``requests`` requests, all of which must be answered with 200."""
        cpu_before = self.cpu_seconds()
        is_ready = ask(self.request, requests)
        failed = [answer for answer in is_ready if not answer.startswith(b"200 ")]
        if failed:
            raise RuntimeError(f"{self.name} answered {failed[0][:300]!r}")
        return 1000 * (self.cpu_seconds() - cpu_before) / requests


def fit_model(*, converts: bool, seed: int = 0) -> Any:
    """Return a gradient boosting model of 20 features and 100 trees; ``converts`` takes one that ONNX knows."""
    from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor

    random = np.random.default_rng(seed)
    rows = pd.DataFrame(random.normal(size=(5_000, 20)), columns=COLUMNS)
    label = rows.sum(axis=1) + random.normal(size=5_000)
    if converts:
        return GradientBoostingRegressor(n_estimators=100, random_state=seed).fit(rows, label)
    return HistGradientBoostingRegressor(max_iter=100, early_stopping=False, random_state=seed).fit(rows, label)


@contextmanager
def gateway(folder: Path, models: dict[str, Any], *more: str) -> Iterator[tuple[GatewayProcess, dict[str, Any]]]:
    """Yield a gateway with the first of ``models`` as champion, and the control API's body of each version."""
    from airflow_mlops.core.ports.signing_keys import KeyFolder
    from airflow_mlops.core.registry.model_file import save_model
    from airflow_mlops.core.registry.sign_folder import sign_folder

    columns = "".join(f"  {name}: {{type: float, nullable: false}}\n" for name in COLUMNS)
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(
        "contract: bench\nkey: id\ntime: at\ncolumns:\n  id: {type: text, nullable: false}\n  at: {type: time}\n"
        f"{columns}  y: {{type: float}}\n"
    )
    data = {"source": {"kind": "parquet", "uri": "x/{partition}.parquet"}, "key": "id", "time": "at", "label": "y"}
    (folder / "bench.yaml").write_text(
        json.dumps(
            {
                "model": "bench",
                "owner": "benchmarks",
                "data": {**data, "contract": "contract.yaml"},
                "train": {"function": "benchmarks.gateway_servers:fit_model", "window": 1},
                "gates": [{"metric": "mae", "at_most": 5}],
            }
        )
    )
    keys, control_bodies = KeyFolder(folder / "keys"), {}
    for number, model in models.items():
        version = folder / "lake" / "bench" / "models" / f"new-{number}"
        artefact = save_model(model, version / "model.skops")
        signature = sign_folder(version, keys)
        version.rename(version.with_name(signature.digest))
        control_bodies[number] = {"number": number, "artefact": artefact, "signature": asdict(signature)}
    public = folder / "keys" / "trusted.pub.pem"
    public.write_text("".join(keys.trusted().values()))
    server = GatewayProcess(folder / "bench.yaml", folder, folder / "lake", folder / "served", [public], more).start()
    try:
        for body in control_bodies.values():
            server.control("PUT", "prepare", body).raise_for_status()
        first = next(iter(models))
        server.control("PUT", "traffic", {"traffic": {"order": 1, "champion": first}}).raise_for_status()
        yield server, control_bodies
    finally:
        server.stop()


@contextmanager
def gateway_server(name: str, folder: Path, model: Any, *more: str) -> Iterator[Server]:
    """Yield a gateway with one model as a server."""
    with gateway(folder, {"1": model}, *more) as (server, _bodies):
        assert server.child is not None
        words = server.child.log.read_text()
        assert ("as onnx" if "--onnx" in more else "as array") in words, words
        yield Server(name, server.child.pid, Request(server.port, "/predict", ROW, PREDICT_TOKEN))


@contextmanager
def mlflow_serve(folder: Path, model: Any) -> Iterator[Server]:
    """Yield ``mlflow models serve`` of the same model, with a signature, in this environment."""
    import mlflow
    from mlflow.models import infer_signature

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    path = folder / "mlflow-model"
    example = pd.DataFrame([VALUES], columns=COLUMNS)
    mlflow.sklearn.save_model(
        model,
        path,
        signature=infer_signature(example, model.predict(example)),
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        str(path),
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    body = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [VALUES]}}).encode()
    with run_server("mlflow models serve", command, folder, Request(port, "/invocations", body)) as server:
        yield server


@contextmanager
def mlserver(folder: Path, model: Any) -> Iterator[Server]:
    """Yield MLServer with the same model, from its own environment; it is cheaper without its process pool."""
    import joblib

    home, (http, grpc, metrics) = folder / "mlserver", (free_port() for _ in range(3))
    home.mkdir()
    joblib.dump(model, home / "model.joblib")
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
        "metrics_dir": str(home / "metrics"),
    }
    (home / "settings.json").write_text(json.dumps(settings))
    (home / "model-settings.json").write_text(
        json.dumps(
            {
                "name": "bench",
                "implementation": "mlserver_sklearn.SKLearnModel",
                "parameters": {"uri": "./model.joblib"},
            }
        )
    )
    tensor = {"name": "x", "shape": [1, 20], "datatype": "FP64", "data": [VALUES]}
    body = json.dumps({"inputs": [tensor]}).encode()
    command = [str(MLSERVER / "mlserver"), "start", str(home)]
    with run_server("MLServer", command, folder, Request(http, "/v2/models/bench/infer", body)) as server:
        yield server


@contextmanager
def fastapi(folder: Path, model: Any, *, path: str) -> Iterator[Server]:
    """Yield a bare FastAPI application that predicts an array (``/predict``) or sends a row back (``/echo``)."""
    from airflow_mlops.core.registry.model_file import save_model

    port, file = free_port(), folder / f"fastapi{path.replace('/', '-')}.skops"
    digest = save_model(model, file)
    command = [sys.executable, "-m", "benchmarks.gateway_bare", str(port), str(file), digest]
    with run_server(f"FastAPI {path}", command, folder, Request(port, path, ROW)) as server:
        yield server


@contextmanager
def run_server(name: str, command: list[str], folder: Path, request: Request) -> Iterator[Server]:
    """Start a server with ``command``, and yield it when it answers."""
    python_path = os.pathsep.join([str(HERE.parent), str(HERE.parent / "plugins")])
    programs = os.pathsep.join([str(Path(command[0]).parent), os.environ["PATH"]])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path, "PATH": programs}
    child = start_child(name, command, environment, folder / f"{name.replace(' ', '-').replace('/', '-')}.out")
    try:
        wait_until_ready(child, lambda: is_ready(request), timeout_seconds=120)
        yield Server(name, child.pid, request)
    finally:
        stop_sessions([child.pid], patience_seconds=3)
        child.process.wait()


def is_ready(request: Request) -> bool:
    """Return whether a server answers its request with 200."""
    try:
        return all(answer.startswith(b"200 ") for answer in ask(request, 1))
    except OSError:
        return False
