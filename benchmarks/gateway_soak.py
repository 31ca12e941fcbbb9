"""A gateway that is asked without a pause for ten minutes, while its versions and its canary shares change.

Sixteen clients send the next request as soon as the last one is answered, each under a key that is used once. Every two
seconds the traffic changes: a new version is loaded and takes a canary of 10 and then 50 % of the keys; two of three
become the champion and the third is taken back. Each answer is held to the traffic of its moment: the version to which
that traffic sends the key, and the number that this version gives. At the end the answers are held to the counters and
to the lines of the prediction log, which is not bounded: each line stays on disk.

    GATEWAY_SOAK_SECONDS=30 python -m benchmarks gateway_soak
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count, cycle
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil
import pyarrow.compute as pc
import pyarrow.dataset as ds
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, GatewayProcess
from benchmarks.gateway_clients import Reply, Request, ask_without_pause
from benchmarks.gateway_servers import COLUMNS, VALUES, fit_model, gateway
from benchmarks.row import Row
from benchmarks.traffic_history import TrafficHistory

SECONDS = float(os.environ.get("GATEWAY_SOAK_SECONDS", "600"))
CLIENTS = 16
CHANGE_SECONDS = 2.0
"""Seconds between two changes of the traffic."""
SHARES = (10.0, 50.0)
"""Percent of the keys in the two stages of a canary."""
MODELS = 4
"""Models that versions are made of, in turn; a version has a number of its own."""
SAMPLE_SECONDS = 0.5
SHORTEST_SECONDS = 5.0
"""Shortest run whose fifths have a sample each."""
MEMORY_BAR = 1.05
WRONG_SHOWN = 5


def gateway_soak(*, seconds: float = SECONDS) -> list[Row]:
    """Return the rows: errors, memory and open files of a gateway that is saturated for ten minutes."""
    if seconds < SHORTEST_SECONDS:
        raise ValueError(f"GATEWAY_SOAK_SECONDS is {seconds:g}; it must be at least {SHORTEST_SECONDS:g}")
    models = {str(number): fit_model(converts=False, seed=number) for number in range(1, MODELS + 1)}
    with (
        tempfile.TemporaryDirectory(prefix="airflow-mlops-soak-") as scratch,
        gateway(Path(scratch) / "soak", models) as (server, bodies),
    ):
        soak = Soak(server, Versions(models, bodies))
        soak.run(seconds)
        problems = soak.wrong + count_problems(soak, server)
    for problem in problems[:WRONG_SHOWN]:
        print(f"    {problem}")
    answers = soak.answers.total()
    describe(soak, seconds)
    return [errors_row(len(problems), answers, seconds), cost_row(soak), *flat_rows(soak.samples)]


def describe(soak: Soak, seconds: float) -> None:
    """Print what the run was."""
    answers, busy = soak.answers.total(), soak.cpu_seconds + soak.client_seconds
    print(
        f"    {answers:,} answers by {len(soak.answers)} versions under {len(soak.history.periods)} records; one took "
        f"the gateway {1000 * soak.cpu_seconds / answers:.3f} CPU ms and the clients "
        f"{1000 * soak.client_seconds / answers:.3f}, together {busy / seconds:.0%} of a core"
    )
    memory = ", ".join(f"{part:.0f}" for part in memory_of_parts(soak.samples, min(10, len(soak.samples))))
    print(f"    memory in tenths of the time, in MB: {memory}")


def errors_row(errors: int, answers: int, seconds: float) -> Row:
    """Return the row of wrong answers and wrong counts, beside all answers."""
    return Row(
        name="gateway_soak",
        ours=errors,
        peer=answers,
        unit="errors",
        peer_name=f"answers in {seconds:g} s with a change every {CHANGE_SECONDS:g} s",
        ratio=errors / answers,
        bar="no error, exact counts",
        reached=errors == 0 < answers,
    )


def cost_row(soak: Soak) -> Row:
    """Return the row of the CPU time of an answer, beside that of the client who asks and judges it."""
    ours, peer = (1000 * seconds / soak.answers.total() for seconds in (soak.cpu_seconds, soak.client_seconds))
    return Row(
        name="gateway_soak_cost",
        ours=round(ours, 4),
        peer=round(peer, 4),
        unit="CPU ms",
        peer_name="the client that sends the request and judges the answer",
        ratio=round(ours / peer, 2),
        bar="told",
        reached=True,
    )


@dataclass(frozen=True)
class Sample:
    """The memory in bytes, the open files and the threads of a process at a moment."""

    memory: int
    files: int
    threads: int


def memory_of_parts(samples: list[Sample], parts: int) -> list[float]:
    """Return the median memory in MB of each of so many equal parts of the time."""
    size = len(samples) // parts
    return [median(sample.memory for sample in samples[part * size : (part + 1) * size]) / 1e6 for part in range(parts)]


def flat_rows(samples: list[Sample]) -> list[Row]:
    """Return the rows of memory and of open files: the median of the last fifth beside that of the second fifth."""
    fifth = len(samples) // 5
    early, late = samples[fifth : 2 * fifth], samples[-fifth:]
    memory = [median(sample.memory for sample in part) / 1e6 for part in (late, early)]
    files = [median(sample.files for sample in part) for part in (late, early)]
    peer_name = "the second fifth of the time; ours is the last"
    return [
        Row(
            name="gateway_soak_memory",
            ours=round(memory[0], 1),
            peer=round(memory[1], 1),
            unit="MB",
            peer_name=peer_name,
            ratio=round(memory[0] / memory[1], 4),
            bar=f"ratio <= {MEMORY_BAR:g}",
            reached=memory[0] <= MEMORY_BAR * memory[1],
        ),
        Row(
            name="gateway_soak_files",
            ours=files[0],
            peer=files[1],
            unit="open files",
            peer_name=peer_name,
            ratio=round(files[0] / files[1], 4),
            bar="ours <= peer",
            reached=files[0] <= files[1],
        ),
    ]


class Versions:
    """Versions with numbers that go on, each of one of a few models.

    Parameters
    ----------
    models : dict of str to model
        The models, each by the number of its first version.
    bodies : dict of str to dict
        The control API's bodies of these versions.
    """

    def __init__(self, models: dict[str, Any], bodies: dict[str, Any]) -> None:
        import pandas as pd

        self._bodies, self._firsts, self._numbers = bodies, cycle(models), count(len(models) + 1)
        row = pd.DataFrame([VALUES], columns=COLUMNS)
        self.predictions = {number: float(model.predict(row)[0]) for number, model in models.items()}
        """The prediction of each version for the row."""

    def new(self) -> dict[str, Any]:
        """Return the control API's body of the next version."""
        number, first = str(next(self._numbers)), next(self._firsts)
        self.predictions[number] = self.predictions[first]
        return {**self._bodies[first], "number": number}


