"""The state of the user's code: its git commit, and the digest of the declaration and the code that make a model."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from airflow_mlops.core.data.user_features import features_digest
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.workspace import Workspace

SETUP = ("data", "train", "gates", "evaluate")
"""Sections of a declaration on which it depends which model comes out of the same rows, and whether it passes."""
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


def setup_digest(workspace: Workspace) -> str | None:
    """Return the digest of what makes a model, beside its rows: the declaration and the code; None without the code."""
    loop = workspace.loop
    try:
        code = features_digest(workspace, loop.train.function)
    except TrainingError:
        return None
    declared = loop.model_dump(mode="json", include=set(SETUP))
    return hashlib.sha256(canonical_json({"code": code, **declared}).encode()).hexdigest()[:32]


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
