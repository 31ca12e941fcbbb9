"""Start child processes, and stop them with all their descendants.

Each child leads a session of its own, which its forks cannot leave by accident (Airflow moves its tasks to
process groups of their own, so a group is not enough). Stopping means: terminate the leader, wait, and
then kill every process that is still in the session.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

LOG_TAIL_LINES = 25


class StartError(RuntimeError):
    """A process ended, or did not answer in time, while it was being started."""


@dataclass(frozen=True)
class Child:
    """A running process, the leader of its session, and the file that holds its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The id of the process, and of its session."""
        return self.process.pid

    def tail(self) -> str:
        """Return the last lines of the output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def start_child(name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
    """Start ``command`` in a session of its own; its output goes to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(name, process, log)


def finish_child(child: Child, *, timeout_seconds: float) -> None:
    """Wait for a command that ends by itself.

    Raises
    ------
    StartError
        If it does not end in time or does not return 0; the message holds the tail of its log.
    """
    try:
        code = child.process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        stop_sessions([child.pid])
        raise StartError(f"{child.name} did not finish within {timeout_seconds:g} s.\n{child.tail()}") from None
    if code:
        raise StartError(f"{child.name} returned {code} instead of 0. Its log ends:\n{child.tail()}")


def wait_until_ready(child: Child, ready: Callable[[], bool], *, timeout_seconds: float) -> float:
    """Wait until ``ready`` returns True and return the seconds it took.

    Raises
    ------
    StartError
        If the process ends, or the time is up; the message holds the tail of its log.
    """
    began = time.monotonic()
    while not ready():
        waited = time.monotonic() - began
        if (code := child.process.poll()) is not None:
            raise StartError(f"{child.name} ended with {code} while starting. Its log ends:\n{child.tail()}")
        if waited > timeout_seconds:
            raise StartError(
                f"{child.name} was not ready after {timeout_seconds:g} s. Its log, {child.log}, ends:\n{child.tail()}"
            )
        time.sleep(0.15)
    return time.monotonic() - began


def session_members(sessions: Iterable[int]) -> list[psutil.Process]:
    """Return the live processes whose session is one of ``sessions``; zombies do not count."""
    session_ids = set(sessions)
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in session_ids and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue  # it has exited meanwhile, or belongs to another user
    return members


def stop_sessions(sessions: Sequence[int], *, patience_seconds: float = 8.0) -> None:
    """Terminate the leaders, then kill the remaining processes of their sessions.

    Raises
    ------
    RuntimeError
        If a process outlives being killed (it hangs in the kernel); the message names it.
    """
    for leader in sessions:
        _send(leader, signal.SIGTERM)
    if _wait_until_empty(sessions, patience_seconds):
        return
    for process in session_members(sessions):
        _send(process.pid, signal.SIGKILL)
    if not _wait_until_empty(sessions, 5.0):
        survivors = ", ".join(f"{p.pid} {p.name()}" for p in session_members(sessions))
        raise RuntimeError(f"These processes outlived SIGKILL: {survivors}. Look at them with `ps -o pid,stat,wchan`.")


def _wait_until_empty(sessions: Sequence[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while session_members(sessions):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has exited already
