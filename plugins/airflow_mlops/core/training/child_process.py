"""A child process that is watched while it runs and killed with all its descendants at the end.

It leads a session, so that its descendants can be found and killed with it. Its standard input stays open as long
as the parent lives: a child that reads its end exits, so none is left over when the worker is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

LOG = logging.getLogger(__name__)
PROCESSES = Path("/proc")
PAUSE_SECONDS = 0.1
LONGEST_LINE = 2_000
JOIN_SECONDS = 5
INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONHASHSEED",
    "LOKY_MAX_CPU_COUNT",
    "CUDA_VISIBLE_DEVICES",
)
"""Environment variables that a child inherits: nothing of Airflow, no connection, no credentials."""
OF_ARITHMETIC = ("OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "KMP_", "NPY_")
"""How further ones begin: they choose threads and kernels, so without them a child adds up in another order."""


def inherited_variables() -> dict[str, str]:
    """Return the environment variables of this process that a child inherits."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | arithmetic_variables()


def arithmetic_variables() -> dict[str, str]:
    """Return the environment variables of this process that choose threads and kernels."""
    return {name: value for name, value in os.environ.items() if name.startswith(OF_ARITHMETIC)}


class AttendedChild:
    """A running child process whose output is read while it runs; the caller must ``close`` it.

    Parameters
    ----------
    command : sequence of str
        Program and arguments. Every user of the machine can see them.
    request : bytes
        One line for its standard input.
    variables : mapping
        Environment variables beside :func:`inherited_variables`.
    """

    def __init__(self, command: Sequence[str], request: bytes, variables: Mapping[str, str]) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603
            list(command),
            env=inherited_variables() | dict(variables),
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self.answer = b""
        self.last_lines: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_answer, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        with suppress(BrokenPipeError):  # it exited before it read; the exit code tells why
            self.process.stdin.write(request + b"\n")
            self.process.stdin.flush()

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self.started

    def attend(self, watch: Callable[[AttendedChild], None]) -> int:
        """Wait for the exit, call ``watch`` every 0.1 s, and return the exit code; errors of ``watch`` propagate."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(timeout=PAUSE_SECONDS)
                for reader in self._readers:
                    reader.join(JOIN_SECONDS)
                return code
            watch(self)

    def kill(self) -> None:
        """Kill the child and all its descendants; safe to call again."""
        for pid in {self.process.pid, *session_of(self.process.pid)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the child if it still runs, and close the pipes."""
        if self.process.poll() is None or session_of(self.process.pid):
            self.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(JOIN_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def resident_mb(self) -> float | None:
        """Return the resident memory of the child and its descendants in MB; None without ``/proc``.

        Shared pages count once for each process.
        """
        if not PROCESSES.is_dir():
            return None
        pages = sum(resident for _, resident in processes_in(self.process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _read_answer(self, pipe: IO[bytes]) -> None:
        self.answer = pipe.read()

    def _read_log(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            text = line.decode(errors="replace").rstrip()[:LONGEST_LINE]
            if text:
                self.last_lines = [*self.last_lines[-19:], text]
                LOG.info("%s", text)


def session_of(leader: int) -> list[int]:
    """Return the process ids of a session; empty without ``/proc``."""
    return [pid for pid, _ in processes_in(leader)]


def processes_in(session: int) -> list[tuple[int, int]]:
    """Return id and resident pages of each process of a session; without zombies."""
    processes = []
    for folder in PROCESSES.glob("[0-9]*"):
        try:
            # The name of the program, in brackets, may hold anything; what follows it is numbers.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has exited meanwhile
        if int(fields[3]) == session and fields[0] != "Z":
            processes.append((int(folder.name), int(fields[21])))
    return processes
