"""The numbers of the drill, to which each of its parts adds its own: ``build/drill.json``."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).resolve().parents[2]
RESULT = HOUSE / "build" / "drill.json"


def add_numbers(numbers: Mapping[str, Any]) -> None:
    """Add the numbers of a part to those that are there; parts may run beside each other.

    Parameters
    ----------
    numbers : mapping
        By name; those of the same name are replaced.
    """
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    with RESULT.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = json.loads(file.read() or "{}")
        file.truncate(0)
        file.write(json.dumps({**known, **numbers}, indent=1) + "\n")


def kept_numbers() -> dict[str, Any]:
    """Return the numbers that are there."""
    known: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    return known
