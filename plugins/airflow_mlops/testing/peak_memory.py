"""The most memory that this process has used: a process's own, unlike ``ru_maxrss``, which a child inherits.

    forget_peak()
    work()
    assert peak_mb() < 300

Read from ``/proc``, so on Linux only.
"""

from __future__ import annotations

import re
from pathlib import Path

PROCESS = Path("/proc/self")


def peak_mb() -> float:
    """Return the most resident memory of this process in MB, since it began or :func:`forget_peak` was called.

    Raises
    ------
    RuntimeError
        If the system does not say.
    """
    status = PROCESS / "status"
    said = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text() if status.exists() else "", re.MULTILINE)
    if said is None:
        raise RuntimeError(f"{status} tells no VmHWM: peak memory is measured on Linux only")
    return int(said[1]) / 1024


def forget_peak() -> None:
    """Let the peak begin anew at what is resident now."""
    (PROCESS / "clear_refs").write_text("5")
