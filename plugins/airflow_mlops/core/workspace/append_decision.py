"""Append a decision by optimistic concurrency: a writer who comes second reads the state and decides again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from airflow_mlops.core.errors import LedgerError, StaleLedgerError
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace.workspace import Workspace

D = TypeVar("D", bound=Details)
ATTEMPTS = 20


def append_decision(workspace: Workspace, make_draft: Callable[[LoopState], Draft[D]], *, name: str) -> Record[D]:
    """Append a decision and return its record: compare-and-append with retry while other records come first.

    Parameters
    ----------
    draft_of : callable
        Returns the draft for the state of the loop, or raises if the decision must not be made.
    name : str
        The decision in words, for the error.

    Raises
    ------
    LedgerError
        If other records keep coming first.
    """
    for _ in range(ATTEMPTS):
        state = workspace.state()
        try:
            return workspace.ledger.append(make_draft(state), read=state.sequence)
        except StaleLedgerError:
            continue
    raise LedgerError(
        f"{name} could not be recorded in {ATTEMPTS} attempts: other records keep coming first; try again"
    )
