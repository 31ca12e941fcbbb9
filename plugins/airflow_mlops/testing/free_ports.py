"""Ports of loopback for servers that start later: no two processes of a machine are given the same one.

A port that was free when somebody looked may be another server's when it is used. So each process keeps one port of a
hundred bound while it lives, and gives away the others; all lie below the range from which kernels give ports to
sockets that name none.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

FIRST_PORT = 12_000
PORTS_OF_BLOCK = 100
BLOCKS = 200

_lock = threading.Lock()


@dataclass(frozen=True)
class _Block:
    """The ports of a process, of which the first is bound while it lives."""

    process: int
    bound: socket.socket
    ports: Iterator[int]


_blocks: list[_Block] = []


def free_port() -> int:
    """Return a port of loopback that is free, and that no other process is given while this one lives.

    Raises
    ------
    OSError
        If no port is free.
    """
    with _lock:
        if not _blocks or _blocks[-1].process != os.getpid():  # a fork has the block of its parent
            _blocks.append(_reserve_block())
        for _ in range(PORTS_OF_BLOCK - 1):
            port = next(_blocks[-1].ports)
            if (probe := _bind(port)) is not None:
                probe.close()
                return port
    raise OSError(
        f"none of the {PORTS_OF_BLOCK - 1} ports before {port + 1} of loopback is free: stop what listens there"
    )


def _reserve_block() -> _Block:
    process = os.getpid()
    for number in range(process, process + BLOCKS):
        first = FIRST_PORT + PORTS_OF_BLOCK * (number % BLOCKS)
        if (bound := _bind(first)) is not None:
            return _Block(process, bound, cycle(range(first + 1, first + PORTS_OF_BLOCK)))
    raise OSError(f"{BLOCKS} processes have ports of loopback from {FIRST_PORT} on already: end some of them")


def _bind(port: int) -> socket.socket | None:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None
