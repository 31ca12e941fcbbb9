"""What a request for one row costs, in CPU seconds of the server's processes, beside what others ask for it.

Gradient boosting with 20 features, 100 trees, eight clients. All servers run at once, idle but for the one that is
asked; each round asks every one of them in turn, and the median over the rounds counts. ONNX does not know
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
    Server,
    fastapi,
    fitted,
    gateway,
    gateway_server,
    mlflow_serve,
    mlserver,
)
from benchmarks.row import Row

ROUNDS = 5
REQUESTS = 4_000
FEWER = {"mlflow models serve": 400, "MLServer": 2_000}
"""Requests of a round to servers that take much longer for one."""
SWAPS = 20
REQUESTS_A_SWAP = 10_000


def gateway_requests(*, rounds: int = ROUNDS, requests: int = REQUESTS) -> list[Row]:
    """Return the rows of the gateway beside its peers, all measured in one run."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        histogram, older = fitted(converts=False), fitted(converts=True)
        servers = {
            "ours": stack.enter_context(gateway_server("gateway", folder / "array", histogram)),
            "onnx": stack.enter_context(gateway_server("gateway with ONNX", folder / "onnx", older, "--onnx")),
            "bare": stack.enter_context(fastapi(folder, histogram, path="/predict")),
            "echo": stack.enter_context(fastapi(folder, histogram, path="/echo")),
            "mlserver": stack.enter_context(mlserver(folder, histogram)),
            "mlflow": stack.enter_context(mlflow_serve(folder, histogram)),
        }
        cost = measured(servers, rounds, requests)
    for name, each in cost.items():
        print(f"    {servers[name].name:<22}{each:>8.3f} CPU ms a request")
    bars = (
        ("gateway_vs_mlflow_serve", "ours", "mlflow", "mlflow models serve", 1 / 25, "ours <= peer / 25"),
        ("gateway_vs_mlserver", "ours", "mlserver", "MLServer, in its own environment", 1 / 3, "ours <= peer / 3"),
        ("gateway_vs_bare", "ours", "bare", "a FastAPI route, same array prediction", 0.7, "ours <= 0.7 x peer"),
        ("gateway_onnx_vs_echo", "onnx", "echo", "a FastAPI route that sends the row back", 1.5, "ours <= 1.5 x peer"),
    )
    return [
        Row(
            name=name, ours=round(cost[mine], 4), peer=round(cost[theirs], 4), peer_name=words, unit="CPU ms",
            ratio=round(cost[mine] / cost[theirs], 4), bar=bar, reached=cost[mine] <= most * cost[theirs],
        )
        for name, mine, theirs, words, most, bar in bars
    ]  # fmt: skip


def measured(servers: dict[str, Server], rounds: int, requests: int) -> dict[str, float]:
    """Return the median cost of a request to each server, in CPU milliseconds."""
    counts = {name: min(FEWER.get(server.name, requests), requests) for name, server in servers.items()}
    for name, server in servers.items():
        server.cost(max(counts[name] // 4, 16))
    found: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(rounds):
        for name, server in servers.items():
            found[name].append(server.cost(counts[name]))
        print(f"\r    round {number + 1}/{rounds}", end="", flush=True)
    print()
    return {name: median(each) for name, each in found.items()}


def gateway_hot_swaps(*, swaps: int = SWAPS, requests: int = REQUESTS_A_SWAP) -> list[Row]:
    """Return how many of the requests at hot swaps failed: 10,000 are sent around each of 20.

    Around each swap a version is loaded, takes a canary of half of the keys, and becomes the champion; the version
    before is let go. A right answer has status 200 and the number that the version it names has for the row.
    """
    models = {str(number): fitted(converts=True, seed=number) for number in (1, 2, 3)}
    answers: Counter[bytes] = Counter()
    with tempfile.TemporaryDirectory() as scratch, gateway(Path(scratch) / "swaps", models) as (server, told):
        swapper = Swapper(server, told)
        right = {number: swapper.right(number) for number in models}
        request = Request(server.port, "/predict", ROW, PREDICT_TOKEN)
        for swap in range(swaps):
            clients = threading.Thread(target=lambda: answers.update(ask(request, requests)))
            clients.start()
            threading.Event().wait(0.2)
            swapper.to(list(models)[swap % len(models)])
            clients.join()
            print(f"\r    swap {swap + 1}/{swaps}", end="", flush=True)
    print()
    good = {b"200 " + msgspec.json.encode({"prediction": value, "version": one}) for one, value in right.items()}
    wrong = sum(count for answer, count in answers.items() if answer not in good)
    assert answers.total() == swaps * requests
    return [
        Row(
            name="gateway_hot_swaps", ours=wrong, peer=answers.total(), unit="errors", ratio=wrong / answers.total(),
            peer_name=f"requests, {requests:,} at each of {swaps} swaps", bar="no error", reached=wrong == 0,
        )
    ]  # fmt: skip


class Swapper:
    """Tells a gateway what to serve."""

    def __init__(self, server: GatewayProcess, told: dict[str, Any]) -> None:
        self._server, self._told, self._order, self._champion = server, told, 1, next(iter(told))

    def right(self, number: str) -> float:
        """Return what a version says of the row, by letting it serve."""
        self._serve(champion=number)
        self._champion = number
        return float(self._server.predict(json.loads(ROW))["prediction"])

    def to(self, number: str) -> None:
        """Let a version take over: loaded, canary, champion; what is not needed then is let go."""
        self._server.control("PUT", "prepare", self._told[number]).raise_for_status()
        self._serve(champion=self._champion, challenger=number, kind="canary", share=50, salt=str(self._order))
        self._server.control("PUT", "finalize", {"traffic": self._serve(champion=number)}).raise_for_status()
        self._champion = number

    def _serve(self, **said: Any) -> dict[str, Any]:
        self._order += 1
        traffic = {"order": self._order, **said}
        self._server.control("PUT", "traffic", {"traffic": traffic}).raise_for_status()
        return traffic
