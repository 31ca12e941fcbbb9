"""The pages of models in the Airflow UI: all of them, one of them, its records and columns, and the actions on it.

Everything comes from the ledger, its evidence and Airflow's own database; Delta tables are not touched. Whoever may
read the watch Dag of a model sees it, and whoever may start its Dags may act on it: an action starts a run of a Dag of
the loop in the name of the person, which does what the command line does, where the loop's stores are.

This module does not postpone annotations: FastAPI would read a guard in text form as a parameter of the address.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import parse_qs, quote
from uuid import UUID

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.sdk import timezone
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from sqlalchemy import make_url

from airflow_mlops.core.errors import DataError, LedgerError, NotReadyError
from airflow_mlops.core.ledger.evidence_files import EvidenceFiles
from airflow_mlops.core.ledger.sql_ledger import SqlLedger, open_ledgers
from airflow_mlops.core.open_workspace import Stores
from airflow_mlops.core.overview.model_summary import STATES, ModelSummary, summarise_model, urgency
from airflow_mlops.ui.actions import ACTIONS, LONGEST, SHOWN, Action, invalid_field, run_input, stale_form
from airflow_mlops.ui.airflow_facts import LoopFacts, given_answer, loop_facts, model_of, run_state, run_under_way
from airflow_mlops.ui.approval_view import OPTIONS
from airflow_mlops.ui.column_view import column_view
from airflow_mlops.ui.guards import (
    MODEL,
    may_answer,
    may_run,
    require_control_access,
    require_run_access,
    require_same_origin,
    require_watch_access,
)
from airflow_mlops.ui.model_view import list_row, model_view, record_page
from airflow_mlops.ui.page_templates import render, stylesheet
from airflow_mlops.ui.plugin import PREFIX
from airflow_mlops.ui.replay_view import replay_view

Model = Annotated[str, Path(pattern=MODEL)]
Named = Annotated[str, Query(max_length=200)]
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'self'"
)
"""Content security policy of the pages: no scripts at all, and forms to themselves alone."""
SUMMARIES: dict[tuple[str, str], tuple[str, ModelSummary]] = {}
"""The newest summary of each model by database and model, and the hash of the record that it was made as of."""

router = APIRouter()


def page(template: str, request: Request, *, status: int = 200, **values: Any) -> Response:
    """Return a page made from a template, with the values that every page has."""
    root = root_of(request)
    read_at = f"{timezone.utcnow():%Y-%m-%d %H:%M:%S}"
    airflow = root.removesuffix(PREFIX)
    html = render(template, root=root, airflow=airflow, read_at=read_at, **values)
    headers = {"Content-Security-Policy": PAGE_POLICY}
    return Response(html, status, media_type="text/html; charset=utf-8", headers=headers)


def root_of(request: Request) -> str:
    """Return the path below which the pages are, as the browser sees it."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def error_page(request: Request, status: int, message: str) -> Response:
    """Return a page about an error, with what to do."""
    titles = {404: "There is no such page", 403: "Not allowed", 503: "The models cannot be read now"}
    remedy = "airflow-mlops doctor says what is wrong and what mends it." if status == 503 else ""
    title = titles.get(status, "This cannot be done")
    return page("error.html", request, status=status, title=title, message=message, remedy=remedy)


@contextmanager
def opened_stores() -> Iterator[tuple[Stores, str, dict[str, SqlLedger]]]:
    """Yield the stores of all loops, the name of the ledger for people, and the ledgers by model.

    Raises
    ------
    MlopsError
        If there is no ledger, or it cannot be read.
    """
    from airflow_mlops.hooks.workspace import WorkspaceHook

    hook = WorkspaceHook()
    address = hook.existing_ledger()
    stores = hook.stores()
    with open_ledgers(stores.ledger_url) as ledgers:
        yield stores, ledger_name(address), ledgers


def ledger_name(address: str) -> str:
    """Return the kind and the name of the database of an address, without its paths, names and passwords.

    >>> ledger_name("sqlite:////data/mlops/ledger.db"), ledger_name("postgresql+psycopg://ann:***@db.example/mlops")
    ('ledger.db (sqlite)', 'mlops (postgresql)')
    """
    url = make_url(address)
    return f"{PurePath(url.database or 'unnamed').name} ({url.get_backend_name()})"