class Soak:
    """One run: the clients, the changes of the traffic, and the samples of the process."""

    def __init__(self, server: GatewayProcess, versions: Versions) -> None:
        assert server.child is not None
        self._server, self._versions, self._ended = server, versions, threading.Event()
        self._process = psutil.Process(server.child.pid)
        self.history = TrafficHistory(Traffic(1, next(iter(versions.predictions))))
        self.answers: Counter[str] = Counter()
        """Right answers by version."""
        self.wrong: list[str] = []
        self.samples: list[Sample] = []
        self.cpu_seconds = self.client_seconds = 0.0

    def run(self, seconds: float) -> None:
        """Ask, change and sample for some seconds; every request that was sent is answered afterwards."""
        before, clients_before = sum(self._process.cpu_times()[:2]), time.process_time()
        self.ask_beside(self._sample, partial(self._end_after, seconds))
        self.cpu_seconds = sum(self._process.cpu_times()[:2]) - before
        self.client_seconds = time.process_time() - clients_before

    def ask_beside(self, *others: Callable[[], None]) -> None:
        """Ask and change until one of the others, each in a thread of its own, ends the run."""
        with ThreadPoolExecutor(1 + len(others)) as threads:
            started = [threads.submit(work) for work in (self._change, *others)]
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    requests = [self._requests(client) for client in range(CLIENTS)]
                    runner.run(ask_without_pause(requests, self._judge))
            finally:
                self._ended.set()
            for work in started:
                work.result()

    def _end_after(self, seconds: float) -> None:
        self._ended.wait(seconds)
        self._ended.set()

    def _requests(self, client: int) -> Iterator[Request]:
        """Yield the requests of a client until the end, each for a key of its own."""
        row = dict(zip(COLUMNS, VALUES, strict=True))
        for number in count():
            if self._ended.is_set():
                return
            body = msgspec.json.encode({"id": f"{client}-{number}", **row})
            yield Request(self._server.port, "/predict", body, PREDICT_TOKEN)

    def _judge(self, reply: Reply) -> None:
        """Count an answer if it is the right one, and keep it as wrong if not."""
        key, body = msgspec.json.decode(reply.request.body)["id"], reply.body
        if reply.status != 200:
            self.wrong.append(f"{key} was answered {reply.status or 'by nobody'}: {body[:300]!r}")
            return
        answer = msgspec.json.decode(body)
        version = answer["version"]
        if answer["prediction"] != self._versions.predictions.get(version):
            self.wrong.append(f"{key} was answered {body!r}, which is not the prediction of version {version}")
        elif not self.history.allows(key, version, reply.sent, reply.received):
            self.wrong.append(f"{key} was answered by version {version}, which was not in force for it")
        else:
            self.answers[version] += 1

    def _change(self) -> None:
        """Roll out one version after another until the time is up; every third is taken back."""
        for number in count(1):
            body = self._versions.new()
            for share in SHARES:
                before = self.history.now
                self._apply(body, before.champion, body["number"], "canary", share, f"rollout-{number}")
                if self._ended.wait(CHANGE_SECONDS):
                    return
            self._apply(body, before.champion if number % 3 == 0 else body["number"])
            self._control("finalize", {"traffic": asdict(self.history.now)})
            if self._ended.wait(CHANGE_SECONDS):
                return

    def _apply(self, version: dict[str, Any], champion: str | None, *challenger: Any) -> None:
        self.history.apply(Traffic(self.history.now.order + 1, champion, *challenger), partial(self._send, version))

    def _send(self, version: dict[str, Any], traffic: Traffic) -> None:
        """Send traffic to the gateway, after the version that is rolled out."""
        self._control("prepare", version)
        self._control("traffic", {"traffic": asdict(traffic)})

    def _control(self, path: str, body: dict[str, Any]) -> None:
        self._server.control("PUT", path, body).raise_for_status()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            with self._process.oneshot():
                memory, threads = self._process.memory_info().rss, self._process.num_threads()
            self.samples.append(Sample(memory, self._process.num_fds(), threads))


def count_problems(soak: Soak, server: GatewayProcess) -> list[str]:
    """Stop the gateway; return what differs between the answers, the counters and the lines of the log."""
    by_version, total = dict(soak.answers), soak.answers.total() + len(soak.wrong)
    with server.client() as client:
        page = client.get("/metrics").raise_for_status().text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    rows = {
        sample.labels["version"]: int(sample.value)
        for sample in samples
        if sample.name == "airflow_mlops_gateway_version_rows_total" and sample.value
    }
    server.stop()
    final = server.final_counts()
    log = ds.dataset(sorted(server.log.glob("*.parquet")), format="parquet").to_table(["key", "version"])
    lines = {entry["values"]: entry["counts"] for entry in pc.value_counts(log["version"]).to_pylist()}
    expected = {"requests": {"200": total}, "rows": total, "answered": total, "instead": 0, "lines": total, "lost": 0}
    compared = [
        ("the counters at the end", final, expected),
        ("the counters by version", rows, by_version),
        ("the lines of the log by version", lines, by_version),
        ("the keys in the log", pc.count_distinct(log["key"]).as_py(), total),
    ]
    return [f"{name} are {seen}; the answers are {right}" for name, seen, right in compared if seen != right]
