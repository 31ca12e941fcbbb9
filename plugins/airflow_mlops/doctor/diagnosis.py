"""Findings of the doctor, and the run of all its checks side by side within a limit of time for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.loop import Loop

Level = Literal["ok", "warning", "wrong"]
OK: Final = "ok"
WARNING: Final = "warning"
WRONG: Final = "wrong"


@dataclass(frozen=True)
class Finding:
    """A line of the doctor: what was looked at, how it is, what was seen, and the command that mends it."""

    check: str
    level: Level
    seen: str
    remedy: str = ""


@dataclass(frozen=True)
class Surroundings:
    """The project that is examined: its folder, its loops by model, and declarations that cannot be read."""

    root: Path
    loops: dict[str, Loop]
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """A check: its name, its function, and the seconds that it may take."""

    name: str
    run: Callable[[Surroundings], Iterator[Finding]]
    seconds: float = 10.0


class _Attempt:
    """A check in a thread of its own, which is left behind if it does not end."""

    def __init__(self, check: Check, surroundings: Surroundings) -> None:
        self._check, self._findings = check, list[Finding]()
        self._began = time.monotonic()
        # Nothing can stop a thread that waits for a server, and a daemon keeps no process alive.
        self._thread = threading.Thread(target=self._run, args=(surroundings,), name=check.name, daemon=True)
        self._thread.start()

    def _run(self, surroundings: Surroundings) -> None:
        try:
            for finding in self._check.run(surroundings):
                self._findings.append(finding)
        except Exception as error:  # a check looks at what may be broken in any way, and the others go on
            text = str(error).strip().splitlines() or [""]
            self._findings.append(Finding(self._check.name, WRONG, f"{type(error).__name__}: {text[0]}"))

    def findings(self) -> list[Finding]:
        """Return the findings once the check has ended, or its time is up."""
        self._thread.join(max(0.0, self._began + self._check.seconds - time.monotonic()))
        findings = list(self._findings)
        if self._thread.is_alive():
            findings.append(Finding(self._check.name, WRONG, f"gave no answer in {self._check.seconds:g} s"))
        return findings


def diagnose(checks: Sequence[Check], surroundings: Surroundings) -> list[Finding]:
    """Return the findings of all checks, in their order."""
    attempts = [_Attempt(check, surroundings) for check in checks]
    return [finding for attempt in attempts for finding in attempt.findings()]
