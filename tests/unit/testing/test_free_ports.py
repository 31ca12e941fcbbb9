"""No two processes are given one port, however long it stays unused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import airflow_mlops
from airflow_mlops.testing.free_ports import PORTS_OF_BLOCK, free_port

PRINT_PORTS = """
import sys
from airflow_mlops.testing.free_ports import free_port
print(*(free_port() for _ in range(60)), flush=True)
sys.stdin.read()
"""


def send_ports(pipe: object) -> None:
    pipe.send([free_port() for _ in range(60)])  # type: ignore[attr-defined]


def test_processes_that_live_at_once_are_given_different_ports() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(airflow_mlops.__file__).parents[1])}
    others = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT_PORTS],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    given = [free_port() for _ in range(60)]
    for process in others:
        assert process.stdout is not None
        given += [int(port) for port in process.stdout.readline().split()]
    for process in others:
        process.communicate()
    assert len(set(given)) == 240


def test_a_fork_is_given_none_of_its_parent() -> None:
    mine = {free_port() for _ in range(60)}
    receiver, sender = get_context("fork").Pipe(duplex=False)
    child = get_context("fork").Process(target=send_ports, args=(sender,))
    child.start()
    assert mine.isdisjoint(receiver.recv())
    child.join()


def test_a_port_where_somebody_listens_is_passed_over() -> None:
    taken = [socket.create_server(("127.0.0.1", free_port())) for _ in range(10)]
    numbers = {server.getsockname()[1] for server in taken}
    given = {free_port() for _ in range(2 * PORTS_OF_BLOCK)}
    for server in taken:
        server.close()
    assert len(given) > PORTS_OF_BLOCK / 2
    assert given.isdisjoint(numbers)
