"""An MLflow server and an S3, each behind a faulty proxy, and clients that give up soon.

The proxies and the S3 stand in a process of their own, because libraries that hold the interpreter while they wait for
an answer would otherwise wait for themselves.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.lake import Lake
from airflow_mlops.testing.faulty_proxy import FaultyProxy, Request

MLFLOW, S3 = "mlflow", "s3"
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
}
"""Settings with which MLflow's client gives up after two attempts of a second, and not after minutes."""
BUCKET = "drilled"
ACCESS = {"key": "key", "secret": "hunter2", "region": "us-east-1"}


class ImpatientLake(Lake):
    """A lake in S3 whose clients give up after two attempts of a second, and not after minutes."""

    def __truediv__(self, name: str) -> Lake:
        return ImpatientLake(f"{self.uri.rstrip('/')}/{name}", self.s3)

    def file_system(self) -> Any:
        """Return the file system of pyarrow; see :meth:`Lake.file_system`."""
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        return S3FileSystem(
            access_key=ACCESS["key"],
            secret_key=ACCESS["secret"],
            region=ACCESS["region"],
            endpoint_override=self.s3["endpoint"],
            request_timeout=1,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=2),
        )

    def storage_options(self) -> dict[str, str]:
        """Return the options of delta-rs; see :meth:`Lake.storage_options`."""
        patience = {"max_retries": "1", "retry_timeout": "10s", "timeout": "1s", "backoff_config.init_backoff": "10ms"}
        return super().storage_options() | patience


class Sweep:
    """Disturbs one kind of request of each attempt: the first that was not disturbed yet.

    A request that writes is disturbed in each task that makes it, and one that reads in the first.

    Parameters
    ----------
    fault : str
        See :mod:`airflow_mlops.testing.faulty_proxy`.
    times : int, optional
        How many requests of the kind are disturbed in an attempt; all if not given.
    """

    def __init__(self, fault: str, times: int | None) -> None:
        self.fault, self.times = fault, times
        self.tried: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self.begin("")

    def begin(self, task: str) -> None:
        """Begin an attempt of a task."""
        self.task, self.count = task, 0
        self.chosen: tuple[str, str] | None = None

    def rule(self, server: str) -> Callable[[Request], str | None]:
        """Return the rule of the proxy of a server."""

        def fault_of(request: Request) -> str | None:
            if self.fault == "stale" and not request.answered:
                return None
            place = ("" if request.reads else self.task, f"{server} {kind_of(request)}")
            with self._lock:
                if self.chosen is None and place not in self.tried:
                    self.chosen = place
                    self.tried.add(place)
                if place != self.chosen or (self.times is not None and self.count >= self.times):
                    return None
                self.count += 1
                return self.fault

        return fault_of


def kind_of(request: Request) -> str:
    """Return the kind of a request: its method and its address, without numbers, digests and names of models."""
    path = re.sub(r"[0-9a-f]{32,64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "H", request.path)
    path = re.sub(r"(?<=/lake/)[^/]+", "M", path)
    return f"{request.method} {re.sub(r'[0-9]+', 'N', path)}"


class Network:
    """The proxies, and the S3 behind one of them; lives in a process of its own.

    Parameters
    ----------
    mlflow : str
        Address of the MLflow server.
    """

    def __init__(self, mlflow: str) -> None:
        from moto.server import ThreadedMotoServer
        from pyarrow.fs import S3FileSystem

        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        files = S3FileSystem(
            access_key=ACCESS["key"],
            secret_key=ACCESS["secret"],
            region=ACCESS["region"],
            endpoint_override=endpoint,
            allow_bucket_creation=True,
        )
        files.create_dir(BUCKET)
        self._proxies = {MLFLOW: FaultyProxy(mlflow), S3: FaultyProxy(endpoint)}
        for proxy in self._proxies.values():
            proxy.__enter__()
        self._sweep: Sweep | None = None

    def urls(self) -> dict[str, str]:
        """Return the addresses of the proxies."""
        return {server: proxy.url for server, proxy in self._proxies.items()}

    def rule(self, rules: dict[str, Callable[[Request], str | None]]) -> None:
        """Replace the rules of the proxies; without one a proxy disturbs nothing."""
        for server, proxy in self._proxies.items():
            proxy.rule = rules.get(server)
            proxy.disturbed.clear()

    def disturbed(self) -> list[str]:
        """Return the kinds of the requests that were disturbed since the rules were replaced."""
        return [
            f"{server} {kind_of(request)}" for server, proxy in self._proxies.items() for request in proxy.disturbed
        ]

    def begin_sweep(self, fault: str, times: int | None) -> None:
        """Begin to disturb one kind of request after the other."""
        self._sweep = Sweep(fault, times)

    def begin_attempt(self, task: str) -> None:
        """Begin an attempt of a task, in which one kind of request is disturbed."""
        if self._sweep is not None:
            self._sweep.begin(task)
            self.rule({server: self._sweep.rule(server) for server in self._proxies})

    def end_attempt(self) -> str:
        """Disturb nothing any more, and return the kind of request that was disturbed; empty if there was none."""
        self.rule({})
        return self._sweep.chosen[1] if self._sweep is not None and self._sweep.chosen is not None else ""

    def tried(self) -> list[tuple[str, str]]:
        """Return the kinds that were disturbed by the sweep, each with its task; none with one that reads."""
        return [] if self._sweep is None else sorted(self._sweep.tried)

    def fault(self) -> str:
        """Return the fault of the sweep; empty without one."""
        return "" if self._sweep is None else self._sweep.fault

    def end_sweep(self) -> None:
        """Disturb nothing any more."""
        self._sweep = None
        self.rule({})


class _Manager(BaseManager):
    """Starts the process of the network, and calls it."""

    if TYPE_CHECKING:

        def Network(self, mlflow: str) -> Network: ...  # noqa: N802 - the manager names it like the class


_Manager.register("Network", Network)


@contextmanager
def faulty_network(mlflow: str) -> Iterator[Network]:
    """Yield the network before an MLflow server, and with it an S3 that holds an empty bucket."""
    with _Manager(ctx=multiprocessing.get_context("spawn")) as manager:
        yield manager.Network(mlflow)


def lake_in(network: Network) -> Lake:
    """Return the lake in the S3 of a network."""
    return ImpatientLake(f"s3://{BUCKET}/lake", {**ACCESS, "endpoint": network.urls()[S3]})
