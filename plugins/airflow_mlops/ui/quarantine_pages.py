"""The page with some rows of a quarantine, for those who may release them.

It alone reads a table of rows: when a person asks for it, some rows, and values that are personal are left out.

This module does not postpone annotations: FastAPI would read a guard in text form as a parameter of the address.
"""

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Depends, HTTPException, Request, Response

from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.ui.airflow_facts import LoopFacts, loop_facts
from airflow_mlops.ui.guards import require_control_access, require_watch_access
from airflow_mlops.ui.model_pages import Model, Named, ledger_of, opened_stores, page

LISTED = 24
"""Newest partitions among which those with bad rows are listed."""
router = APIRouter()


@router.get("/models/{model}/quarantine", dependencies=[Depends(require_watch_access), Depends(require_control_access)])
def quarantine(model: Model, request: Request, session: SessionDep, partition: Named = "") -> Response:
    """Answer with rows of a partition's quarantine by reason; of the newest one that has some, if none is named."""
    from airflow_mlops.core.data.delta_snapshots import DeltaPartitions
    from airflow_mlops.core.data.quarantined_rows import open_quarantine
    from airflow_mlops.core.data.sample_quarantine import QuarantineSample, sample_quarantine
    from airflow_mlops.core.declaration.partition_key import partition_key

    with opened_stores() as (stores, database, ledgers):
        facts = LoopFacts() if model in ledgers else loop_facts(session, [model]).get(model, LoopFacts())
        state = ledger_of(ledgers, model, facts, stores.ledger_url).state()
        listed = partitions_with_bad_rows(state)
        try:
            key = partition_key(partition) if partition else next(iter(listed), None)
        except DataError as error:
            raise HTTPException(404, str(error)) from None
        if key is None:
            raise HTTPException(404, f"none of the newest {LISTED} partitions of {model} has rows in quarantine")
        if key not in state.published and key not in state.refused:
            raise HTTPException(404, f"there is no partition {key} of {model}")
        details = state.refused.get(key) or state.published[key]
        try:
            rows = open_quarantine(DeltaPartitions(stores.lake / model / "quarantine"), state, key)
            sample: QuarantineSample | None = sample_quarantine(rows, details.personal)
            missing = ""
        except DataError as error:
            sample, missing = None, str(error)
    return page(
        "quarantine.html",
        request,
        model=model,
        partition=key,
        partitions=listed,
        refused=key in state.refused,
        personal=details.personal,
        sample=sample,
        missing=missing,
        ledger=database,
    )


def partitions_with_bad_rows(state: LoopState) -> list[str]:
    """Return the partitions, newest first, whose publication or newest refusal may have put rows into quarantine."""
    published = dict(state.published.newest_first(limit=LISTED))
    refused = dict(state.refused.newest_first(limit=LISTED))
    return sorted({*(key for key, details in published.items() if details.quarantined), *refused}, reverse=True)
