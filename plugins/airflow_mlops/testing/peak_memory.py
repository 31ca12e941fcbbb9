"""The peak resident memory of this process; unlike ``ru_maxrss``, it is not inherited from the parent.

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
    """Return the peak resident memory of this process in MB, since its start or :func:`forget_peak`.

    Raises
    ------
    RuntimeError
        If the system does not report it.
    """
    status = PROCESS / "status"
    match = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text() if status.exists() else "", re.MULTILINE)
    if match is None:
        raise RuntimeError(f"{status} tells no VmHWM: peak memory is measured on Linux only")
    return int(match[1]) / 1024


def forget_peak() -> None:
    """Reset the peak to the present resident memory."""
    (PROCESS / "clear_refs").write_text("5")
