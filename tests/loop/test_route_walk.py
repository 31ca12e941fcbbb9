"""Every route that the plugin opens in Airflow, for everybody, from here and from another site, by a rule for each.

The routes are those of the application itself: one that is added without a rule fails the first test.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from airflow_mlops.testing.metadata import forget_everything
from airflow_mlops.testing.scheduler import InProcessScheduler
from tests.loop.airflow_pages import COOKIE, PREFIX, airflow_client, jwt_of, plugin_routes, token
from tests.loop.project import KEYS, Project, make_project

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "promises.md"
SIGNED_IN, READS, ACTS = "who is signed in", "who may read the model", "who may act on the model"
RULES = {
    ("GET", "/style.css"): SIGNED_IN,
    ("GET", "/models"): SIGNED_IN,  # it lists what the person may read, which may be nothing
    ("GET", "/models/{model}"): READS,
    ("GET", "/models/{model}/records"): READS,
    ("GET", "/models/{model}/histogram"): READS,
    ("GET", "/models/{model}/replay"): READS,
    ("GET", "/models/{model}/quarantine"): ACTS,
    ("GET", "/models/{model}/actions/{name}"): ACTS,
    ("POST", "/models/{model}/actions/{name}"): ACTS,
    ("GET", "/models/{model}/approvals/{question}"): ACTS,
    ("POST", "/models/{model}/approvals/{question}"): ACTS,
    ("GET", "/reports/{model}/{partition}"): READS,
    ("GET", "/reports/{model}/{partition}/evidently"): READS,
    ("GET", "/dags/{dag_id}"): READS,
}
"""Who passes the guard of a route."""
PEOPLE = {"nobody": None, "without a role": "", "viewer": "VIEWER", "editor": "USER", "administrator": "ADMIN"}
PASSES = {
    SIGNED_IN: {"without a role", "viewer", "editor", "administrator"},
    READS: {"viewer", "editor", "administrator"},
    ACTS: {"editor", "administrator"},
}
HERE, ELSEWHERE = "http://testserver", "https://elsewhere.example"
REFUSED = (401, 403)


@pytest.fixture(scope="module")
def project(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A loop with a published partition, whose Dags Airflow knows."""
    made = make_project(tmp_path_factory.mktemp("walked"))
    made.put(KEYS[0])
    made.publish(KEYS[0])
    forget_everything()
    with InProcessScheduler(made.dags):
        yield made
    forget_everything()


@pytest.fixture(scope="module")
def airflow(project: Project) -> Iterator[Any]:
    """A client of Airflow's own application, which follows no answer elsewhere."""
    with airflow_client() as client:
        client.follow_redirects = False
        yield client


def routes(client: Any) -> set[tuple[str, str]]:
    """Return method and path of every route that the application of the plugin has."""
    return {(method, route.path) for route in plugin_routes(client) for method in route.methods}


def address(project: Project, path: str) -> str:
    """Return the address of a route about the loop; what it would need besides is not there."""
    values = {
        "{model}": project.model,
        "{partition}": KEYS[0],
        "{dag_id}": project.dag("watch"),
        "{name}": "abort",
        "{question}": str(UUID(int=0)),
    }
    for name, value in values.items():
        path = path.replace(name, value)
    return PREFIX + path


def headers_of(person: str, origin: str, *, by_cookie: bool) -> dict[str, str]:
    """Return the headers of a request that a page of a site sends for a person."""
    role = PEOPLE[person]
    headers = {"Origin": origin, "Content-Length": "0"}
    if role is None:
        return headers
    if by_cookie:
        return {**headers, "Cookie": f"{COOKIE}={jwt_of(role or None)}"}
    return {**headers, **token(role or None)}


def test_every_route_has_a_rule_and_every_rule_a_route(airflow: Any) -> None:
    assert routes(airflow) == set(RULES)


def test_every_route_refuses_whom_it_should_and_nobody_else(airflow: Any, project: Project) -> None:
    before, wrong, requests = len(project.records), [], 0
    for (method, path), person, origin, by_cookie in product(RULES, PEOPLE, (HERE, ELSEWHERE), (False, True)):
        if person == "nobody" and by_cookie:
            continue
        headers = headers_of(person, origin, by_cookie=by_cookie)
        answer = airflow.request(method, address(project, path), headers=headers)
        requests += 1
        foreign = method != "GET" and origin == ELSEWHERE
        if person == "nobody":
            right = answer.status_code in (REFUSED if foreign else (401,))
        elif foreign or person not in PASSES[RULES[method, path]]:
            right = answer.status_code == 403
        else:
            right = answer.status_code not in REFUSED and answer.status_code < 500
        # No other site may read an answer, whoever is signed in there.
        right = right and "access-control-allow-origin" not in answer.headers
        if not right:
            wrong.append((method, path, person, origin, by_cookie, answer.status_code))
    assert wrong == []
    assert len(project.records) == before
    assert f"{len(RULES)} routes of the plugin, {requests} requests" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"])
def test_no_route_takes_a_method_that_it_does_not_have(airflow: Any, project: Project, method: str) -> None:
    for path in sorted({path for _, path in RULES}):
        answer = airflow.request(
            method, address(project, path), headers=headers_of("administrator", HERE, by_cookie=False)
        )
        assert answer.status_code == 405, path
