"""Measure the CPU time of a request for one row, for the gateway and its peers.

Gradient boosting with 20 features, 100 trees, eight clients. All servers run at once, and one at a
time gets requests; each round measures every server in turn, and the median over the rounds counts. ONNX does not know
scikit-learn's histogram boosting, so its row takes the older gradient boosting, and an echo as its peer.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, GatewayProcess
from benchmarks.gateway_clients import Request, ask
from benchmarks.gateway_servers import (
    ROW,
    TENSORS,
    Server,
    fastapi,
    fit_model,
    gateway,
    gateway_server,
    mlflow_serve,
    mlserver,
)
from benchmarks.row import Row

ROUNDS = 5
REQUESTS = 4_000
FEWER = {"mlflow models serve": 400, "MLServer": 2_000}
"""Requests of a round for servers that are much slower."""
SWAPS = 20
REQUESTS_A_SWAP = 10_000


def gateway_requests(*, rounds: int = ROUNDS, requests: int = REQUESTS) -> list[Row]:
    """Return the rows of the gateway beside its peers, all measured in one run."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        histogram, older = fit_model(converts=False), fit_model(converts=True)
        servers = {
            "ours": stack.enter_context(gateway_server("gateway", folder / "array", histogram)),
            "onnx": stack.enter_context(gateway_server("gateway with ONNX", folder / "onnx", older, "--onnx")),
            "bare": stack.enter_context(fastapi(folder, histogram, path="/predict")),
            "echo": stack.enter_context(fastapi(folder, histogram, path="/echo")),
            "mlserver": stack.enter_context(mlserver(folder, histogram)),
            "mlflow": stack.enter_context(mlflow_serve(folder, histogram)),
        }
        ours = servers["ours"]
        infer = Request(ours.request.port, "/v2/models/bench/infer", TENSORS, PREDICT_TOKEN)
        servers["v2"] = Server("gateway, V2", ours.pid, infer)
        cost = measure_costs(servers, rounds, requests)
    for name, milliseconds in cost.items():
        print(f"    {servers[name].name:<22}{milliseconds:>8.3f} CPU ms a request")
    bars = (
        ("gateway_vs_mlflow_serve", "ours", "mlflow", "mlflow models serve", 1 / 25, "ours <= peer / 25"),
        ("gateway_vs_mlserver", "ours", "mlserver", "MLServer, in its own environment", 1 / 3, "ours <= peer / 3"),
        ("gateway_vs_bare", "ours", "bare", "a FastAPI route, same array prediction", 0.7, "ours <= 0.7 x peer"),
        ("gateway_v2", "v2", "ours", "the same row by /predict", 1.5, "ours <= 1.5 x peer"),
        ("gateway_onnx_vs_echo", "onnx", "echo", "a FastAPI route that sends the row back", 1.5, "ours <= 1.5 x peer"),
    )
    return [
        Row(
            name=name,
            ours=round(cost[our_name], 4),
            peer=round(cost[peer_name], 4),
            peer_name=words,
            unit="CPU ms",
            ratio=round(cost[our_name] / cost[peer_name], 4),
            bar=bar,
            reached=cost[our_name] <= max_ratio * cost[peer_name],
        )
        for name, our_name, peer_name, words, max_ratio, bar in bars
    ]


def measure_costs(servers: dict[str, Server], rounds: int, requests: int) -> dict[str, float]:
    """Return the median cost of a request to each server, in CPU milliseconds."""
    counts = {name: min(FEWER.get(server.name, requests), requests) for name, server in servers.items()}
    for name, server in servers.items():
        server.cost(max(counts[name] // 4, 16))
    costs: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(rounds):
        for name, server in servers.items():
            costs[name].append(server.cost(counts[name]))
        print(f"\r    round {number + 1}/{rounds}", end="", flush=True)
    print()
    return {name: median(values) for name, values in costs.items()}


def gateway_hot_swaps(*, swaps: int = SWAPS, requests: int = REQUESTS_A_SWAP) -> list[Row]:
    """Return the row of failed requests at hot swaps: 10,000 requests are sent around each of 20 swaps.

    Around each swap a version is loaded, takes a canary of half of the keys, and becomes the champion; the version
    before is let go. A right answer has status 200 and the number that the version it names has for the row.
    """
    models = {str(number): fit_model(converts=True, seed=number) for number in (1, 2, 3)}
    answers: Counter[bytes] = Counter()
    with tempfile.TemporaryDirectory() as scratch, gateway(Path(scratch) / "swaps", models) as (server, versions):
        swapper = Swapper(server, versions)
        expected = {number: swapper.expected_prediction(number) for number in models}
        request = Request(server.port, "/predict", ROW, PREDICT_TOKEN)
        for swap in range(swaps):
            clients = threading.Thread(target=lambda: answers.update(ask(request, requests)))
            clients.start()
            threading.Event().wait(0.2)
            swapper.to(list(models)[swap % len(models)])
            clients.join()
            print(f"\r    swap {swap + 1}/{swaps}", end="", flush=True)
    print()
    valid_answers = {
        b"200 " + msgspec.json.encode({"prediction": value, "version": number}) for number, value in expected.items()
    }
    failures = sum(count for answer, count in answers.items() if answer not in valid_answers)
    assert answers.total() == swaps * requests
    return [
        Row(
            name="gateway_hot_swaps",
            ours=failures,
            peer=answers.total(),
            unit="errors",
            ratio=failures / answers.total(),
            peer_name=f"requests, {requests:,} at each of {swaps} swaps",
            bar="no error",
            reached=failures == 0,
        )
    ]


class Swapper:
    """Changes the versions that a gateway serves."""

    def __init__(self, server: GatewayProcess, versions: dict[str, Any]) -> None:
        self._server, self._versions, self._order, self._champion = server, versions, 1, next(iter(versions))

    def expected_prediction(self, number: str) -> float:
        """Return the prediction of a version for the row; makes it the champion."""
        self._serve(champion=number)
        self._champion = number
        return float(self._server.predict(json.loads(ROW))["prediction"])

    def to(self, number: str) -> None:
        """Swap to a version: load it, serve it as canary and then as champion, and unload the others."""
        self._server.control("PUT", "prepare", self._versions[number]).raise_for_status()
        self._serve(champion=self._champion, challenger=number, kind="canary", share=50, salt=str(self._order))
        self._server.control("PUT", "finalize", {"traffic": self._serve(champion=number)}).raise_for_status()
        self._champion = number

    def _serve(self, **traffic_fields: Any) -> dict[str, Any]:
        self._order += 1
        traffic = {"order": self._order, **traffic_fields}
        self._server.control("PUT", "traffic", {"traffic": traffic}).raise_for_status()
        return traffic
