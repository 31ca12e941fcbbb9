"""A gateway killed at random moments under load, while its traffic changes: ``python -m tests.drill.gateway_kills``.

Clients ask without a pause and versions are rolled out, as in the benchmark ``gateway_soak``. At moments of a seed the
gateway is killed as by ``kill -9``, and started again on its own folders, as a supervisor does. What must hold:

* Every answer is right for its moment: a gateway that comes back serves the traffic that it was last told, and nothing
  of which it has loaded a part.
* A request is without an answer, or turned away, only between a kill and the moment the gateway is ready again.
* No line of the log is there twice, and none is of a key that nobody asked for. An answer has a line unless a kill
  came within the seconds after which lines are written.
* The counters of the last traffic are its lines.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec

from airflow_mlops.testing.gateway_process import GatewayProcess
from benchmarks.gateway_clients import Reply
from benchmarks.gateway_servers import fit_model, gateway
from benchmarks.gateway_soak import MODELS, Soak, Versions
from tests.drill.numbers import add_numbers

PAUSE = (0.5, 6.0)
"""Seconds that a gateway is ready before it is killed, drawn evenly."""
LOG_SECONDS = 1.0
LATE_SECONDS = 10.0
"""Longest time between an answer and the file of its line, on a machine that is busy."""
TURNED_AWAY = (0, 503)
"""Status of a request without an answer, and of one that a gateway turns away before it is ready."""
SHOWN = 10


@dataclass
class Outage:
    """The time from a kill until the gateway was ready again, in seconds of :func:`time.monotonic`."""

    since: float
    until: float = math.inf


class KilledSoak(Soak):
    """A soak whose gateway is killed and started again.

    Parameters
    ----------
    server : GatewayProcess
        The gateway.
    versions : Versions
        What is rolled out.
    """

    def __init__(self, server: GatewayProcess, versions: Versions) -> None:
        super().__init__(server, versions)
        self.outages: list[Outage] = []
        self.turned_away = 0
        self.answered_at: dict[str, float] = {}
        """When each key was answered rightly."""
        self.unanswered: set[str] = set()

    def kill_often(self, kills: int, chance: random.Random) -> None:
        """Kill the gateway so many times, start it again each time, and end the run."""
        try:
            for number in range(kills):
                self._ended.wait(chance.uniform(*PAUSE))
                outage = Outage(time.monotonic())
                self.outages.append(outage)
                self._server.stop(signal.SIGKILL)
                self._server.start(until="/ready")
                outage.until = time.monotonic()
                print(f"\r    killed {number + 1}/{kills}", end="", flush=True)
            self._ended.wait(PAUSE[0])
        finally:
            self._ended.set()
            print()

    def _judge(self, reply: Reply) -> None:
        key = msgspec.json.decode(reply.request.body)["id"]
        if reply.status in TURNED_AWAY and any(
            outage.since <= reply.received and reply.sent <= outage.until for outage in self.outages
        ):
            self.turned_away += 1
            self.unanswered.add(key)
            return
        wrong_before = len(self.wrong)
        super()._judge(reply)
        if len(self.wrong) == wrong_before:
            self.answered_at[key] = reply.received

    def _control(self, path: str, body: dict[str, Any]) -> None:
        """Send a body until it is answered; a kill may come before, between or after."""
        while True:
            try:
                return super()._control(path, body)
            except httpx.TransportError:
                time.sleep(0.1)

    def _send(self, version: dict[str, Any], traffic: Any) -> None:
        """Send version and traffic; both again if the gateway was killed between them and has lost the version."""
        while True:
            try:
                return super()._send(version, traffic)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
                    raise


def kill_gateway(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill a gateway under load, and return the numbers and the violations."""
    models = {str(number): fit_model(converts=False, seed=number) for number in range(1, MODELS + 1)}
    with gateway(folder / "soak", models, "--log-seconds", f"{LOG_SECONDS:g}") as (server, bodies):
        soak = KilledSoak(server, Versions(models, bodies))
        soak.ask_beside(partial(soak.kill_often, kills, random.Random(seed)))
        counted = server.control("GET", "telemetry").raise_for_status().json()
        server.stop()
        lines = server.lines()
    of_lines = line_violations(soak.answered_at, soak.unanswered, soak.outages, (line["key"] for line in lines))
    return {
        "kills": len(soak.outages),
        "seed": seed,
        "answers": len(soak.answered_at),
        "turned_away": soak.turned_away,
        "traffics": len(soak.history.periods),
        "versions": len(soak.answers),
        "lines": len(lines),
        "violations": [*soak.wrong, *of_lines, *count_violations(counted, lines)][:SHOWN],
    }


def line_violations(
    answered_at: Mapping[str, float], unanswered: Set[str], outages: Sequence[Outage], keys: Iterable[str]
) -> list[str]:
    """Return the differences between the answers and the lines of the log.

    Parameters
    ----------
    answered_at : mapping of str to float
        When each key was answered, in seconds of :func:`time.monotonic`.
    unanswered : set of str
        Keys without an answer.
    outages : sequence of Outage
        The kills.
    keys : iterable of str
        The key of each line.
    """
    logged = Counter(keys)

    def excused(answered: float) -> bool:
        return any(outage.since - LATE_SECONDS <= answered <= outage.until for outage in outages)

    needless = [key for key, answered in answered_at.items() if key not in logged and not excused(answered)]
    unknown = logged.keys() - answered_at.keys() - unanswered
    return [
        *(f"{key} has {times} lines" for key, times in logged.items() if times > 1),
        *(f"{key} was answered, no kill followed, and it has no line" for key in needless),
        *(f"{key} has a line, and nobody asked for it" for key in sorted(unknown)),
    ]


def count_violations(counted: dict[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    """Return the differences between the counters of the last traffic and its lines."""
    mine = sum(line["order"] == counted["order"] for line in lines)
    requests = counted["champion"]["requests"] + counted["challenger"]["requests"]
    return [] if mine == requests else [f"record {counted['order']} has {mine} lines and counted {requests} rows"]


def main(argv: Sequence[str] | None = None) -> int:
    """Kill a gateway under load; return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill.gateway_kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=19)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-kills-") as folder:
        result = kill_gateway(arguments.kills, arguments.seed, Path(folder))
    add_numbers({"gateway_kills": result["kills"], "gateway": result})
    print(json.dumps(result, indent=1))
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
