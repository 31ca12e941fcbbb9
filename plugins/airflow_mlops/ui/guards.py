"""Guards of the pages: who is signed in, who may read a model, who may act on it, and from where a request comes.

This module does not postpone annotations: FastAPI would read a guard in text form as a parameter of the address.
"""

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import HTTPException, Path, Request

MODEL = r"^[a-z0-9][a-z0-9_-]{0,62}$"
LONGEST_BODY = 20_000
"""Bytes of the largest form that is read."""


def require_watch_access(model: Annotated[str, Path(pattern=MODEL)], request: Request, user: GetUserDep) -> None:
    """Raise HTTP 401 or 403 unless the user is signed in and may read the watch Dag of the model."""
    requires_access_dag(method="GET", param_dag_id=f"{model}_watch")(request, user)


def require_control_access(model: Annotated[str, Path(pattern=MODEL)], request: Request, user: GetUserDep) -> None:
    """Raise HTTP 401 or 403 unless the user is signed in and may start the control Dag of the model."""
    require_run_access(f"{model}_control", request, user)


def require_run_access(dag_id: str, request: Request, user: GetUserDep) -> None:
    """Raise HTTP 403 unless the user may start a Dag."""
    requires_access_dag(method="POST", access_entity=DagAccessEntity.RUN, param_dag_id=dag_id)(request, user)


def require_answer_access(model: Annotated[str, Path(pattern=MODEL)], request: Request, user: GetUserDep) -> None:
    """Raise HTTP 401 or 403 unless the user may read the model, and answer questions of its rollout Dag."""
    require_watch_access(model, request, user)
    guard = requires_access_dag(
        method="PUT", access_entity=DagAccessEntity.HITL_DETAIL, param_dag_id=f"{model}_rollout"
    )
    guard(request, user)


def may_answer(model: str, assigned: frozenset[str], request: Request, user: GetUserDep) -> bool:
    """Return whether the user may answer a question of a model's rollout Dag, as Airflow decides it."""
    from airflow.api_fastapi.app import get_auth_manager

    try:
        require_answer_access(model, request, user)
    except HTTPException:
        return False
    return not assigned or get_auth_manager().is_authorized_hitl_task(assigned_users=set(assigned), user=user)


def may_run(dag_id: str, request: Request, user: GetUserDep) -> bool:
    """Return whether the user may start a Dag."""
    try:
        require_run_access(dag_id, request, user)
    except HTTPException:
        return False
    return True


def require_same_origin(request: Request) -> None:
    """Raise HTTP 403 for a form that a page of another site has sent, and 413 for one that is too large.

    A browser sends the site of the page with every form, in ``Sec-Fetch-Site`` or ``Origin``; a request with neither
    comes from no browser, and then a token must be in its headers, which no other site can put there.
    """
    length = request.headers.get("content-length")
    if length is None or not length.isdigit() or int(length) > LONGEST_BODY:
        raise HTTPException(413, f"the form must state its length, at most {LONGEST_BODY} bytes")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:  # a browser says so itself, also where it keeps back the address of the page
        foreign = site not in ("same-origin", "none")
    elif origin is not None:
        foreign = urlsplit(origin).netloc != request.headers.get("host")
    else:
        foreign = "authorization" not in request.headers
    if foreign:
        raise HTTPException(403, "the form was not sent by a page of this Airflow")