@router.get("/style.css")
def style(_user: GetUserDep) -> Response:
    """Answer with the style of all pages."""
    return Response(
        stylesheet(), media_type="text/css; charset=utf-8", headers={"Cache-Control": "private, max-age=300"}
    )


@router.get("/models")
def list_models(
    *,
    request: Request,
    user: GetUserDep,
    session: SessionDep,
    q: Named = "",
    owner: Named = "",
    tag: Named = "",
    state: Named = "",
) -> Response:
    """Answer with the list of the models whose watch Dag the user may read, filtered."""
    from airflow.api_fastapi.app import get_auth_manager

    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET", session=session)
    facts = loop_facts(session)
    rows, unreadable = [], []
    with opened_stores() as (stores, database, ledgers):
        for model in sorted({*ledgers, *facts}):
            if f"{model}_watch" not in readable:
                continue
            try:
                ledger = ledgers.get(model) or SqlLedger(stores.ledger_url, model)
                summary = summary_of(stores.ledger_url, ledger)
            except LedgerError as error:
                unreadable.append(f"{model}: {error}")
                continue
            rows.append(list_row(summary, facts.get(model, LoopFacts())))
    rows.sort(key=lambda row: urgency(row["state"], row["summary"].model))
    query = {"q": q.strip(), "owner": owner, "tag": tag, "state": state}
    owners = sorted({row["facts"].owner for row in rows if row["facts"].owner})
    tags = sorted({name for row in rows for name in row["facts"].tags})
    present = [name for name in STATES if any(row["state"] == name for row in rows)]
    return page(
        "models.html",
        request,
        rows=[row for row in rows if fits(row, query)],
        total=len(rows),
        counts=[(name, sum(row["state"] == name for row in rows)) for name in present],
        query={**query, "any": any(query.values())},
        choices=[("owner", "Owner", owners), ("tag", "Tag", tags), ("state", "State", present)],
        unreadable=unreadable,
        ledger=database,
    )


def fits(row: dict[str, Any], query: dict[str, str]) -> bool:
    """Return whether a line of the list fits the filter."""
    facts = row["facts"]
    return (
        query["q"].lower() in row["summary"].model
        and query["owner"] in ("", facts.owner)
        and (not query["tag"] or query["tag"] in facts.tags)
        and query["state"] in ("", row["state"])
    )


def summary_of(url: str, ledger: SqlLedger) -> ModelSummary:
    """Return the summary of a loop; it is made again only when the ledger has a new record."""
    head, key = ledger.head().hash, (url, ledger.model)
    known = SUMMARIES.get(key)
    if known is None or known[0] != head:
        known = SUMMARIES[key] = (head, summarise_model(ledger))
    return known[1]


@router.get("/models/{model}", dependencies=[Depends(require_watch_access)])
def one_model(
    *,
    model: Model,
    request: Request,
    user: GetUserDep,
    session: SessionDep,
    run: Named = "",
    dag: Named = "",
    question: UUID | None = None,
) -> Response:
    """Answer with the page of a model."""
    facts = loop_facts(session, [model]).get(model, LoopFacts())
    with opened_stores() as (stores, database, ledgers):
        ledger = ledger_of(ledgers, model, facts, stores.ledger_url)
        state, evidence = ledger.state(), EvidenceFiles(stores.lake / model / "evidence")
        values = model_view(ledger, state, evidence, facts, root_of(request))
        possible = [action for action in ACTIONS.values() if action.obstacle(state) is None]
    runnable = {end: may_run(f"{model}_{end}", request, user) for end in {action.dag for action in possible}}
    actions = [action for action in possible if runnable[action.dag]]
    run_asked_for = None
    if run and model_of(dag) == model and (known := run_state(session, dag, run)) is not None:
        conf = known[2]
        action = conf.get("action", "retrain")
        run_asked_for = {"dag_id": dag, "run_id": run, "state": known[0], "by": known[1] or "nobody", "action": action}
    return page(
        "model.html",
        request,
        actions=actions,
        run_asked_for=run_asked_for,
        answer=None if question is None else given_answer(session, model, question),
        answerable={
            approval.question
            for approval in facts.approvals
            if approval.dag_id == f"{model}_rollout" and approval.options == OPTIONS
            if may_answer(model, approval.assigned, request, user)
        },
        may_see_rows=may_run(f"{model}_control", request, user),
        ledger=database,
        **values,
    )


