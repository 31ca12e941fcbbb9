"""Every route of the gateway, with each token and without one, from here and from a page of another site.

The routes are those that the application answers: one that is added without a rule fails the first test.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import httpx
import pytest

from airflow_mlops.gateway import application
from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "promises.md"
OPEN, PREDICTS, EITHER, TELLS = "open", "the token for predictions", "either token", "the token for control"
RULES = {
    ("POST", "/predict"): PREDICTS,
    ("POST", "/invocations"): PREDICTS,
    ("POST", "/v2/models/{model}/infer"): PREDICTS,
    ("POST", "/v2/models/{model}/versions/{version}/infer"): PREDICTS,
    ("GET", "/v2/models/{model}"): PREDICTS,
    ("GET", "/v2/models/{model}/versions/{version}"): PREDICTS,
    ("GET", "/v2/models/{model}/ready"): OPEN,
    ("GET", "/v2/models/{model}/versions/{version}/ready"): OPEN,
    ("GET", "/health"): OPEN,
    ("GET", "/ready"): OPEN,
    ("GET", "/ping"): OPEN,
    ("GET", "/version"): OPEN,
    ("GET", "/v2"): OPEN,
    ("GET", "/v2/health/live"): OPEN,
    ("GET", "/v2/health/ready"): OPEN,
    ("GET", "/metrics"): EITHER,
    ("GET", "/openapi.json"): EITHER,
    ("GET", "/control/traffic"): TELLS,
    ("GET", "/control/telemetry"): TELLS,
    ("PUT", "/control/prepare"): TELLS,
    ("PUT", "/control/traffic"): TELLS,
    ("PUT", "/control/finalize"): TELLS,
}
"""Whose token a route asks for: probes of a platform have none, and learn nothing but that a champion is there."""
TOKENS = {
    "none": None,
    "empty": "",
    "wrong": "x" * len(PREDICT_TOKEN),
    "in part": TELL_TOKEN[:-1],
    "predictions": PREDICT_TOKEN,
    "control": TELL_TOKEN,
}
PASSES = {
    OPEN: set(TOKENS),
    PREDICTS: {"predictions"},
    EITHER: {"predictions", "control"},
    TELLS: {"control"},
}
SITES: tuple[dict[str, str], ...] = ({}, {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyProject]:
    made = ToyProject(tmp_path_factory.mktemp("walked"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def gateway(project: ToyProject) -> GatewayProcess:
    """A gateway that serves version 3."""
    served, _target = project.serve(3)
    return served


def ask(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """Return the answer to a request; one that writes has a body that says nothing."""
    address = path.replace("{model}", "toy").replace("{version}", "3")
    return client.request(method, address, headers=headers, json=None if method in ("GET", "HEAD") else {})


def test_every_route_has_a_rule_and_every_rule_a_route(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        described = client.get("/openapi.json").json()["paths"]
    routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert routes == {(method, path.replace("{model}", "toy")) for method, path in RULES}
    # A path that the code compares with, and the document does not have, would be a door that nobody knows of.
    source = re.sub(r"^ *>>>.*", "", inspect.getsource(application), flags=re.MULTILINE)
    compared = set(re.findall(r'"(/[^" ]*)"', source))
    assert compared - {path for _, path in RULES} == {"/control/", "/v2/models/", "/infer", "/"}


def test_every_route_asks_for_the_token_of_its_rule_and_tells_no_other_site(gateway: GatewayProcess) -> None:
    wrong, requests = [], 0
    with gateway.client(None) as client:
        before = client.get("/control/traffic", headers={"authorization": f"Bearer {TELL_TOKEN}"}).json()
        for (method, path), (name, token), site in product(RULES, TOKENS.items(), SITES):
            headers = {**site, **({} if token is None else {"authorization": f"Bearer {token}".strip()})}
            answer = ask(client, method, path, headers)
            requests += 1
            if name in PASSES[RULES[method, path]]:
                right = answer.status_code not in (401, 403) and answer.status_code < 500
            else:
                right = answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            if not right or any(header.startswith("access-control-") for header in answer.headers):
                wrong.append((method, path, name, site, answer.status_code))
        assert wrong == []
        after = client.get("/control/traffic", headers={"authorization": f"Bearer {TELL_TOKEN}"}).json()
    assert after["traffic"] == before["traffic"]
    assert f"{len(RULES)} routes of the gateway, {requests} requests" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted({path for _, path in RULES}))
def test_a_page_of_another_site_is_never_told_that_it_may_ask(gateway: GatewayProcess, path: str) -> None:
    headers = {
        "origin": "https://elsewhere.example",
        "access-control-request-method": "PUT",
        "access-control-request-headers": "authorization",
    }
    with gateway.client(None) as client:
        answer = ask(client, "OPTIONS", path, headers)
    assert answer.status_code in (401, 405)
    assert not any(header.startswith("access-control-") for header in answer.headers)


def test_nobody_learns_from_an_open_route_more_than_that_a_champion_is_there(gateway: GatewayProcess) -> None:
    with gateway.client(None) as client:
        answers = "".join(
            client.get(path.format(model="toy", version="3")).text for (_, path), who in RULES.items() if who == OPEN
        )
    for word in ("price", "kind", PREDICT_TOKEN, TELL_TOKEN, "lake"):
        assert word not in answers
