"""The page on which a person answers whether a version may be rolled out, or go on.

The question is the one of Airflow's human-in-the-loop task, and so is the answer: Airflow's own function takes it in,
and decides who may give it. The page adds what the ledger knows: which version is meant, whether it still waits, and
who had a hand in making it.

This module does not postpone annotations: FastAPI would read a guard in text form as a parameter of the address.
"""

import json
from typing import Annotated
from uuid import UUID

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response

from airflow_mlops.core.ledger.evidence_files import EvidenceFiles
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.ui.actions import LONGEST, SHOWN
from airflow_mlops.ui.airflow_facts import OpenApproval, loop_facts
from airflow_mlops.ui.approval_view import OPTIONS, REJECT, approval_view, refused_answer
from airflow_mlops.ui.guards import may_answer, require_answer_access, require_same_origin
from airflow_mlops.ui.model_pages import Model, idle_dag, opened_ledger, page, read_form, root_of

Question = Annotated[UUID, Path()]
router = APIRouter()


def approval_asked(session: SessionDep, model: str, question: UUID, request: Request, user: GetUserDep) -> OpenApproval:
    """Return an open question about a version of a model.

    Raises
    ------
    HTTPException
        404 if nobody is asked it any more, 403 if other people are.
    """
    facts = loop_facts(session, [model]).get(model)
    approvals = facts.approvals if facts else []
    for approval in approvals:
        if approval.question == question and approval.dag_id == f"{model}_rollout" and approval.options == OPTIONS:
            if not may_answer(model, approval.assigned, request, user):
                raise HTTPException(403, "other people are asked; Airflow names them on the page of the task")
            return approval
    raise HTTPException(404, "this question was answered, or is not asked any more; the page of the model has the rest")


@router.get("/models/{model}/approvals/{question}", dependencies=[Depends(require_answer_access)])
def ask_approval(model: Model, question: Question, request: Request, user: GetUserDep, session: SessionDep) -> Response:
    """Answer with the page that says what an approval and a rejection will do, and asks for one of them."""
    approval = approval_asked(session, model, question, request, user)
    with opened_ledger(model, session) as (ledger, evidence, database):
        return question_page(approval, ledger, evidence, request, user, database=database)


def question_page(
    approval: OpenApproval,
    ledger: SqlLedger,
    evidence: EvidenceFiles,
    request: Request,
    user: GetUserDep,
    *,
    database: str,
    refusal: str | None = None,
) -> Response:
    """Return the page of a question; with a refusal, why an answer was not taken."""
    names = (user.get_name(), str(user.get_id()))
    values = approval_view(approval, ledger, evidence, names)
    status = 409 if refusal or values["obstacle"] else 200
    return page(
        "approval.html",
        request,
        status=status,
        model=ledger.model,
        question=approval.question,
        shown=SHOWN,
        longest=LONGEST,
        person=names[0],
        refusal=refusal,
        ledger=database,
        **values,
    )


@router.post(
    "/models/{model}/approvals/{question}", dependencies=[Depends(require_same_origin), Depends(require_answer_access)]
)
def answer_approval(
    *,
    model: Model,
    question: Question,
    request: Request,
    user: GetUserDep,
    session: SessionDep,
    form: Annotated[dict[str, str], Depends(read_form)],
) -> Response:
    """Give the answer of the user to Airflow, whose task records it, and lead back to the page of the model."""
    approval = approval_asked(session, model, question, request, user)
    with opened_ledger(model, session) as (ledger, evidence, database):
        names = (user.get_name(), str(user.get_id()))
        refusal = refused_answer(approval, ledger, form, names) or idle_dag(approval.dag_id)
        if refusal:
            return question_page(approval, ledger, evidence, request, user, database=database, refusal=refusal)
    give_answer(approval, form, user, session)
    address = f"{root_of(request)}/models/{model}?question={question}"
    return Response(status_code=303, headers={"Location": address})


def give_answer(approval: OpenApproval, form: dict[str, str], user: GetUserDep, session: SessionDep) -> None:
    """Answer a question as Airflow's own page does, and write the line of its audit log.

    Raises
    ------
    HTTPException
        403 if the user may not answer it, 409 if somebody else just did.
    """
    from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
    from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
    from airflow.models.log import Log

    answer, reason = form["answer"], form.get("reason", "").strip() if form["answer"] == REJECT else ""
    update_hitl_detail(
        dag_id=approval.dag_id,
        dag_run_id=approval.run_id,
        task_id=approval.task_id,
        map_index=approval.map_index,
        update_hitl_detail_payload=UpdateHITLDetailPayload(chosen_options=[answer], params_input={"reason": reason}),
        user=user,
        session=session,
    )
    session.add(
        Log(
            event=update_hitl_detail.__name__,
            dag_id=approval.dag_id,
            run_id=approval.run_id,
            task_id=approval.task_id,
            map_index=approval.map_index,
            owner=user.get_name(),
            owner_display_name=user.get_name(),
            extra=json.dumps({"chosen_options": [answer], "params_input": {"reason": reason}}),
        )
    )
