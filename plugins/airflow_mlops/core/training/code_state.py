"""The git commit of the user's code."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 20


def code_state(root: Path) -> dict[str, Any] | None:
    """Return ``commit`` and ``dirty`` of the project folder; None if it is in no repository or git is missing.

    ``dirty`` says whether a file of it is changed or not yet known to git; None where git does not say in time.
    """
    commit = git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changed = git(root, "status", "--porcelain", "--", ".")
    return {"commit": commit.strip(), "dirty": None if changed is None else bool(changed)}


def git(root: Path, *arguments: str) -> str | None:
    """Return the output of a git command in a folder; None if git is missing or fails."""
    try:
        process = subprocess.run(  # noqa: S603
            ["git", "--no-optional-locks", "-C", str(root), *arguments],  # noqa: S607 - whichever git the worker has
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout
