"""Measure what several gateways behind a proxy answer for a second of CPU time, beside one gateway.

Four replicas know each other and stand behind HAProxy, by the file of this repository; one gateway of the same version
stands alone. For each gateway there are eight clients, which pause for random times after each answer: a gateway that
is saturated answers many rows together, which is cheaper, so both are asked at a rate that two cores bear. The CPU time
of the replicas counts, of their questions to each other and of the health checks too; that of the proxy is told beside.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from airflow_mlops.testing.free_ports import free_port
from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, GatewayProcess
from benchmarks.gateway_clients import Request, ask
from benchmarks.gateway_servers import ROW, fit_model, gateway
from benchmarks.row import Row

REPLICAS = 4
ROUNDS = 5
REQUESTS = 1_000
"""Requests of a round for each gateway."""
PAUSE_SECONDS = 0.05
BAR = 0.9


@dataclass(frozen=True)
class Address:
    """An address of gateways, and the processes behind it."""

    request: Request
    gateways: tuple[int, ...]
    proxy: int | None = None

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the gateways until now."""
        return sum(process_seconds(pid) for pid in self.gateways)

    def requests_per_second(self, requests: int) -> float:
        """Return the requests that the gateways answer for a second of CPU time; each must be answered with 200."""
        before = self.cpu_seconds()
        answers = asyncio.run(ask_in_groups(self.request, requests, len(self.gateways)))
        wrong = [answer for answer in answers if not answer.startswith(b"200 ")]
        if wrong:
            raise RuntimeError(f"the address of {len(self.gateways)} gateways answered {wrong[0][:300]!r}")
        return answers.total() / (self.cpu_seconds() - before)


def process_seconds(pid: int) -> float:
    """Return the CPU seconds of a process until now."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def ask_in_groups(request: Request, requests: int, groups: int) -> Counter[bytes]:
    """Send ``requests`` requests by each of several groups of eight clients; return the counts of the answers."""
    answers = await asyncio.gather(
        *[asyncio.to_thread(ask, request, requests, pause_seconds=PAUSE_SECONDS) for _ in range(groups)]
    )
    return sum(answers, Counter())


def fleet_4_gateways(*, rounds: int = ROUNDS, requests: int = REQUESTS) -> list[Row]:
    """Return the row of four gateways behind a proxy beside one gateway, measured in turn in one run."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        model = fit_model(converts=False)
        alone = stack.enter_context(one_gateway(Path(scratch) / "alone", model))
        fleet = stack.enter_context(four_gateways(Path(scratch) / "fleet", model))
        addresses = {"one": alone, "four": fleet}
        rates: dict[str, list[float]] = {name: [] for name in addresses}
        for address in addresses.values():
            address.requests_per_second(max(requests // 4, 16))
        assert fleet.proxy is not None
        proxy_before = process_seconds(fleet.proxy)
        for number in range(rounds):
            for name, address in addresses.items():
                rates[name].append(address.requests_per_second(requests))
            print(f"\r    round {number + 1}/{rounds}", end="", flush=True)
        proxy_milliseconds = 1000 * (process_seconds(fleet.proxy) - proxy_before) / (rounds * requests * REPLICAS)
    print(f"\n    the proxy takes {proxy_milliseconds:.3f} CPU ms a request, which are not counted")
    ours, peer = median(rates["four"]), median(rates["one"])
    return [
        Row(
            name="fleet_4_gateways",
            ours=round(ours, 1),
            peer=round(peer, 1),
            peer_name=f"one gateway; eight clients for each, {1000 * PAUSE_SECONDS:g} ms apart",
            unit="req/CPU-s",
            ratio=round(ours / peer, 4),
            bar=f"ours >= {BAR} x peer",
            reached=ours >= BAR * peer,
        )
    ]


@contextmanager
def one_gateway(folder: Path, model: Any) -> Iterator[Address]:
    """Yield the address of a gateway that is alone."""
    with gateway(folder, {"1": model}) as (server, _bodies):
        yield Address(Request(server.port, "/predict", ROW, PREDICT_TOKEN), (pid_of(server),))


@contextmanager
def four_gateways(folder: Path, model: Any) -> Iterator[Address]:
    """Yield the address of a proxy before four gateways of one version, which know each other."""
    from tests.contracts.gateway.haproxy_server import running_haproxy

    with gateway(folder, {"1": model}) as (first, bodies), ExitStack() as stack:
        first.stop()
        ports = [free_port() for _ in range(REPLICAS)]
        peers = [part for port in ports for part in ("--peer", f"http://127.0.0.1:{port}")]
        replicas = []
        for port in ports:
            replica = replace(first, home=folder / f"served-{port}", port=port, more=peers)
            stack.callback(replica.stop)
            replicas.append(replica.start())
            replica.control("PUT", "prepare", bodies["1"]).raise_for_status()
            replica.control("PUT", "traffic", {"traffic": {"order": 1, "champion": "1"}}).raise_for_status()
        proxy = stack.enter_context(running_haproxy(folder, ports))
        request = Request(proxy.port, "/predict", ROW, PREDICT_TOKEN)
        yield Address(request, tuple(map(pid_of, replicas)), proxy.pid)


def pid_of(server: GatewayProcess) -> int:
    """Return the id of the process of a gateway that runs."""
    assert server.child is not None
    return server.child.pid
