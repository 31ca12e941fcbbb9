"""Decide on what the ledger says now, and record it; who loses to another record reads again and decides again."""

from __future__ import annotations

from collections.abc import Callable

from airflow_mlops.core.errors import LedgerError, StaleLedgerError
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace

ATTEMPTS = 20


def decide(workspace: Workspace, draft_of: Callable[[LoopState], Draft], *, what: str) -> Record:
    """Return the record of a decision.

    Parameters
    ----------
    draft_of : callable
        Given the state of the loop, returns what is to be recorded, or raises where that must not be.
    what : str
        The decision in words, for the error.

    Raises
    ------
    LedgerError
        If other records keep coming first.
    """
    for _ in range(ATTEMPTS):
        state = workspace.state()
        try:
            return workspace.ledger.append(draft_of(state), read=state.sequence)
        except StaleLedgerError:
            continue
    raise LedgerError(f"{what} could not be recorded in {ATTEMPTS} attempts: others keep coming first; try again")
