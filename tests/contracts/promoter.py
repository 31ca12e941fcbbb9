"""A promoter in a process of its own, run by ``python -m tests.contracts.promoter LEDGER_URL MLFLOW_URI MODEL FOLDER``.

Each line on standard input is a version to promote. The process reads the ledger, answers ``ready`` and waits for a
line with the time to go at, so that another promoter has read the same; then it promotes, and answers how that ended.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.rollout.roll_out import _promote
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import toy_loop, week


def workspace_of(ledger_url: str, tracking_uri: str, model: str, folder: str, actor: str) -> Workspace:
    """Return a workspace with engines and clients of its own."""
    stores = Stores(Lake.on_disk(Path(folder) / "lake"), ledger_url, tracking_uri)
    return open_workspace(toy_loop(model=model), stores, root=Path(folder), actor=actor)


def main() -> None:
    """Promote the version of each line of the standard input."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    workspace = workspace_of(*sys.argv[1:5], actor=f"promoter {os.getpid()}")
    workspace.registry.aliases()
    for line in sys.stdin:
        version = line.strip()
        state = workspace.state()
        answers.write(f"ready {state.sequence}\n")
        start = float(sys.stdin.readline())
        while time.monotonic() < start:
            pass
        try:
            _promote(workspace, state, version, week(1))
            answers.write("won\n")
        except MlopsError as error:
            answers.write(f"lost {type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main()
