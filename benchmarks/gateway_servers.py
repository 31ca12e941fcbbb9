"""The servers that are compared: the gateway and its peers, each a process of its own with the same model.

Every one gets what is best for it here: one worker, one thread for a prediction (a pool of them would wait for each
other over a single row), no access log. The gateway asks for its token, holds rows to their contract, splits them,
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
from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, GatewayProcess, free_port
from benchmarks.gateway_clients import Request, ask

HERE = Path(__file__).resolve().parent
MLSERVER = HERE.parent / ".venv-mlserver" / "bin"
COLUMNS = [f"x{number}" for number in range(20)]
VALUES = [round(0.1 * number - 1, 3) for number in range(20)]
ROW = json.dumps({"id": "a", **dict(zip(COLUMNS, VALUES, strict=True))}).encode()


@dataclass(frozen=True)
class Server:
    """A running server and what it is asked."""

    name: str
    pid: int
    request: Request

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of its processes until now."""
        leader = psutil.Process(self.pid)
        family = [leader, *leader.children(recursive=True)]
        return sum(sum(each.cpu_times()[:2]) for each in family)

    def cost(self, requests: int) -> float:
        """Return the CPU milliseconds of one of ``requests`` requests; every one must be answered with 200."""
        began = self.cpu_seconds()
        answers = ask(self.request, requests)
        strange = [answer for answer in answers if not answer.startswith(b"200 ")]
        if strange:
            raise RuntimeError(f"{self.name} answered {strange[0][:300]!r}")
        return 1000 * (self.cpu_seconds() - began) / requests


def fitted(*, converts: bool, seed: int = 0) -> Any:
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
    """Give a gateway of which the first of ``models`` is the champion, and what the control API is told of each."""
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
    (folder / "bench.yaml").write_text(json.dumps({
        "model": "bench", "owner": "benchmarks", "data": {**data, "contract": "contract.yaml"},
        "train": {"function": "benchmarks.gateway_servers:fitted", "window": 1},
        "gates": [{"metric": "mae", "at_most": 5}],
    }))  # fmt: skip
    keys, told = KeyFolder(folder / "keys"), {}
    for number, model in models.items():
        version = folder / "lake" / "bench" / "models" / f"new-{number}"
        artefact = save_model(model, version / "model.skops")
        signature = sign_folder(version, keys)
        version.rename(version.with_name(signature.digest))
        told[number] = {"number": number, "artefact": artefact, "signature": asdict(signature)}
    public = folder / "keys" / "trusted.pub.pem"
    public.write_text("".join(keys.trusted().values()))
    server = GatewayProcess(folder / "bench.yaml", folder, folder / "lake", folder / "served", [public], more).start()
    try:
        for said in told.values():
            server.control("PUT", "prepare", said).raise_for_status()
        first = next(iter(models))
        server.control("PUT", "traffic", {"traffic": {"order": 1, "champion": first}}).raise_for_status()
        yield server, told
    finally:
        server.stop()


@contextmanager
def gateway_server(name: str, folder: Path, model: Any, *more: str) -> Iterator[Server]:
    """Give a gateway with one model, and what it is asked."""
    with gateway(folder, {"1": model}, *more) as (server, _told):
        assert server.child is not None
        words = server.child.log.read_text()
        assert ("as onnx" if "--onnx" in more else "as array") in words, words
        yield Server(name, server.child.pid, Request(server.port, "/predict", ROW, PREDICT_TOKEN))


@contextmanager
def mlflow_serve(folder: Path, model: Any) -> Iterator[Server]:
    """Give ``mlflow models serve`` of the same model, with a signature, in this environment."""
    import mlflow
    from mlflow.models import infer_signature

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    path = folder / "mlflow-model"
    example = pd.DataFrame([VALUES], columns=COLUMNS)
    mlflow.sklearn.save_model(
        model, path, signature=infer_signature(example, model.predict(example)), pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )  # fmt: skip
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(path), "--env-manager", "local",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    body = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [VALUES]}}).encode()
    with running("mlflow models serve", command, folder, Request(port, "/invocations", body)) as server:
        yield server


@contextmanager
def mlserver(folder: Path, model: Any) -> Iterator[Server]:
    """Give MLServer with the same model, from its own environment; without its pool of processes it costs less."""
    import joblib

    place, (http, grpc, metrics) = folder / "mlserver", (free_port() for _ in range(3))
    place.mkdir()
    joblib.dump(model, place / "model.joblib")
    settings = {
        "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics, "parallel_workers": 0,
        "debug": False, "metrics_dir": str(place / "metrics"),
    }  # fmt: skip
    (place / "settings.json").write_text(json.dumps(settings))
    (place / "model-settings.json").write_text(json.dumps({
        "name": "bench", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"},
    }))  # fmt: skip
    tensor = {"name": "x", "shape": [1, 20], "datatype": "FP64", "data": [VALUES]}
    body = json.dumps({"inputs": [tensor]}).encode()
    command = [str(MLSERVER / "mlserver"), "start", str(place)]
    with running("MLServer", command, folder, Request(http, "/v2/models/bench/infer", body)) as server:
        yield server


@contextmanager
def fastapi(folder: Path, model: Any, *, path: str) -> Iterator[Server]:
    """Give a bare FastAPI application that predicts an array (``/predict``) or sends a row back (``/echo``)."""
    from airflow_mlops.core.registry.model_file import save_model

    port, file = free_port(), folder / f"fastapi{path.replace('/', '-')}.skops"
    digest = save_model(model, file)
    command = [sys.executable, "-m", "benchmarks.gateway_bare", str(port), str(file), digest]
    with running(f"FastAPI {path}", command, folder, Request(port, path, ROW)) as server:
        yield server


@contextmanager
def running(name: str, command: list[str], folder: Path, request: Request) -> Iterator[Server]:
    """Give a server that was started with ``command``, once it answers."""
    found = os.pathsep.join([str(HERE.parent), str(HERE.parent / "plugins")])
    programs = os.pathsep.join([str(Path(command[0]).parent), os.environ["PATH"]])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": found, "PATH": programs}
    child = start_child(name, command, environment, folder / f"{name.replace(' ', '-').replace('/', '-')}.out")
    try:
        wait_until_ready(child, lambda: answers(request), timeout_seconds=120)
        yield Server(name, child.pid, request)
    finally:
        stop_sessions([child.pid], patience_seconds=3)
        child.process.wait()


def answers(request: Request) -> bool:
    """Whether a server answers its request."""
    try:
        return all(answer.startswith(b"200 ") for answer in ask(request, 1))
    except OSError:
        return False