def ledger_of(ledgers: dict[str, SqlLedger], model: str, facts: LoopFacts, url: str) -> SqlLedger:
    """Return the ledger of a model, an empty one where its Dags are known and have not run.

    Raises
    ------
    HTTPException
        404 if neither the ledger nor Airflow knows the model.
    """
    if model in ledgers:
        return ledgers[model]
    if facts.dags:
        return SqlLedger(url, model)
    raise HTTPException(404, f"no loop of a model {model!r} has run here, and no Dag of it is known")


@contextmanager
def opened_ledger(model: str, session: SessionDep) -> Iterator[tuple[SqlLedger, EvidenceFiles, str]]:
    """Yield the ledger of a model, its evidence, and the name of the ledger for people; see :func:`ledger_of`."""
    with opened_stores() as (stores, database, ledgers):
        facts = LoopFacts() if model in ledgers else loop_facts(session, [model]).get(model, LoopFacts())
        ledger = ledger_of(ledgers, model, facts, stores.ledger_url)
        yield ledger, EvidenceFiles(stores.lake / model / "evidence"), database


@router.get("/models/{model}/records", dependencies=[Depends(require_watch_access)])
def records(
    model: Model, request: Request, session: SessionDep, before: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    """Answer with a page of all records of a model, newest first."""
    with opened_ledger(model, session) as (ledger, _, database):
        shown, older = record_page(ledger, before)
    return page("records.html", request, model=model, records=shown, older=older, ledger=database)


@router.get("/models/{model}/histogram", dependencies=[Depends(require_watch_access)])
def histogram(model: Model, request: Request, session: SessionDep, partition: Named, column: Named) -> Response:
    """Answer with the histogram of a column in a partition, against its reference."""
    from airflow_mlops.core.declaration.partition_key import partition_key

    with opened_ledger(model, session) as (ledger, evidence, database):
        try:
            values = column_view(ledger.state(), evidence, partition_key(partition), column)
        except (DataError, NotReadyError) as error:
            raise HTTPException(404, str(error)) from None
    return page("histogram.html", request, model=model, ledger=database, **values)


@router.get("/models/{model}/replay", dependencies=[Depends(require_watch_access)])
def replay(
    model: Model, request: Request, session: SessionDep, record: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    """Answer with the table and the picture of a replay: of a record, or the newest one."""
    with opened_ledger(model, session) as (ledger, evidence, database):
        values = replay_view(ledger, evidence, record)
    if values is None:
        raise HTTPException(404, f"no replay of {model} was recorded{'' if record is None else f' as record {record}'}")
    return page("replay.html", request, model=model, ledger=database, **values)


@router.get("/dags/{dag_id}")
def model_of_dag(dag_id: str, request: Request, user: GetUserDep, session: SessionDep) -> Response:
    """Lead to the page of the model of a Dag; this is what Airflow opens from a Dag, a run or a task."""
    model = model_of(dag_id)
    if model is None or not loop_facts(session, [model]):
        return error_page(request, 404, f"the Dag {dag_id} is not one of a loop of airflow-mlops")
    require_watch_access(model, request, user)
    return Response(status_code=303, headers={"Location": f"{root_of(request)}/models/{quote(model)}"})


def action_named(name: str) -> Action:
    """Return an action by its name; raise HTTP 404 if there is none."""
    if name not in ACTIONS:
        raise HTTPException(404, f"there is no action {name!r}; {', '.join(ACTIONS)} can be done")
    return ACTIONS[name]


@router.get("/models/{model}/actions/{name}", dependencies=[Depends(require_control_access)])
def confirm_action(model: Model, name: str, request: Request, user: GetUserDep, session: SessionDep) -> Response:
    """Answer with the page that says what an action will do, and asks for it."""
    with opened_ledger(model, session) as (ledger, _, database):
        return confirmation(action_named(name), ledger, request, person=user.get_name(), database=database)


def confirmation(
    action: Action,
    ledger: SqlLedger,
    request: Request,
    *,
    person: str,
    database: str,
    refusal: str | None = None,
    answers: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """Return the page that says what an action will do; with a refusal, why it was not done, and what was answered."""
    state = ledger.state()
    obstacle = action.obstacle(state)
    return page(
        "action.html",
        request,
        status=409 if refusal or obstacle else 200,
        model=ledger.model,
        action=action,
        effect=obstacle or action.effect(state),
        fields=[] if obstacle else action.fields(state),
        shown={"name": SHOWN, "version": action.subject(state)},
        longest=LONGEST,
        answers=answers,
        possible=obstacle is None,
        refusal=refusal,
        person=person,
        ledger=database,
    )


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form that was sent, after the guards have let it in."""
    text = (await request.body()).decode("utf-8", errors="replace")
    return {name: values[0] for name, values in parse_qs(text, max_num_fields=20).items()}


@router.post(
    "/models/{model}/actions/{name}", dependencies=[Depends(require_same_origin), Depends(require_control_access)]
)
def act(
    *,
    model: Model,
    name: str,
    request: Request,
    user: GetUserDep,
    session: SessionDep,
    form: Annotated[dict[str, str], Depends(read_form)],
) -> Response:
    """Start the run that carries out an action, in the name of the user, and lead back to the page of the model."""
    action, person = action_named(name), user.get_name()
    dag_id = f"{model}_{action.dag}"
    require_run_access(dag_id, request, user)
    with opened_ledger(model, session) as (ledger, _, database):
        state = ledger.state()
        refusal = (
            action.obstacle(state)
            or stale_form(action, form, state)
            or invalid_field(action, form, state)
            or idle_dag(dag_id)
            or (run_in_the_way(session, dag_id, action) if action.alone else None)
        )
        if refusal:
            return confirmation(
                action, ledger, request, person=person, database=database, refusal=refusal, answers=form
            )
        run_id = start_run(dag_id, run_input(action, form, state), person)
    address = f"{root_of(request)}/models/{model}?dag={quote(dag_id)}&run={quote(run_id, safe='')}"
    return Response(status_code=303, headers={"Location": address})


def start_run(dag_id: str, conf: dict[str, str], person: str) -> str:
    """Start a Dag run in the name of a person, and return its id; raise HTTP 409 if Airflow has not read the Dag."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagNotFound
    from airflow.utils.types import DagRunTriggeredByType

    try:
        run = trigger_dag(dag_id, triggered_by=DagRunTriggeredByType.UI, triggering_user_name=person, conf=conf)
    except DagNotFound:
        raise HTTPException(409, f"Airflow has no version of the Dag {dag_id} that could run") from None
    return "" if run is None else str(run.run_id)


def run_in_the_way(session: SessionDep, dag_id: str, action: Action) -> str | None:
    """Return that a run of an action is under way, in words; None where there is none."""
    run = run_under_way(session, dag_id, action.name)
    return None if run is None else f"Run {run.run_id} of {dag_id} does it already; wait for its answer, or end it."


def idle_dag(dag_id: str) -> str | None:
    """Return why a run of a Dag would not start; None if it would."""
    from airflow.models.dag import DagModel

    known = DagModel.get_current(dag_id)
    if known is None:
        return f"Airflow knows no Dag {dag_id} yet; the dag-processor has not read the file."
    return f"The Dag {dag_id} is paused, so nothing would happen; unpause it first." if known.is_paused else None


def readable_error(request: Request, error: Exception) -> Response:
    """Return the page about an error of the stores."""
    return error_page(request, 503, str(error))


def http_error(request: Request, error: Exception) -> Response:
    """Return the page about a refused request; somebody who is not signed in gets no page at all."""
    assert isinstance(error, HTTPException)
    if error.status_code == 401:
        return Response("sign in to Airflow first", 401, headers=error.headers, media_type="text/plain")
    return error_page(request, error.status_code, str(error.detail))


def invalid_request(request: Request, _error: Exception) -> Response:
    """Return the page about an address that no page can have, such as a name that is no model's."""
    return error_page(request, 404, "no model and no record can be named so")
