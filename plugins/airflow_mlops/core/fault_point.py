"""Named points before and after every external write, at which a test stops the process (crash testing).

Set ``AIRFLOW_MLOPS_FAULT=ledger.promoted.after:kill`` and the process is killed as by ``kill -9`` when it gets there.
``raise`` raises instead, and ``stop`` stops the process as by ``kill -STOP``, until somebody lets it go on. Without the
variable a point costs one look into the environment.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

VARIABLE = "AIRFLOW_MLOPS_FAULT"
FAULTS = ("raise", "kill", "stop")
BEFORE, AFTER = "before", "after"

observers: list[Callable[[str], None]] = []
"""Are called with the name of each point that is passed; a test adds its own."""


class InjectedError(RuntimeError):
    """A fault that a test has asked for."""


@contextmanager
def external_write(name: str) -> Iterator[None]:
    """Pass the point ``NAME.before``, and ``NAME.after`` once the block, which writes to a store, has ended.

    Parameters
    ----------
    name : str
        The store and what is written to it, such as ``ledger.promoted`` or ``mlflow.create_run``.
    """
    fault_point(f"{name}.{BEFORE}")
    yield
    fault_point(f"{name}.{AFTER}")


def write(store: str, client: Any, call: str, /, *arguments: Any, **named: Any) -> Any:
    """Return the answer of a client to a call that changes a store, with a point before it and one after."""
    with external_write(f"{store}.{call}"):
        return getattr(client, call)(*arguments, **named)


def fault_point(name: str) -> None:
    """Kill or stop the process, or raise InjectedError, if the environment asks for it at this point."""
    for observer in observers:
        observer(name)
    point, _, fault = os.environ.get(VARIABLE, "").rpartition(":")
    if point != name:
        return
    if fault not in FAULTS:
        raise ValueError(f"{VARIABLE}: {fault!r} is no fault; one of {', '.join(FAULTS)}")
    if fault == "raise":
        raise InjectedError(f"fault injected at {name}")
    if fault == "stop":
        del os.environ[VARIABLE]  # once it goes on, it passes here like any other
    os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
